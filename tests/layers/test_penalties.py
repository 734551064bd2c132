"""Losses of regularizers, their gradients, and constraints."""

import numpy as np
import pytest
from support.differences import assert_gradient, project

import numbalstm as nl
from numbalstm import constraints, regularizers
from numbalstm.layers.gradients import LayerGradients

F64 = {"dtype": "float64"}


def sample(rng, *shape):
    return rng.standard_normal(shape)


def test_order_of_losses(rng):
    layer = nl.LSTM(
        3,
        return_state=True,
        kernel_regularizer=regularizers.L1(0.5),
        recurrent_regularizer=regularizers.L2(0.25),
        bias_regularizer="l2",
        activity_regularizer=regularizers.L1L2(0.5, 0.25),
        **F64,
    )
    assert layer.losses == []
    layer.build((None, None, 2))
    kernel, recurrent, bias = layer.get_weights()
    weights = [0.5 * np.abs(kernel).sum(), 0.25 * np.square(recurrent).sum(), 0.01 * np.square(bias).sum()]
    np.testing.assert_allclose(layer.losses, weights)
    y, h, c = layer(sample(rng, 4, 5, 2))
    activity = [(0.5 * np.abs(a).sum() + 0.25 * np.square(a).sum()) / 4 for a in (y, h, c)]
    np.testing.assert_allclose(layer.losses, activity + weights)
    layer(sample(rng, 2, 5, 2))
    assert len(layer.losses) == 6  # those of the latest call alone
    layer.kernel.value = 2.0 * kernel
    np.testing.assert_allclose(layer.losses[3], 2.0 * weights[0])


def test_time_first_divides_by_time(rng):
    layer = nl.LSTM(3, return_sequences=True, time_major=True, activity_regularizer=regularizers.L2(1.0), **F64)
    y = layer(sample(rng, 5, 4, 2))
    np.testing.assert_allclose(layer.losses, [np.square(y).sum() / 5])


def test_frozen_weights_have_no_losses_in_keras_3():
    for generation, count in (("keras3", 0), ("keras2", 1)):
        layer = nl.LSTM(2, kernel_regularizer="l2", trainable=False, generation=generation, input_shape=(3, 4))
        assert len(layer.losses) == count


def test_shared_layers_collect_over_the_whole_call(rng):
    x = nl.Input((3,), dtype="float64")
    shared = nl.Dense(3, activity_regularizer=regularizers.L2(1.0), kernel_regularizer=regularizers.L1(1.0), **F64)
    model = nl.Model(x, shared(shared(x)))
    a = sample(rng, 2, 3)
    for _ in range(2):
        last = model(a)
        once = a @ shared.kernel.value
        expected = [np.square(once).sum() / 2, np.square(last).sum() / 2, np.abs(shared.kernel.value).sum()]
        np.testing.assert_allclose(model.losses, expected)
    model.vjp(a)
    np.testing.assert_allclose(model.losses, expected)


def test_losses_of_wrappers(rng):
    """As in Keras 3: both directions of a Bidirectional, but nothing from inside of a TimeDistributed."""
    x = sample(rng, 2, 4, 3)
    both = nl.Bidirectional(nl.LSTM(2, activity_regularizer=regularizers.L2(1.0), **F64), merge_mode=None)
    first, second = both(x)
    np.testing.assert_allclose(both.losses, [np.square(first).sum() / 2, np.square(second).sum() / 2])
    steps = nl.TimeDistributed(nl.Dense(2, activity_regularizer="l2", kernel_regularizer="l2", **F64))
    steps(x)
    assert len(steps.losses) == 1
    assert steps.vjp(x)[1](None, regularize=True).weights[0].any() == np.False_
    outer = nl.TimeDistributed(nl.Dense(2, **F64), activity_regularizer=regularizers.L2(1.0))
    np.testing.assert_allclose(np.square(outer(x)).sum() / 2, outer.losses)


CASES = {
    "dense": lambda penalty: nl.Dense(2, activity_regularizer=penalty, **F64),
    "lstm": lambda penalty: nl.LSTM(2, return_state=True, activity_regularizer=penalty, **F64),
    "bidirectional": lambda penalty: nl.Bidirectional(nl.LSTM(2, activity_regularizer=penalty, **F64)),
    "rnn": lambda penalty: nl.RNN(nl.LSTMCell(2, **F64), return_state=True, activity_regularizer=penalty),
    "time distributed": lambda penalty: nl.TimeDistributed(nl.Dense(2, **F64), activity_regularizer=penalty),
    "model": lambda penalty: nl.Sequential(
        [
            nl.Input((4, 3), dtype="float64"),
            nl.LSTM(2, return_sequences=True, activity_regularizer=penalty, **F64),
            nl.Dense(2, activity_regularizer=penalty, **F64),
        ]
    ),
}


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_gradients_of_activity_regularizers(name, given, rng):
    layer = CASES[name](regularizers.L1L2(0.5, 0.25))
    x = sample(rng, 2, 4, 3)
    outputs, pullback = layer.vjp(x)
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    g = sample(rng, *first.shape) if given else None

    def value():
        again = layer(x)
        again = again[0] if isinstance(again, tuple) else again
        return sum(layer.losses) + (project(again, g) if given else 0.0)

    found = pullback(g, regularize=True)
    first[...] = 9.0  # the outputs are the caller's
    np.testing.assert_array_equal(pullback(g, regularize=True).inputs, found.inputs)
    assert_gradient(found.inputs, value, x)
    for weight, gradient in zip(layer.weights, found.weights, strict=True):
        array = np.array(weight.value)

        def changed(weight=weight, array=array):
            weight.value = np.array(array)
            return value()

        assert_gradient(gradient, changed, array, weight.name)
        weight.value = array
    if given:
        assert not np.allclose(pullback(g).inputs, found.inputs)


def test_penalties_inside_of_an_output_that_has_no_cotangent(rng):
    x = nl.Input((4, 3), dtype="float64")
    inner = nl.Bidirectional(nl.LSTM(2, activity_regularizer=regularizers.L2(0.5), **F64))
    model = nl.Model(x, [nl.GlobalMaxPooling1D(**F64)(x), inner(x)])
    a, g = sample(rng, 2, 4, 3), sample(rng, 2, 3)
    _, pullback = model.vjp(a)

    def value():
        return project(model(a)[0], g) + sum(model.losses)

    assert_gradient(pullback(g, regularize=True).inputs, value, a)


def test_a_penalty_without_gradient(rng):
    layer = nl.Dense(2, activity_regularizer=np.sum)
    x = sample(rng, 3, 4)
    _, pullback = layer.vjp(x)
    np.testing.assert_allclose(layer.losses, [layer(x).sum() / 3], rtol=1e-6)
    with pytest.raises(TypeError, match=r"Dense: the activity regularizer .* has no gradient"):
        pullback(np.ones((3, 2)), regularize=True)


def test_activity_of_an_empty_batch():
    layer = nl.Dense(2, activity_regularizer="l2")
    layer(np.zeros((0, 3)))
    assert layer.losses == [0.0]
    assert layer.vjp(np.zeros((0, 3)))[1](regularize=True).inputs.shape == (0, 3)


def test_penalties_of_steps_collect(rng):
    class Cell(nl.layers.base.Layer):
        state_size = 2

        def call(self, inputs, states):
            return self._vjp(inputs, states)[0]

        def _vjp(self, inputs, states):
            return (inputs, [states[0]]), lambda g, _: LayerGradients(g[0], [g[1][0]])

    layer = nl.RNN(Cell(activity_regularizer=regularizers.L2(1.0), **F64))
    x = sample(rng, 2, 3, 2)
    layer(x)
    layer(x)
    assert len(layer.losses) == 6
    np.testing.assert_allclose(layer.losses[::2], np.square(x).sum(axis=(0, 2)) / 2)
    np.testing.assert_allclose(layer.vjp(x)[1](None, regularize=True).inputs, x)


# Constraints


def test_constraints_are_applied_by_a_method(rng):
    inner = nl.Dense(3, kernel_constraint=constraints.MaxNorm(0.5), bias_constraint="non_neg", **F64)
    model = nl.Sequential([nl.Input((4,), dtype="float64"), inner, nl.Dense(2, **F64)])
    values = [sample(rng, *weight.shape) for weight in model.weights]
    model.set_weights(values)
    x = sample(rng, 2, 4)
    before = model(x)
    np.testing.assert_array_equal(model.get_weights()[0], values[0])  # set_weights constrains nothing
    model.apply_constraints()
    kernel, bias, *others = model.get_weights()
    np.testing.assert_allclose(kernel, constraints.MaxNorm(0.5)(values[0]))
    np.testing.assert_array_equal(bias, np.maximum(values[1], 0.0))
    for found, expected in zip(others, values[2:], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not np.allclose(model(x), before)


def test_frozen_weights_are_not_constrained(rng):
    layer = nl.Dense(3, kernel_constraint="unit_norm", trainable=False, input_shape=(4,), **F64)
    before = layer.get_weights()[0]
    layer.apply_constraints()
    np.testing.assert_array_equal(layer.get_weights()[0], before)


def test_config_keeps_the_activity_regularizer():
    config = nl.Flatten(activity_regularizer=regularizers.L1(0.5)).get_config()
    assert nl.Flatten.from_config(config).activity_regularizer == regularizers.L1(0.5)
    assert "activity_regularizer" not in nl.Flatten().get_config()
