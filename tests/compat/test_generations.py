"""Layers of Keras 2 and of TensorFlow 1: recorded numbers, argument order, rules, attributes, errors, configs."""

import inspect
import pickle

import numpy as np
import pytest
from support.golden import CASES, FOLDER, assert_close, cases, load

import numbalstm as nl
from numbalstm.compat import keras2, tf_v1
from numbalstm.layers.base import deserialize
from numbalstm.layers.symbolic import leaves

MODULES = {"keras2": keras2, "compat_v1": tf_v1}
OLD = [name for name in cases("lstm") if CASES[name]["generation"] in MODULES]
WEIGHTS = ("kernel", "recurrent_kernel", "bias")

pytestmark = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")


def call(layer, arrays, prefix="", training=None):
    get = lambda name: arrays.get(prefix + name)  # noqa: E731
    state = None if get("h0") is None else [get("h0"), get("c0")]
    masks = {"training": True, "dropout_masks": (get("dp_mask"), get("rec_dp_mask"))} if training else {}
    found = layer(arrays[prefix + "x"], mask=get("mask"), initial_state=state, **masks)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("name", OLD)
def test_recorded_numbers(name):
    case, arrays = load(name)
    layer = MODULES[case["generation"]].LSTM(**case["config"], dtype=case["dtype"])
    calls = case.get("calls", [{"before": None}])
    for index, step in enumerate(calls):
        prefix = f"call{index}_" if "calls" in case else ""
        if index == 0:
            layer.build(arrays[prefix + "x"].shape)
            layer.set_weights([arrays[weight] for weight in WEIGHTS if weight in arrays])
        if step["before"] == "reset":
            layer.reset_states()
        elif step["before"] == "reset_states":
            layer.reset_states([arrays[prefix + "reset_h"], arrays[prefix + "reset_c"]])
        for found, key in zip(call(layer, arrays, prefix, case.get("training")), ("out", "h", "c"), strict=False):
            assert_close(case, found, arrays[prefix + key])


def real():
    """The layers of make_compat.py, by name."""
    backwards = keras2.LSTM(3, go_backwards=True, return_sequences=True, return_state=True)
    cells = [keras2.LSTMCell(3, recurrent_activation="hard_sigmoid"), tf_v1.LSTMCell(2)]
    return {
        "bidirectional": keras2.Bidirectional(backwards, merge_mode="ave"),
        "bidirectional_v1": tf_v1.Bidirectional(tf_v1.LSTM(3, return_sequences=True), merge_mode=None),
        "cells": keras2.RNN(cells, return_sequences=True, return_state=True, go_backwards=True),
        "time_major": tf_v1.RNN(tf_v1.LSTMCell(3), time_major=True, return_sequences=True),
    }


@pytest.mark.parametrize("name", real())
def test_wrappers_and_cells_of_the_real_ones(name):
    layer = real()[name]
    with np.load(FOLDER / "compat.npz") as file:
        weights, expected = ([file[key] for key in file.files if key.startswith(f"{name}/{kind}")] for kind in "wy")
        x, mask = file["x"], None if name == "time_major" else file["mask"]
    layer.build(x.shape)
    layer.set_weights(weights)
    found = list(leaves(layer(x, mask=mask)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_cases_of_both_are_there():
    assert {CASES[name]["generation"] for name in OLD} == set(MODULES)


# ---- what a caller of the older classes relies on --------------------------------------------------------------


@pytest.mark.parametrize("module", [keras2, tf_v1])
def test_positions_are_those_of_the_generation(module):
    layer = module.LSTM(
        3, "tanh", "sigmoid", True, "zeros", "zeros", "ones", False, None, None, None, None, None, None, None, 0.1, 0.2,
        True, True, True, True,
    )  # fmt: skip
    assert layer.return_sequences
    assert layer.return_state
    assert layer.go_backwards
    assert layer.stateful
    assert (layer.dropout, layer.recurrent_dropout, layer.unit_forget_bias) == (0.1, 0.2, False)


def test_what_the_generations_differ_in():
    two, one, three = keras2.LSTM(3), tf_v1.LSTM(3), nl.LSTM(3)
    assert [layer.recurrent_activation.name for layer in (three, two, one)] == [
        "sigmoid",
        "sigmoid",
        "hard_sigmoid_keras2",
    ]
    assert [layer.implementation for layer in (three, two, one)] == [2, 2, 1]
    x = np.ones((2, 4, 3))
    layers = [kind(3, return_state=True) for kind in (nl.LSTM, keras2.LSTM, tf_v1.LSTM)]
    assert [type(layer(x)) for layer in layers] == [tuple, list, list]
    hard = [kind(2, recurrent_activation="hard_sigmoid").recurrent_activation(0.5) for kind in (nl.LSTM, keras2.LSTM)]
    np.testing.assert_allclose(hard, [0.5 / 6 + 0.5, 0.6])


def test_are_layers_of_the_package():
    assert issubclass(tf_v1.LSTM, keras2.LSTM)
    for name in ("LSTM", "LSTMCell", "RNN", "Bidirectional", "StackedRNNCells", "TimeDistributed"):
        assert issubclass(getattr(keras2, name), getattr(nl, name))
        assert issubclass(getattr(tf_v1, name), getattr(nl, name))
    model = nl.Sequential([nl.Input((None, 3)), tf_v1.LSTM(4), nl.Dense(2)])
    assert model(np.ones((2, 5, 3))).shape == (2, 2)


@pytest.mark.parametrize("module", [keras2, tf_v1])
def test_states(module):
    layer = module.LSTM(3, stateful=True)
    assert layer.states == [None, None]
    x = np.ones((2, 4, 3), np.float32)
    y = layer(x)
    h, c = layer.states
    np.testing.assert_array_equal(h, y)
    assert not np.array_equal(layer(x), y)
    layer.reset_states()
    assert not np.any(layer.states)
    layer.reset_states(states=[h, c])
    np.testing.assert_array_equal(layer.states[1], c)
    assert module.LSTM(3).states == [None, None]
    assert module.RNN([module.LSTMCell(3), module.LSTMCell(2)]).states == [None, None]


@pytest.mark.parametrize("module", [keras2, tf_v1])
def test_errors_of_reset_states(module):
    with pytest.raises(AttributeError, match="only a stateful layer has states"):
        module.LSTM(3).reset_states()
    layer = module.LSTM(3, stateful=True)
    with pytest.raises(ValueError, match="no known batch size"):
        layer.reset_states()
    layer.build((2, None, 5))
    h = np.zeros((2, 3))
    for states, message in (
        ([h], "states must hold 2 states, got 1"),
        ([h, np.zeros((3, 3))], r"states\[1\] must have shape \(2, 3\), got \(3, 3\)"),
        ([h, h.astype(complex)], r"states\[1\] must hold real numbers, got dtype complex128"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.reset_states(states)


def test_a_cell_gives_its_initial_state_in_the_old_order():
    cell = keras2.LSTMCell(3)
    assert [state.shape for state in cell.get_initial_state(np.zeros((5, 2)))] == [(5, 3)] * 2
    assert [state.shape for state in cell.get_initial_state(None, 4, "float64")] == [(4, 3)] * 2
    assert keras2.RNN(cell)(np.ones((2, 4, 3))).shape == (2, 3)


def test_both_directions_of_a_backward_layer(rng):
    layer = keras2.Bidirectional(keras2.LSTM(3, go_backwards=True, return_sequences=True))
    assert [layer.forward_layer.go_backwards, layer.backward_layer.go_backwards] == [True, False]
    assert type(layer.backward_layer) is keras2.LSTM
    assert layer(rng.normal(size=(2, 5, 4))).shape == (2, 5, 6)
    both = keras2.Bidirectional(nl.LSTM(3, return_state=True), merge_mode=None)
    assert type(both(np.ones((2, 5, 4)))) is list


# ---- configs and copies ------------------------------------------------------------------------------------------


def layers_of(module):
    return [
        module.LSTM(3, dropout=0.5, name="a"),
        module.LSTMCell(3, use_bias=False, name="b"),
        module.RNN(module.LSTMCell(3, name="cell"), return_sequences=True, name="c"),
        module.Bidirectional(module.LSTM(2, name="inner"), merge_mode="sum", name="d"),
    ]


@pytest.mark.parametrize("module", [keras2, tf_v1])
def test_configs(module):
    for layer in layers_of(module):
        config = layer.get_config()
        again = type(layer).from_config(config)
        assert type(again) is type(layer)
        assert again.generation == layer.OF == layer.generation
        assert again.get_config() == config
        assert config["dtype"] == "float32"


@pytest.mark.parametrize("module", [keras2, tf_v1])
def test_configs_make_plain_layers_too(module):
    for layer in layers_of(module):
        plain = deserialize({"class_name": type(layer).__name__, "config": layer.get_config()})
        assert type(plain) in (nl.LSTM, nl.LSTMCell, nl.RNN, nl.Bidirectional)
        assert plain.generation != "keras3"


def test_copies(rng):
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    for layer in (keras2.LSTM(3), tf_v1.Bidirectional(tf_v1.LSTM(3))):
        y = layer(x)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(x), y)
    assert type(tf_v1.LSTM(3).clone(units=4)) is tf_v1.LSTM


def test_another_generation_is_refused():
    with pytest.raises(ValueError, match="LSTM: generation must be one of 'keras2', got 'v1'"):
        keras2.LSTM(3, generation="v1")


def test_unknown_arguments_are_refused():
    with pytest.raises(ValueError, match=r"unknown argument 'unit'\. Did you mean 'units'"):
        tf_v1.LSTM(3, unit=4)


@pytest.mark.parametrize("module", [keras2, tf_v1])
def test_documented(module):
    for name in module.__all__:
        thing = getattr(module, name)
        assert inspect.getdoc(thing)
        assert "layer_options" in inspect.signature(thing).parameters
