"""R's functions: the examples of the documentation with the shapes it prints, and what `object` may be."""

import inspect

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.compat import keras2, r
from numbalstm.layers.symbolic import SymbolicTensor


@pytest.fixture
def inputs(rng):
    return rng.uniform(size=(32, 10, 8))


# ---- the page of layer_lstm in keras3 -----------------------------------------------------------------------------


def test_keras3_output(inputs):
    output = r.layer_lstm(inputs, 4)
    assert output.shape == (32, 4)


def test_keras3_sequences_and_states(inputs):
    lstm = r.layer_lstm(units=4, return_sequences=True, return_state=True)
    whole_seq_output, final_memory_state, final_carry_state = lstm(inputs)
    assert whole_seq_output.shape == (32, 10, 4)
    assert final_memory_state.shape == (32, 4)
    assert final_carry_state.shape == (32, 4)


# ---- the page of layer_lstm_cell ----------------------------------------------------------------------------------


@pytest.mark.parametrize("package", [r, r.keras])
def test_cell_output(package, inputs):
    rnn = package.layer_rnn(cell=package.layer_lstm_cell(units=4))
    output = rnn(inputs)
    assert output.shape == (32, 4)


@pytest.mark.parametrize("package", [r, r.keras])
def test_cell_sequences_and_states(package, inputs):
    rnn = package.layer_rnn(cell=package.layer_lstm_cell(units=4), return_sequences=True, return_state=True)
    whole_seq_output, final_memory_state, final_carry_state = rnn(inputs)
    assert whole_seq_output.shape == (32, 10, 4)
    assert final_memory_state.shape == (32, 4)
    assert final_carry_state.shape == (32, 4)


def test_cell_of_keras3(inputs):
    stack = r.rnn_cells_stack([r.rnn_cell_lstm(5, seed=1), r.rnn_cell_lstm(3)])
    assert r.layer_rnn(inputs, stack).shape == (32, 3)
    assert r.keras.layer_rnn(inputs, [r.layer_lstm_cell(4), r.layer_lstm_cell(2)]).shape == (32, 2)


# ---- the pages of layer_lstm in keras -----------------------------------------------------------------------------


def test_masks_come_from_an_embedding(rng):
    model = r.keras.keras_model_sequential()
    r.layer_embedding(model, input_dim=20, output_dim=6, mask_zero=True, input_length=7)
    r.keras.layer_lstm(model, 4)
    ids = rng.integers(1, 20, (3, 7))
    ids[1, 4:] = 0
    short = model(ids[1:2])
    ids[1, 4:] = 0
    table = model.layers[0].get_weights()[0]
    np.testing.assert_allclose(short, model.layers[1](table[ids[1:2, :4]]), rtol=1e-6)


def test_stateful_with_a_batch_input_shape(rng):
    model = r.keras.keras_model_sequential()
    r.keras.layer_lstm(model, 4, stateful=True, batch_input_shape=(32, 10, 100))
    x = rng.normal(size=(32, 10, 100)).astype(np.float32)
    first = model(x)
    assert not np.array_equal(model(x), first)
    model.layers[0].reset_states()
    np.testing.assert_array_equal(model(x), first)
    start = [rng.normal(size=(32, 4)).astype(np.float32) for _ in range(2)]
    model.layers[0].reset_states(states=start)
    np.testing.assert_array_equal(model(x), model.layers[0].clone(stateful=False, weights=model.get_weights())(
        x, initial_state=start
    ))  # fmt: skip


def test_stateful_with_sizes_that_vary():
    layer = r.keras.layer_lstm(units=4, stateful=True, batch_input_shape=(32, None, 3))
    assert layer(np.zeros((32, 5, 3))).shape == (32, 4)
    assert layer(np.zeros((32, 2, 3))).shape == (32, 4)
    functional = r.keras.layer_lstm(r.keras.layer_input(batch_shape=(32, 10, 100)), 4, stateful=True)
    assert functional.shape == (32, 4)


def test_initial_state_by_call(rng):
    x = r.keras.layer_input((None, 3))
    _, h, c = r.keras.layer_lstm(x, 4, return_state=True)
    y = r.keras.layer_lstm(units=4)(x, initial_state=[h, c])
    model = r.keras_model(x, y)
    assert model(rng.normal(size=(2, 5, 3))).shape == (2, 4)


def test_constants():
    class Cell:
        state_size = 3

        def call(self, inputs, states, constants):
            return inputs[:, :3] + constants[0], states

    rnn = r.keras.layer_rnn(cell=Cell())
    np.testing.assert_array_equal(rnn(np.ones((2, 4, 5)), constants=[np.full((2, 3), 2.0)]), np.full((2, 3), 3.0))


def test_time_major(inputs):
    layer = r.keras.layer_lstm(units=4, time_major=True, return_sequences=True)
    assert layer(inputs).shape == (32, 10, 4)  # 32 steps of a batch of 10


def test_layer_arguments_of_the_long_page():
    weights = [np.ones((2, 12)), np.ones((3, 12)), np.arange(12.0)]
    layer = r.keras.layer_lstm(
        units=3, input_shape=(7, 2), batch_size=5, dtype="float64", name="first", trainable=None, weights=weights
    )
    assert layer.build_shape == (5, 7, 2)
    assert layer.policy.name == "float64"
    assert layer.name == "first"
    assert len(layer.trainable_weights) == 3
    for found, given in zip(layer.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, given)
    assert r.keras.layer_lstm(units=3, trainable=False).trainable is False


# ---- object -------------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "layer_lstm": {"units": 3},
    "layer_rnn": {"cell": nl.LSTMCell(3)},
    "layer_bidirectional": {"layer": nl.LSTM(3)},
    "layer_time_distributed": {"layer": nl.Dense(3)},
    "layer_dense": {"units": 3},
}


@pytest.mark.parametrize("package", [r, r.keras3, r.keras])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_object(package, name, inputs):
    function = getattr(package, name)
    arguments = FUNCTIONS[name]
    layer = function(**arguments)
    assert isinstance(layer, nl.layers.base.Layer)
    assert isinstance(function(None, **arguments), type(layer))
    assert isinstance(function(None, *arguments.values()), type(layer))
    output = function(inputs, **arguments)
    assert output.shape == layer(inputs).shape
    symbolic = function(nl.Input((10, 8)), **arguments)
    assert isinstance(symbolic, SymbolicTensor)
    assert symbolic.shape == (None, *output.shape[1:])
    model = package.keras_model_sequential(input_shape=(10, 8))
    assert function(model, **arguments) is model
    assert type(model.layers[-1]) is type(layer)
    assert model(inputs).shape == output.shape


def test_embedding_of_an_object():
    for package in (r, r.keras):
        assert package.layer_embedding(np.array([[1, 2, 0]]), 5, 4).shape == (1, 3, 4)


def test_positions_of_an_embedding_are_those_of_the_package():
    three = r.keras3.layer_embedding(None, 5, 4, "zeros", "l2", "non_neg", True)
    two = r.keras.layer_embedding(None, 5, 4, "zeros", "l2", "l1", "non_neg", True, 3)
    for layer in (three, two):
        assert (layer.mask_zero, type(layer.embeddings_constraint).__name__) == (True, "NonNeg")
    assert type(two.activity_regularizer).__name__ == "L1"


def test_sequences_of_different_lengths_are_an_object(rng):
    rows = [rng.normal(size=(length, 3)) for length in (4, 2)]
    assert r.layer_lstm(rows, 5).shape == (2, 5)


def test_models_as_in_r(rng):
    model = r.keras_model_sequential(input_shape=784)
    model = r.layer_dense(model, units=32, activation="relu")
    model = r.layer_dense(model, units=10, activation="softmax")
    assert model(rng.uniform(size=(3, 784))).shape == (3, 10)
    assert r.keras_model_sequential(input_batch_shape=(2, None, 3), input_name="x").layers == []
    frozen = r.keras_model_sequential(3, layers=[nl.Dense(3)], trainable=False, name="m")
    assert frozen.name == "m"
    assert len(frozen.non_trainable_weights) == 2
    old = r.keras.keras_model_sequential()
    assert r.layer_dense(old, 3, input_shape=784) is old
    assert old.generation == "keras2"
    x = r.keras_input(8)
    assert r.keras_model(x, r.layer_dense(x, 2), name="two").name == "two"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (4, r"object must be None, .* got 4. For the layer alone, name the arguments: layer_lstm\(units=...\)"),
        ("units", "got 'units'"),
        (nl.LSTM(3), "got an object of type LSTM. Give its output"),
        (np.float64(3), "got 3.0"),
    ],
)
def test_nothing_to_compose_with(given, message):
    with pytest.raises(TypeError, match=message):
        r.layer_lstm(given)


def test_functional_models_are_nothing_to_compose_with():
    x = nl.Input((3,))
    model = nl.Model(x, nl.Dense(2)(x))
    with pytest.raises(TypeError, match=r"got an object of type Model\. Give its output"):
        r.layer_dense(model, 4)


def test_missing_arguments():
    with pytest.raises(TypeError, match="layer_lstm: the argument 'units' is missing"):
        r.layer_lstm(np.zeros((2, 3, 4)))
    with pytest.raises(TypeError, match="layer_embedding: the argument 'output_dim' is missing"):
        r.layer_embedding(input_dim=3)


def test_generations_of_the_packages(inputs):
    assert type(r.layer_lstm(units=2)) is type(r.keras3.layer_lstm(units=2)) is nl.LSTM
    assert type(r.keras.layer_lstm(units=2)) is keras2.LSTM
    assert type(r.layer_lstm(inputs, 3, return_state=True)) is tuple
    assert type(r.keras.layer_lstm(inputs, 3, return_state=True)) is list


@pytest.mark.parametrize("package", [r, r.keras3, r.keras])
def test_documented(package):
    for name in package.__all__:
        thing = getattr(package, name)
        if inspect.isfunction(thing):
            text = inspect.getdoc(thing)
            for argument in inspect.signature(thing).parameters:
                assert argument in text, f"{name}: {argument}"
