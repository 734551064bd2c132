"""What the loader refuses: unsupported and custom layers by name, files that do not fit, and mistakes of the user."""

import json
import re
import shutil

import h5py
import numpy as np
import pytest

import numbalstm as nl
from numbalstm import ModelFileError
from numbalstm.io import keras_config

FORMS = ["keras3/{}.keras", "keras3/{}.h5", "keras2/{}.h5"]


@pytest.fixture
def no_building(monkeypatch):
    """Makes building anything an error."""

    def build(*args, **kwargs):
        raise AssertionError("a layer was made before the model was refused")

    monkeypatch.setattr("numbalstm.io.keras.deserialize", build)


@pytest.mark.parametrize("form", FORMS)
def test_refused_layers_are_all_named(golden, no_building, form):
    path = golden / form.format("refused_gru")
    with pytest.raises(ModelFileError) as caught:
        nl.load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "layer 1 'gru' of Sequential 'sequential_" in message
    assert "is a GRU, which numbalstm does not support" in message
    assert "layer 2 'conv1d'" in message
    assert "is a Conv1D" in message
    assert "Supported layers: Activation, Add," in message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("refused_lambda", "layer 1 'lambda' of .* is a Lambda, which holds Python code"),
        ("refused_custom", "layer 1 'doubling' of .* is the custom layer 'golden>Doubling'"),
        (
            "refused_activation",
            "activation of layer '.*lstm.*' of layer 1 'bidirectional.*' .* custom object .*doubled'",
        ),
    ],
)
def test_refused_code(golden, no_building, form, name, words):
    with pytest.raises(ModelFileError, match=words):
        nl.load_model(golden / form.format(name))


def test_places_in_nested_models(forged):
    def edit(config):
        inner = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Sequential")
        inner["config"]["layers"][1]["class_name"] = "ConvLSTM1D"

    with pytest.raises(ModelFileError, match=r"layer 1 'lstm_1' of Sequential 'inner', layer 1 'inner' of Functional"):
        nl.load_model(forged(edit, "keras3/nested.keras"))


@pytest.mark.parametrize("place", ["cell", "cells", "layer"])
def test_places_in_wrappers(forged, place):
    def edit(config):
        layers = config["config"]["layers"]
        if place == "layer":
            layers[2]["config"]["layer"]["class_name"] = "EinsumDense"
        elif place == "cell":
            layers[3]["config"]["cell"]["class_name"] = "GRUCell"
        else:
            layers[1]["config"]["cell"]["config"]["cells"][1]["class_name"] = "GRUCell"

    words = {
        "cell": r"cell 'lstm_cell_4' of layer 3 'rnn_2'",
        "cells": r"cell 1 'lstm_cell_1' of cell 'stacked_rnn_cells' of layer 1 'rnn'",
        "layer": r"layer '.*' of layer 2 'time_distributed'",
    }
    source = "keras3/wrappers.keras" if place == "layer" else "keras3/cells.keras"
    with pytest.raises(ModelFileError, match=words[place]):
        nl.load_model(forged(edit, source))


@pytest.mark.parametrize("module", ["os", "my.layers", "__main__", "kerasmalware"])
def test_modules_outside_of_keras(forged, module):
    def edit(config):
        config["config"]["layers"][1]["module"] = module

    with pytest.raises(ModelFileError, match="custom layer 'LSTM'"):
        nl.load_model(forged(edit))


@pytest.mark.parametrize("kind", ["kernel_initializer", "recurrent_regularizer", "bias_constraint"])
def test_custom_objects_in_a_layer(forged, kind):
    def edit(config):
        custom = {"module": "evil", "class_name": "Opener", "config": {}, "registered_name": "evil>Opener"}
        config["config"]["layers"][1]["config"][kind] = custom

    with pytest.raises(
        ModelFileError, match=f"{kind} of layer 1 'lstm_8' of Sequential .* custom object 'evil>Opener'"
    ):
        nl.load_model(forged(edit))


def test_subclassed_model(forged):
    def edit(config):
        config["class_name"] = "MyModel"

    with pytest.raises(
        ModelFileError, match=r"config\.json: describes a 'MyModel'; only Sequential, Functional, Model"
    ):
        nl.load_model(forged(edit))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("units", "five", "units must be an integer"),
        ("units", -5, "units must be at least 1"),
        ("activation", "tanhh", "Did you mean 'tanh'"),
        ("dropout", 3.0, r"dropout must be in \[0, 1\]"),
        ("surprise", 1, "surprise"),
        ("dtype", "complex64", "complex64"),
    ],
)
def test_bad_settings(forged, key, value, words):
    def edit(config):
        config["config"]["layers"][1]["config"][key] = value

    with pytest.raises(ModelFileError, match=rf"config\.json: cannot be built: .*{words}"):
        nl.load_model(forged(edit))


@pytest.mark.parametrize(
    "layers", [None, 3, {}, [3], [{}], [{"class_name": 3}], [{"class_name": "LSTM", "config": []}]]
)
def test_forged_structure(forged, layers):
    def edit(config):
        config["config"]["layers"] = layers

    with pytest.raises(ModelFileError, match=r"no list of layers|no layer description|no 'config' object"):
        nl.load_model(forged(edit))


# ---- JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no valid JSON"),
        (b"{", "no valid JSON"),
        (b"[1, 2]", "must be a JSON object, got a list"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' occurs twice"),
        (b'{"a": "\xff"}', "no valid JSON"),
        (b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}", "deeper than 100 levels"),
        (b"[" * 1_000_000, "deeper than 100 levels"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no valid JSON"),
        (b" " * (keras_config.MAX_CONFIG_BYTES + 1), "more than the 16777216 allowed"),
    ],
)
def test_json(data, words):
    with pytest.raises(ModelFileError, match=f"^here: .*{words}"):
        keras_config.parse(data, "here")


def test_brackets_in_texts_are_no_levels():
    text = json.dumps({"a": '["{' * 500})
    assert keras_config.parse(text, "here") == json.loads(text)


# ---- Weights that do not fit ----------------------------------------------------------------------------------------


def edited(source, target, edit):
    shutil.copy(source, target)
    with h5py.File(target, "a") as file:
        edit(file)
    return target


def test_wrong_shape_leaves_the_model_alone(golden, tmp_path):
    def transpose(file):
        values = file["layers/lstm_1/cell/vars/1"][()]
        del file["layers/lstm_1/cell/vars/1"]
        file["layers/lstm_1/cell/vars/1"] = values.T.copy()

    path = edited(golden / "keras3/frozen.weights.h5", tmp_path / "x.weights.h5", transpose)
    model = nl.load_model(golden / "keras3/frozen.keras")
    before = [np.full_like(weight, 3.0) for weight in model.get_weights()]
    model.set_weights(before)
    words = (
        "layers/lstm_1/cell/vars/1: has shape (12, 3), but weight 'recurrent_kernel' of LSTM 'lstm_10' needs (3, 12)"
    )
    with pytest.raises(ModelFileError, match=re.escape(words)):
        nl.load_weights(model, path)
    for found, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, value)


def test_missing_and_left_over_weights(golden, tmp_path):
    source, model = golden / "keras3/frozen.weights.h5", nl.load_model(golden / "keras3/frozen.keras")

    def remove(file):
        del file["layers/lstm/cell/vars/2"]

    with pytest.raises(ModelFileError, match=r"layers/lstm/cell/vars/2: is missing; it is the 'bias' of LSTM 'lstm_9'"):
        nl.load_weights(model, edited(source, tmp_path / "a.weights.h5", remove))

    def add(file):
        file["layers/lstm_2/cell/vars/0"] = np.zeros((3, 8), "f4")

    with pytest.raises(
        ModelFileError, match="holds weights that the model has no layer for: layers/lstm_2/cell/vars/0"
    ):
        nl.load_weights(model, edited(source, tmp_path / "b.weights.h5", add))

    def seed(file):
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, "u4")

    nl.load_weights(model, edited(source, tmp_path / "c.weights.h5", seed))  # the state of Keras's random numbers


def test_other_number_of_layers_or_weights(golden, tmp_path):
    model = nl.load_model(golden / "keras2/frozen.h5")
    with pytest.raises(ModelFileError, match=r"holds 1 layers with weights \(lstm_8\), but the model has 3 \(lstm_9, "):
        nl.load_weights(model, golden / "keras2/hard_sigmoid.topological.h5")

    def fewer(file):
        file["lstm_10"].attrs["weight_names"] = file["lstm_10"].attrs["weight_names"][:2]

    path = edited(golden / "keras2/frozen.topological.h5", tmp_path / "x.h5", fewer)
    with pytest.raises(ModelFileError, match="lstm_10: holds 2 weights, but LSTM 'lstm_10' has 3"):
        nl.load_weights(model, path)

    def outside(file):
        file["top_level_model_weights/odd"] = np.zeros(3, "f4")
        file["top_level_model_weights"].attrs["weight_names"] = ["odd"]

    path = edited(golden / "keras2/frozen.topological.h5", tmp_path / "y.h5", outside)
    with pytest.raises(ModelFileError, match="top_level_model_weights: holds weights outside of any layer"):
        nl.load_weights(model, path)


def test_names_split_over_attributes(golden, tmp_path):
    """Keras splits lists of names above 64 kB into name0, name1, ..."""

    def split(file):
        for group in (file, file["lstm_9"]):
            key = "layer_names" if group is file else "weight_names"
            names = list(group.attrs[key])
            del group.attrs[key]
            group.attrs[f"{key}0"], group.attrs[f"{key}1"] = names[:1], names[1:]

    path = edited(golden / "keras2/frozen.topological.h5", tmp_path / "x.h5", split)
    model = nl.load_model(golden / "keras2/frozen.h5")
    wanted = model.get_weights()
    model.set_weights([np.zeros_like(weight) for weight in wanted])
    nl.load_weights(model, path)
    for found, value in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_array_equal(found, value)


# ---- The user's mistakes -------------------------------------------------------------------------------------------


def test_weights_file_is_no_model(golden):
    with pytest.raises(ModelFileError, match=r"holds no model, only weights: build the model, then load_weights\(\)"):
        nl.load_model(golden / "keras3/frozen.weights.h5")


def test_model_that_is_not_built(golden):
    model = nl.Sequential([nl.LSTM(5)], name="fresh")
    with pytest.raises(ValueError, match="Sequential 'fresh': is not built"):
        nl.load_weights(model, golden / "keras3/frozen.weights.h5")


def test_arguments_in_the_wrong_order(golden):
    path = str(golden / "keras3/frozen.weights.h5")
    with pytest.raises(TypeError, match="load_weights: model must be a Sequential or Model, got '"):
        nl.load_weights(path, nl.Sequential([nl.Input((2, 3)), nl.LSTM(5)]))


def test_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        nl.load_model(tmp_path / "none.keras")
    with pytest.raises(ModelFileError, match="is a folder; TensorFlow's SavedModel is not read"):
        nl.load_model(tmp_path)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(ModelFileError, match=r"empty\.h5: is empty"):
        nl.load_model(tmp_path / "empty.h5")
    (tmp_path / "x.keras").write_bytes(b"neither of the two")
    with pytest.raises(ModelFileError, match=r"x\.keras: is neither a \.keras archive nor an HDF5 file"):
        nl.load_model(tmp_path / "x.keras")
    assert issubclass(ModelFileError, ValueError)


def test_the_content_decides_not_the_name(golden, tmp_path):
    shutil.copy(golden / "keras3/frozen.keras", tmp_path / "model.h5")
    assert nl.load_model(tmp_path / "model.h5").built
