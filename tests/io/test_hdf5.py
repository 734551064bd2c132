"""The HDF5 reader gives what h5py gives for the files Keras writes, and refuses what Keras does not write."""

import io
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from numbalstm.io import hdf5, hdf5_format
from numbalstm.io.errors import ModelFileError
from numbalstm.io.hdf5 import Hdf5File


def written(write, **options):
    """Return the bytes of a file that h5py writes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        write(file)
    return buffer.getvalue()


def read(data, path):
    with Hdf5File(data, "here") as file:
        return file.dataset(path).read()


def all_datasets(group, prefix=""):
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            yield from all_datasets(item, f"{prefix}{name}/")
        else:
            yield prefix + name


@pytest.mark.parametrize("generation", ["keras3", "keras2"])
def test_golden_files_read_as_h5py_reads_them(golden, generation):
    counted = 0
    for path in sorted((golden / generation).iterdir()):
        source = path
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                source = archive.read("model.weights.h5")
        elif path.suffix != ".h5":
            continue
        with (
            h5py.File(io.BytesIO(source) if isinstance(source, bytes) else source) as other,
            Hdf5File(source, "x") as file,
        ):
            wanted = list(all_datasets(other))
            found = [name for root in other if file.has(root) for name in file.dataset_paths(root)]
            floats = [name for name in wanted if not name.startswith("optimizer")]
            assert sorted(found) == sorted(wanted)
            for name in floats:
                values = other[name][()]
                if values.dtype.kind == "V":  # bfloat16: the upper half of a float32
                    values = (
                        (np.frombuffer(values.tobytes(), "<u2").astype("u4") << 16).view("f4").reshape(values.shape)
                    )
                np.testing.assert_array_equal(file.dataset(name).read(), values, strict=True)
                counted += 1
            for name in ("model_config", "keras_version"):
                assert file.text("", name) == other.attrs.get(name)
            group = "model_weights" if "model_weights" in other else ""
            names = other[group or "/"].attrs.get("layer_names")
            assert file.names(group, "layer_names") == (None if names is None else list(names))
    assert counted > 100


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
def test_versions_of_the_format(libver, rng):
    values = rng.normal(size=(3, 5)).astype("f4")

    def write(file):
        for index in range(6):
            file[f"a/b{index}/x"] = values + np.float32(index)
        file["a/b1/half"] = values.astype(">f2")
        file["a/b1/scalar"] = np.float64(2.5)
        file["a/none"] = np.zeros((0, 4), "f4")
        file["a"].attrs["long"] = "ü" * 3000
        file["a"].attrs["fixed"] = np.bytes_(b"abc")
        file["a"].attrs["list"] = np.array([b"one", b"three"])
        file["a"].attrs["texts"] = ["eins", "drei"]
        file["a"].attrs["empty"] = np.array([])

    with Hdf5File(written(write, libver=libver), "here") as file:
        for index in range(6):
            np.testing.assert_array_equal(file.dataset(f"a/b{index}/x").read(), values + np.float32(index))
        np.testing.assert_array_equal(file.dataset("a/b1/half").read(), values.astype("f2"), strict=True)
        assert file.dataset("a/b1/scalar").read() == 2.5
        assert file.dataset("a/none").read().shape == (0, 4)
        assert len(file.dataset_paths("a")) == 9
        assert (file.text("a", "long"), file.text("a", "fixed")) == ("ü" * 3000, "abc")
        assert file.names("a", "list") == ["one", "three"]
        assert file.names("a", "texts") == ["eins", "drei"]
        assert file.names("a", "empty") == []
        assert file.names("a", "absent") is None


def test_many_members():
    """Enough for a B-tree of several levels."""
    names = [f"layer_{index}" for index in range(3000)]
    data = written(lambda file: [file.create_group(f"all/{name}") for name in names])
    with Hdf5File(data, "here") as file:
        assert file.dataset_paths("all") == []
        assert sorted(file._links(file._address("all"))) == sorted(names)


def test_path_and_bytes_are_the_same(golden):
    path = golden / "keras2/frozen.h5"
    with Hdf5File(path, "a") as by_path, Hdf5File(path.read_bytes(), "a") as by_bytes:
        assert by_path.size == by_bytes.size
        assert by_path.dataset_paths("model_weights") == by_bytes.dataset_paths("model_weights")


# ---- Refused -------------------------------------------------------------------------------------------------------


def soft(file):
    file["real"] = np.ones(3, "f4")
    file["x"] = h5py.SoftLink("/real")


def external(file):
    file["x"] = h5py.ExternalLink("/etc/passwd", "/x")


def through(file):
    file["real/y"] = np.ones(3, "f4")
    file["x"] = h5py.SoftLink("/real")


def compressed(file):
    file.create_dataset("x", data=np.zeros((1000, 1000), "f4"), compression="gzip")


def chunked(file):
    file.create_dataset("x", data=np.zeros((10, 10), "f4"), chunks=(5, 5))


def unwritten(file):
    file.create_dataset("x", (1 << 40,), "f4")


def unwritten_chunks(file):
    file.create_dataset("x", (1 << 40,), "f4", chunks=(1024,))


def outside(file):
    file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "data", (4,))
    file.create_virtual_dataset("x", layout)


def texts(file):
    file["x"] = ["a", "b"]


def references(file):
    file["x"] = np.array([file.ref], dtype=h5py.ref_dtype)


def ragged(file):
    file.create_dataset("x", (2,), h5py.vlen_dtype("f4"))


def records(file):
    file["x"] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def integers(file):
    file["x"] = np.arange(3)


def booleans(file):
    file["x"] = np.array([True])


def complex_numbers(file):
    file["x"] = np.ones(3, "c8")


def long_doubles(file):
    file["x"] = np.ones(3, np.longdouble)


def named_type(file):
    file["type"] = np.dtype("f4")
    file.create_dataset("x", data=np.ones(3, "f4"), dtype=file["type"])


def empty(file):
    file["x"] = h5py.Empty("f4")


def group(file):
    file.create_group("x")


def type_alone(file):
    file["x"] = np.dtype("f4")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (soft, "x: is a soft or external link; only hard links are followed"),
        (external, "x: is a soft or external link; only hard links are followed"),
        (through, "x: is a soft or external link; only hard links are followed"),
        (compressed, "x: is a filtered .compressed. dataset"),
        (chunked, "x: has a chunked layout"),
        (unwritten, "x: declares shape .1099511627776,., 4398046511104 bytes, but the file holds 0"),
        (unwritten_chunks, "x: has a chunked layout"),
        (outside, "x: is a external dataset"),
        (virtual, "x: has a virtual layout"),
        (texts, "x: holds no floats"),
        (references, "x: holds no floats"),
        (ragged, "x: holds no floats"),
        (records, "x: holds no floats"),
        (integers, "x: holds no floats"),
        (booleans, "x: holds no floats"),
        (complex_numbers, "x: holds no floats"),
        (long_doubles, "x: holds no floats"),
        (named_type, "x: holds no floats"),
        (empty, "x: has no elements and no shape"),
        (group, "x: must be a dataset"),
        (type_alone, "x: must be a dataset"),
    ],
)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_refused(write, words, libver):
    data = written(write, libver=libver)
    path = "x/y" if write is through else "x"
    with pytest.raises(ModelFileError, match=f"^here: {words}"):
        read(data, path)


def test_refused_links_in_a_walk():
    with Hdf5File(written(lambda file: file.__setitem__("layers/x", h5py.SoftLink("/layers"))), "here") as file:
        with pytest.raises(ModelFileError, match="layers/x: is a soft or external link"):
            file.dataset_paths("layers")


def test_groups_that_run_in_a_circle():
    def write(file):
        inner = file.create_group("layers/a")
        inner["again"] = file["layers"]

    with Hdf5File(written(write), "here") as file, pytest.raises(ModelFileError, match="stands in two places"):
        file.dataset_paths("layers")


def looping_header(data):
    """Turn the messages of the root group into a continuation that leads to themselves."""
    root = struct.unpack_from("<Q", data, 64)[0]
    size = struct.unpack_from("<I", data, root + 8)[0]
    message = struct.pack("<HHBxxxQQ", 0x10, 16, 0, root + 16, size)
    return data[: root + 16] + message + data[root + 16 + len(message) :]


def looping_tree(data):
    """Make the B-tree of the root group its own inner node."""
    tree = data.find(b"TREE")
    node = bytearray(data)
    node[tree + 5] = 1
    node[tree + 32 : tree + 40] = struct.pack("<Q", tree)
    return bytes(node)


@pytest.mark.parametrize("forge", [looping_header, looping_tree])
def test_walks_that_run_in_a_circle(monkeypatch, forge):
    monkeypatch.setattr(hdf5_format, "MAX_STEPS", 20_000)
    data = forge(written(lambda file: file.create_group("layers")))
    with pytest.raises(ModelFileError, match="more than 20000 header messages and group entries"):
        with Hdf5File(data, "here") as file:
            file.dataset_paths("layers")


def test_deep_groups():
    path = "/".join("a" for _ in range(hdf5.MAX_DEPTH + 1))
    with Hdf5File(written(lambda file: file.create_group(path)), "here") as file:
        with pytest.raises(ModelFileError, match="deeper than 64 groups"):
            file.dataset_paths("a")


def test_dense_groups_and_attributes_are_refused():
    """The newest layout of large groups, which Keras never writes."""
    many = written(lambda file: [file.create_group(f"g/{index}") for index in range(20)], libver="latest")
    with Hdf5File(many, "here") as file, pytest.raises(ModelFileError, match=r"dense layout.*h5repack"):
        file.dataset_paths("g")
    attributes = written(lambda file: file.attrs.update({f"a{index}": "x" for index in range(20)}), libver="latest")
    with Hdf5File(attributes, "here") as file, pytest.raises(ModelFileError, match=r"dense layout.*h5repack"):
        file.text("", "a3")


@pytest.mark.parametrize("value", [3.0, np.ones(3), np.array([["a", "b"]], dtype=object)])
def test_attributes_that_are_no_text(value):
    def write(file):
        dtype = h5py.string_dtype() if isinstance(value, np.ndarray) and value.dtype == object else None
        file.attrs.create("a", value, dtype=dtype)

    with Hdf5File(written(write), "here") as file, pytest.raises(ModelFileError, match="attribute 'a' must hold text"):
        file.names("", "a")


def test_texts_that_are_no_utf8():
    with Hdf5File(written(lambda file: file.attrs.create("a", np.bytes_(b"\xff\xfe"))), "here") as file:
        with pytest.raises(ModelFileError, match="no UTF-8"):
            file.text("", "a")


def test_one_text_where_one_is_expected():
    with Hdf5File(written(lambda file: file.attrs.create("a", ["x", "y"])), "here") as file:
        with pytest.raises(ModelFileError, match="attribute 'a' must be one text, got 2"):
            file.text("", "a")


# ---- Bombs -----------------------------------------------------------------------------------------------------------


def peak_while(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_names_that_point_to_one_long_text():
    """4000 names of 16 bytes each in the file would become 4 GB of text."""
    data = bytearray(written(lambda file: file.attrs.create("a", ["x" * 1_000_000] + ["y"] * 3999)))
    first = data.find(struct.pack("<I", 1_000_000))
    pointer = bytes(data[first : first + 16])
    for index in range(4000):
        data[first + 16 * index : first + 16 * (index + 1)] = pointer

    def attempt():
        with Hdf5File(bytes(data), "here") as file:
            with pytest.raises(ModelFileError, match="holds more than 16777216 bytes of text"):
                file.names("", "a")

    assert peak_while(attempt) < 60_000_000


def test_text_longer_than_its_heap():
    data = bytearray(written(lambda file: file.attrs.create("a", "x" * 12_345)))
    place = data.find(struct.pack("<I", 12_345))
    data[place : place + 4] = struct.pack("<I", 0x7FFFFFFF)
    with Hdf5File(bytes(data), "here") as file, pytest.raises(ModelFileError, match="longer than what its heap holds"):
        file.text("", "a")


def test_heap_that_leads_nowhere():
    """An unused object of size 0: HDF5's own library never comes back from it."""
    data = bytearray(written(lambda file: file.attrs.create("a", "hello")))
    heap = data.find(b"GCOL")
    data[heap + 16 : heap + 32] = bytes(16)
    with Hdf5File(bytes(data), "here") as file, pytest.raises(ModelFileError, match="longer than what its heap holds"):
        file.text("", "a")


@pytest.mark.parametrize("shape", [(2**31, 2**31, 2**31), (0, 2**63), (3, 5)])
def test_declared_shape_against_the_data(shape):
    data = bytearray(written(lambda file: file.__setitem__("x", np.ones((7, 11, 13)[: len(shape)], "f4"))))
    old = struct.pack(f"<{len(shape)}Q", *(7, 11, 13)[: len(shape)])
    assert data.count(old) >= 1
    data = data.replace(old, struct.pack(f"<{len(shape)}Q", *shape))
    if shape == (3, 5):  # smaller than what is stored is no harm
        np.testing.assert_array_equal(read(bytes(data), "x"), np.ones((3, 5), "f4"))
        return
    with pytest.raises(ModelFileError, match=r"x: declares shape .* but the file holds"):
        read(bytes(data), "x")


def test_data_beyond_the_end():
    data = written(lambda file: file.__setitem__("x", np.ones(50_000, "f4")))
    with pytest.raises(ModelFileError, match=f"here: is truncated: {len(data)} bytes are {len(data) - 1} now"):
        read(data[:-1], "x")
    place = data.find(struct.pack("<Q", 200_000)) - 8  # address and size of the data
    moved = data[:place] + struct.pack("<Q", len(data) - 1000) + data[place + 8 :]
    with pytest.raises(ModelFileError, match=r"x: declares shape \(50000,\), 200000 bytes, but the file holds 1000"):
        read(moved, "x")
