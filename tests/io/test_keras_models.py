"""Every golden model loads and gives the numbers of the framework that wrote it."""

import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import numbalstm as nl

GOLDEN = Path(__file__).parents[1] / "golden" / "models"
TRAINED = ["digits_keras3.keras", "digits_keras3.h5", "co2_keras3.keras", "words_keras3.keras", "digits_keras2.h5"]
SMALL = [
    f"{generation}/{name}"
    for generation in ("keras3", "keras2")
    for name in sorted(zipfile.ZipFile(GOLDEN / f"{generation}.zip").namelist())
    if "refused" not in name and not name.endswith(".npz")
]
MODELS = [name for name in SMALL if ".weights." not in name and ".topological." not in name]
# The two half types round after every layer; one unit in the last place of outputs below 2.
TOLERANCES = {"float64": 1e-10, "mixed_float16": 1e-3, "bfloat16": 8e-3}


def check(model, expected, tolerance):
    with np.load(expected) as arrays:
        inputs = [arrays[f"x{i}"] for i in range(len(arrays)) if f"x{i}" in arrays]
        wanted = [arrays[f"y{i}"] for i in range(len(arrays)) if f"y{i}" in arrays]
    outputs = model(inputs if len(inputs) > 1 else inputs[0])
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    assert len(outputs) == len(wanted)
    for output, values in zip(outputs, wanted, strict=True):
        assert output.dtype == values.dtype
        assert output.shape == values.shape
        np.testing.assert_allclose(output.astype("f8"), values.astype("f8"), rtol=0, atol=tolerance)


def expected_of(path):
    return path.parent / f"{path.name.partition('.')[0]}.expected.npz"


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models(name):
    check(nl.load_model(GOLDEN / name), expected_of(GOLDEN / name), 1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_small_models(golden, name):
    model = nl.load_model(str(golden / name))
    check(model, expected_of(golden / name), TOLERANCES.get(name.split("/")[1].split(".")[0], 1e-5))


@pytest.mark.parametrize("name", [name for name in SMALL if "float" not in name])
def test_weights_of_every_layout_fit_the_model(golden, name):
    """Whole models, Keras 3's and Keras 2's weight files: the weights replace others, in the right order."""
    source = golden / name
    stem = source.name.partition(".")[0]
    model = nl.load_model(source.parent / f"{stem}.h5")
    model.set_weights([np.full_like(weight, 7.0) for weight in model.get_weights()])
    nl.load_weights(model, source)
    check(model, expected_of(source), 1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith(".keras") and "float" not in name])
def test_weights_alone(golden, name, tmp_path):
    """The layout of .weights.h5 is that of the weights in a .keras file."""
    path = tmp_path / "alone.weights.h5"
    with zipfile.ZipFile(golden / name) as archive:
        path.write_bytes(archive.read("model.weights.h5"))
    model = nl.load_model(golden / name)
    wanted = model.get_weights()
    model.set_weights([np.zeros_like(weight) for weight in wanted])
    nl.load_weights(model, path)
    for found, value in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_array_equal(found, value)


def test_weights_fit_a_model_made_by_hand():
    layers = [nl.LSTM(64, name="memory"), nl.Dense(10, activation="softmax", name="answer")]
    model = nl.Sequential([nl.Input((8, 8)), *layers])
    nl.load_weights(model, GOLDEN / "digits_keras3_weights.weights.h5")
    check(model, GOLDEN / "digits_keras3_weights.expected.npz", 1e-5)


def test_names_of_early_files(golden, tmp_path):
    """TensorFlow 2.12 wrote `_layer_checkpoint_dependencies` for `layers`."""
    path = tmp_path / "early.weights.h5"
    shutil.copy(golden / "keras2/frozen.weights.h5", path)
    with h5py.File(path, "a") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    model = nl.load_model(golden / "keras2/frozen.h5")
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    nl.load_weights(model, path)
    check(model, golden / "keras2/frozen.expected.npz", 1e-5)


def test_hard_sigmoid_is_that_of_the_generation(golden):
    """The same name stands for two functions; Keras 2's is told by the file's version alone."""
    for generation, slope in (("keras3", 1 / 6), ("keras2", 0.2)):
        layer = nl.load_model(golden / generation / "hard_sigmoid.h5").layers[-1]
        assert float(layer.recurrent_activation(np.float64(1.0))) == pytest.approx(0.5 + slope)


def test_generation_of_models_and_other_layers(golden, tmp_path):
    """Masks follow the generation's rules; Dense has no generation, so the name of its function is told apart."""
    assert nl.load_model(golden / "keras3/assorted.h5").generation == "keras3"
    assert nl.load_model(golden / "keras2/assorted.h5").generation == "keras2"
    path = tmp_path / "dense.h5"
    shutil.copy(golden / "keras2/wrappers.h5", path)
    with h5py.File(path, "a") as file:
        text = file.attrs["model_config"]
        assert text.count('"relu"') == 1
        file.attrs["model_config"] = text.replace('"relu"', '"hard_sigmoid"')
    dense = nl.load_model(path).layers[1].layer
    assert float(dense.activation(np.float64(1.0))) == pytest.approx(0.7)


def test_layer_in_two_places_is_stored_once(tmp_path, rng):
    """At the first of its places, as in Keras."""
    shared = nl.Dense(3, name="shared")
    inner = nl.Sequential([nl.Input((3,)), shared])
    x = nl.Input((3,))
    model = nl.Model(x, shared(inner(x)))
    kernel, bias = rng.normal(size=(3, 3)).astype("f4"), rng.normal(size=3).astype("f4")
    path = tmp_path / "shared.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/sequential/layers/dense/vars/0"] = kernel
        file["layers/sequential/layers/dense/vars/1"] = bias
    nl.load_weights(model, path)
    np.testing.assert_array_equal(shared.get_weights()[0], kernel)
    np.testing.assert_array_equal(shared.get_weights()[1], bias)


def test_names_and_options_are_kept(golden):
    layer = nl.load_model(golden / "keras3/options.keras").layers[-1]
    config = layer.get_config()
    assert all(config[key] for key in ("go_backwards", "stateful", "unroll", "zero_output_for_mask"))
    assert config["kernel_regularizer"]["config"] == {"l1": pytest.approx(0.01), "l2": pytest.approx(0.02)}
    assert (config["dropout"], config["recurrent_dropout"], config["seed"]) == (0.1, 0.2, 11)
    assert nl.load_model(golden / "keras3/seq2seq.keras").get_layer("decoder").units == 4


def test_frozen_layers_stay_frozen(golden):
    model = nl.load_model(golden / "keras3/frozen.keras")
    assert [layer.trainable for layer in model.layers] == [False, False, True]


def test_time_major(tmp_path, golden):
    """Keras 2 writes time_major into the config."""
    path = tmp_path / "time_major.h5"
    shutil.copy(golden / "keras2/hard_sigmoid.h5", path)
    with h5py.File(path, "a") as file:
        text = file.attrs["model_config"]
        file.attrs["model_config"] = text.replace('"time_major": false', '"time_major": true').replace(
            "[null, 6, 3]", "[6, null, 3]"
        )
    with np.load(golden / "keras2/hard_sigmoid.expected.npz") as arrays:
        found = nl.load_model(path)(arrays["x0"].swapaxes(0, 1))
        np.testing.assert_allclose(found, arrays["y0"], rtol=0, atol=1e-5)


def test_not_a_number_is_loaded(golden, tmp_path):
    path = tmp_path / "nan.h5"
    shutil.copy(golden / "keras2/hard_sigmoid.h5", path)
    with h5py.File(path, "a") as file:
        names = []
        file["model_weights"].visit(names.append)
        bias = next(name for name in names if "bias" in name)
        file["model_weights"][bias][3] = np.nan
        file["model_weights"][bias][4] = -np.inf
    bias = nl.load_model(path).get_weights()[-1]
    assert np.isnan(bias[3])
    assert bias[4] == -np.inf


def test_byte_order_and_type_of_the_stored_numbers(golden, tmp_path):
    path = tmp_path / "big.weights.h5"
    model = nl.load_model(golden / "keras3/hard_sigmoid.keras")
    wanted = model.get_weights()
    with h5py.File(path, "w") as file:
        for index, (value, dtype) in enumerate(zip(wanted, (">f4", "<f8", ">f2"), strict=True)):
            file[f"layers/lstm/cell/vars/{index}"] = value.astype(dtype)
    model.set_weights([np.zeros_like(value) for value in wanted])
    nl.load_weights(model, path)
    for found, value in zip(model.get_weights(), wanted, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, value, rtol=1e-3)


def test_no_h5py_is_needed(golden, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert nl.load_model(golden / "keras3/nested.h5").built
