"""Forged archives, absurd sizes, and damaged files of every kind: one exception type, little memory, no crash."""

import io
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

import numbalstm as nl
from numbalstm import ModelFileError
from numbalstm.io.keras_zip import KerasArchive

HUGE = 10**12


def peak_of_refusal(path, words):
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=words):
            nl.load_model(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# ---- Absurd sizes in the config -----------------------------------------------------------------------------------


def set_in_layer(index, **values):
    return lambda config: config["config"]["layers"][index]["config"].update(values)


@pytest.mark.parametrize(
    ("source", "edit"),
    [
        ("keras3/hard_sigmoid.keras", set_in_layer(1, units=HUGE)),
        ("keras3/hard_sigmoid.keras", set_in_layer(1, units=100_000)),
        ("keras3/hard_sigmoid.keras", set_in_layer(0, batch_shape=[None, 6, HUGE])),
        ("keras3/hard_sigmoid.keras", set_in_layer(0, batch_shape=[None, 6, 4])),
        ("keras3/options.keras", set_in_layer(0, batch_shape=[10**9, 6, 3])),
        ("keras3/embedding.keras", set_in_layer(1, input_dim=HUGE)),
        ("keras3/embedding.keras", set_in_layer(1, output_dim=HUGE)),
        ("keras3/assorted.keras", set_in_layer(-3, units=HUGE)),
        ("keras3/wrappers.keras", lambda c: c["config"]["layers"][3]["config"]["layer"]["config"].update(units=HUGE)),
        ("keras3/cells.keras", lambda c: c["config"]["layers"][3]["config"]["cell"]["config"].update(units=HUGE)),
    ],
)
def test_sizes_are_compared_with_the_weights_first(forged, source, edit):
    def edited(config):
        edit(config)
        for layer in config["config"]["layers"]:
            layer.pop("build_config", None)

    assert peak_of_refusal(forged(edited, source), "forged.keras") < 5_000_000


def test_absurd_build_shape(forged):
    def edit(config):
        config["config"]["layers"][1]["build_config"] = {"input_shape": [None, 6, HUGE]}

    assert peak_of_refusal(forged(edit), "needs|cannot be built") < 5_000_000


def test_repeated_layers_need_their_own_weights(forged):
    def edit(config):
        layers = config["config"]["layers"]
        for index in range(200):
            again = {**layers[1], "config": {**layers[1]["config"], "name": f"again_{index}", "return_sequences": True}}
            layers.insert(1, again)

    peak_of_refusal(forged(edit), r"cell/vars/0: (is missing|has shape)")


def test_one_array_for_many_weights(tmp_path):
    """Hard links let a small file declare many large weights."""
    path = tmp_path / "linked.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones((200, 200), "f4")
        for index in range(1, 20):
            file[f"layers/dense_{index}/vars/0"] = file["layers/dense/vars/0"]
    model = nl.Sequential([nl.Input((200,)), *[nl.Dense(200, use_bias=False) for _ in range(20)]])
    with pytest.raises(ModelFileError, match=r"declares 3200000 bytes of weights in a file of \d{6}\."):
        nl.load_weights(model, path)


# ---- Archives ------------------------------------------------------------------------------------------------------


def test_bomb_of_zeros(forged):
    path = forged(compression=zipfile.ZIP_DEFLATED, model__weights__h5=bytes(300_000_000))
    path_size = path.stat().st_size
    assert path_size < 400_000
    assert (
        peak_of_refusal(path, r"model\.weights\.h5: declares 300000000 bytes in \d+ stored ones; more than 200 to 1")
        < 5e6
    )


def test_compressed_archive_is_read(forged, golden):
    model = nl.load_model(forged(compression=zipfile.ZIP_DEFLATED))
    for found, wanted in zip(
        model.get_weights(), nl.load_model(golden / "keras3/hard_sigmoid.keras").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_config_too_large(forged):
    words = r"config\.json: declares 17825792 bytes, more than the 16777216 allowed"
    peak_of_refusal(forged(config__json=b" " * (17 << 20)), words)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression(forged, method):
    peak_of_refusal(forged(compression=method), f"is packed by zip method {method}")


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_missing_member(forged, name):
    peak_of_refusal(forged(**{name.replace(".", "__"): None}), f"has no member '{name}'; it holds ")


def test_sharded_weights(forged):
    path = forged(model__weights__h5=None, model__weights__json=b"{}")
    peak_of_refusal(path, "its weights are split into shards, which are not read")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["config.json", "assets/x.txt"])
def test_duplicate_members(forged, name):
    path = forged()
    with zipfile.ZipFile(path, "a") as archive:
        for _ in range(2):
            archive.writestr(name, b"{}")
    peak_of_refusal(path, f"has two members named '{name}'")


def test_other_members_are_left_alone(forged, tmp_path):
    path = forged()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../escaped.txt", b"no")
        archive.writestr("assets/run.py", b"raise SystemExit")
    assert nl.load_model(path).built
    assert sorted(item.name for item in tmp_path.iterdir()) == ["forged.keras"]


def patched(path, name, offset_local, offset_central, value):
    """Overwrite a field in both headers of a member."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        local = archive.getinfo(name).header_offset
    central = data.rfind(b"PK\x01\x02", 0, data.rfind(name.encode()))
    data[local + offset_local : local + offset_local + len(value)] = value
    data[central + offset_central : central + offset_central + len(value)] = value
    path.write_bytes(data)
    return path


def test_encrypted_member(forged):
    peak_of_refusal(patched(forged(), "config.json", 6, 8, struct.pack("<H", 1)), r"config\.json: is encrypted")


def test_checksum(forged):
    words = r"model\.weights\.h5: is corrupt: Bad CRC-32"
    peak_of_refusal(patched(forged(), "model.weights.h5", 14, 16, b"abcd"), words)


def test_declared_size_is_not_believed(forged):
    """A member that claims to be small but inflates further is cut off, then fails its checksum."""
    path = forged(compression=zipfile.ZIP_DEFLATED, metadata__json=b" " * 50_000)
    peak_of_refusal(patched(path, "metadata.json", 22, 24, struct.pack("<I", 100)), r"metadata\.json: is corrupt")


def test_archive_is_closed(forged, golden):
    with KerasArchive(golden / "keras3/frozen.keras") as archive:
        assert "config.json" in archive
        assert "none" not in archive
    with pytest.raises(ModelFileError, match="is corrupt"):
        archive.read("config.json")


# ---- Damage ----------------------------------------------------------------------------------------------------------

DAMAGED = ["keras3/hard_sigmoid.keras", "keras3/hard_sigmoid.h5", "keras2/frozen.h5", "keras3/frozen.weights.h5"]


def survives(path, model):
    """Return whether a damaged file loads; every exception but the one is a failure of the test."""
    message = None
    try:
        if model is None:
            nl.load_model(path)
        else:
            nl.load_weights(model, path)
    except ModelFileError as error:
        message = str(error)
    assert message is None or message.startswith(str(path))
    return message is None


def fitting(golden, name):
    return nl.load_model(golden / "keras3/frozen.keras") if ".weights." in name else None


@pytest.mark.parametrize("name", DAMAGED)
def test_truncated_everywhere(golden, tmp_path, name):
    data, model = (golden / name).read_bytes(), fitting(golden, name)
    path = tmp_path / "cut.bin"
    for length in np.linspace(0, len(data) - 1, 250).astype(int):
        path.write_bytes(data[:length])
        assert not survives(path, model), length


@pytest.mark.parametrize("name", DAMAGED)
def test_flipped_bytes(golden, tmp_path, name, rng):
    data, model = (golden / name).read_bytes(), fitting(golden, name)
    path = tmp_path / "flipped.bin"
    used = np.flatnonzero(np.frombuffer(data, np.uint8))  # much of an HDF5 file is padding
    refused = 0
    tracemalloc.start()
    for _ in range(400):
        changed = bytearray(data)
        for place in rng.choice(used, size=rng.choice([1, 1, 2, 5])):
            changed[place] = rng.choice([0, 0xFF, changed[place] ^ (1 << rng.integers(8)), rng.integers(256)])
        path.write_bytes(changed)
        refused += not survives(path, model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 40
    assert peak < 50_000_000


def test_flipped_bytes_under_a_right_checksum(golden, forged, rng):
    """Whoever forges the weights of an archive writes its checksums too."""
    with zipfile.ZipFile(golden / "keras3/nested.keras") as archive:
        data = archive.read("model.weights.h5")
    used = np.flatnonzero(np.frombuffer(data, np.uint8))
    refused = 0
    for _ in range(200):
        changed = bytearray(data)
        for place in rng.choice(used, size=4):
            changed[place] = rng.integers(256)
        refused += not survives(forged(source="keras3/nested.keras", model__weights__h5=bytes(changed)), None)
    assert refused > 20


def test_forged_configs(golden, forged, rng):
    """Single values of the description replaced by values of other kinds."""
    odd = [None, True, -1, 0, 10**30, 1e308, "", "x" * 1000, [], [None], {}, {"class_name": "LSTM"}, [[[]]]]

    def places(value):
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            yield value, key
            yield from places(item)

    for source in ("keras3/wrappers.keras", "keras3/seq2seq.keras", "keras2/seq2seq.keras", "keras3/cells.keras"):
        for _ in range(120):

            def edit(config):
                found = list(places(config))
                holder, key = found[rng.integers(len(found))]
                holder[key] = odd[rng.integers(len(odd))]

            survives(forged(edit, source), None)
