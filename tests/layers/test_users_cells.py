"""Cells that users write in Python, as they would for Keras."""

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.compat import keras2
from numbalstm.layers.registry import LAYERS
from numbalstm.layers.symbolic import leaves


class Minimal(nl.Layer):
    """The cell of Keras's own guide to RNN, and its way back."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, self.units), initializer="uniform", name="recurrent_kernel", regularizer="l2"
        )
        self.built = True

    def call(self, inputs, states):
        h = inputs @ self.kernel
        output = h + states[0] @ self.recurrent_kernel
        return output, [output]


class Nested:
    """Its states are nested; the last one counts steps."""

    state_size = ((3, 2), 1)
    output_size = 4

    def call(self, x, states):
        (a, b), n = states
        return x + n, [[a + x[:, :3], b - x[:, :2]], n + 1]


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 5, 4)).astype(np.float32)


def test_the_cell_of_the_guide(x):
    layer = nl.RNN(Minimal(6), return_state=True)
    y, h = layer(x)
    kernel, recurrent = layer.get_weights()
    expected = np.zeros((3, 6))
    for t in range(5):
        expected = x[:, t] @ kernel + expected @ recurrent
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(h, y)
    assert layer.losses == [pytest.approx(0.01 * np.square(recurrent).sum())]
    assert nl.RNN([Minimal(6), Minimal(2)])(x).shape == (3, 2)


def test_weights_in_expressions():
    weight = nl.Dense(2, input_shape=(3,)).kernel
    assert np.asarray(weight) is weight.value
    assert np.array(weight) is not weight.value
    assert np.asarray(weight, np.float64).dtype == np.float64
    np.testing.assert_allclose(np.ones(3) @ weight, weight.value.sum(axis=0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("argument", ["initializer", "regularizer", "constraint"])
def test_unknown_names_of_a_weight(argument):
    with pytest.raises(ValueError, match=f"Layer 'own': the {argument} of w: unknown {argument} 'sum'"):
        nl.Layer(name="own").add_weight("w", (2,), **{argument: "sum"})


def test_nested_states(x):
    layer = nl.RNN(Nested(), return_sequences=True, return_state=True)
    y, (a, b), n = layer(x)
    np.testing.assert_allclose(y, x + np.arange(5)[:, None], rtol=1e-6)
    np.testing.assert_allclose(a, x[:, :, :3].sum(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(b, -x[:, :, :2].sum(axis=1), rtol=1e-5, atol=1e-6)
    assert (n == 5).all()
    mask = np.arange(5) < np.array([[5], [0], [2]])
    _, (a, _), n = layer(x, mask=mask, initial_state=[[np.ones((3, 3)), np.ones((3, 2))], np.ones((3, 1))])
    np.testing.assert_array_equal(n[:, 0], [6, 1, 3])
    np.testing.assert_array_equal(a[1], 1)


def test_a_stateful_layer_starts_as_its_cell_says(x):
    class Ones(Nested):
        state_size = 4

        def get_initial_state(self, batch_size=None):
            return np.ones((batch_size, 4))

        def call(self, x, states):
            return states[0] + x, states[0] + x

    layer = nl.RNN(Ones(), stateful=True)
    total = x.sum(axis=1)
    np.testing.assert_allclose(layer(x), 1 + total, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer(x), 1 + 2 * total, rtol=1e-5, atol=1e-5)
    layer.reset_states()  # to zeros, as in Keras
    np.testing.assert_allclose(layer(x), total, rtol=1e-5, atol=1e-5)


def test_copies_for_both_directions(x):
    layer = nl.Bidirectional(nl.RNN(Minimal(3), return_sequences=True))  # no get_config
    assert layer(x).shape == (3, 5, 6)
    forward, backward = layer.sublayers
    assert not np.array_equal(forward.get_weights()[0], backward.get_weights()[0])


def test_a_registered_cell_has_a_config(x):
    before = dict(LAYERS)

    @nl.layers.register_layer()
    class Known(Minimal):
        def get_config(self):
            return {**super().get_config(), "units": self.units}

    try:
        layer = nl.RNN(Known(3))
        again = nl.RNN.from_config(layer.get_config())
        y = layer(x)
        again.build(x.shape)
        again.set_weights(layer.get_weights())
        np.testing.assert_array_equal(again(x), y)
    finally:
        LAYERS.clear()
        LAYERS.update(before)


def test_a_count_of_constants_in_a_config_of_keras_2():
    config = keras2.RNN(keras2.LSTMCell(3), return_state=True).get_config()
    assert keras2.RNN.from_config({**config, "num_constants": 2}).get_config() == config


# ---- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x: x, r"Cell: a cell must return its output and as many states as it got, 2, in a pair .* an array"),
        (lambda x: (x, [x]), "as many states as it got, 2, got 1"),
        (lambda x: (x, x), "as many states as it got, 2, got 1"),
        (lambda x: (x, [x, x, x]), "as many states as it got, 2, got 3"),
    ],
)
def test_results_of_a_step(x, returned, message):
    class Cell:
        state_size = (4, 4)

        def call(self, x, states):
            return returned(x)

    with pytest.raises(ValueError, match=message):
        nl.RNN(Cell())(x)


@pytest.mark.parametrize("size", [-1, 0, [], [3, 0], [[2, "a"], 3], 2.5, True])
def test_sizes_of_states(size):
    cell = Nested()
    cell.state_size = size
    with pytest.raises(ValueError, match="RNN: state_size must be a positive integer or a list of them, got"):
        nl.RNN(cell)


@pytest.mark.parametrize("layer", [nl.LSTM(4), nl.RNN(Nested()), nl.Bidirectional(nl.LSTM(4)), nl.StackedLSTM(4)])
def test_states_among_the_inputs_are_not_for_keras_3(layer):
    inputs = [nl.Input((5, 4)), nl.Input((4,)), nl.Input((4,))]
    with pytest.raises(ValueError, match=r"inputs must be one array, or a list .* States go into initial_state\."):
        layer(inputs)


def test_a_list_of_one_is_a_batch_in_keras_2(x):
    assert keras2.LSTM(2)([x]).shape == (3, 2)
    assert keras2.LSTM(2)([nl.Input((5, 4))]).shape == (None, 2)


# ---- stacks in graphs, and states that are given in vain ---------------------------------------------------------


def test_a_stack_in_a_graph(rng):
    cell = nl.StackedRNNCells([nl.LSTMCell(4), nl.LSTMCell(2)])
    inputs = [nl.Input((size,)) for size in (3, 4, 4, 2, 2)]
    outputs = cell(inputs[0], [inputs[1:3], inputs[3:]])
    assert [tensor.shape for tensor in leaves(outputs)] == [(None, size) for size in (2, 4, 4, 2, 2)]
    values = [rng.normal(size=(5, size)).astype(np.float32) for size in (3, 4, 4, 2, 2)]
    expected = cell(values[0], [values[1:3], values[3:]])
    for one, other in zip(nl.Model(inputs, list(leaves(outputs)))(values), leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", [keras2.LSTM, lambda units, **options: keras2.RNN(keras2.LSTMCell(units), **options)])
def test_states_given_in_vain_have_no_gradient(make, x):
    layer = make(2, stateful=True)
    start = [np.ones((3, 2)), np.ones((3, 2))]
    for heeded in (True, False):
        y, pullback = layer.vjp(x, initial_state=start)
        gradients = pullback(np.ones_like(y)).initial_state
        assert all(np.any(gradient) == heeded for gradient in gradients)
    y, pullback = layer.vjp([x, *start])
    assert not any(np.any(gradient) for gradient in pullback(np.ones_like(y)).inputs[1:])
