"""LSTM.vjp: the gradients recorded from the frameworks, and how the layer's options go through it."""

import threading

import numpy as np
import pytest
from support.cases import holes
from support.golden import CASES, cases, load
from test_golden import as_list, call, make_lstm, weights

from numbalstm.functional import lstm_backward, lstm_forward
from numbalstm.layers.lstm import LSTM

pytestmark = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")
NAMES = ("kernel", "recurrent_kernel", "bias")


def assert_close(case, found, expected, err_msg=""):
    assert np.shape(found) == expected.shape
    tolerance = case["tolerance"]["gradient"] * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=err_msg)


def vjp(layer, case, arrays, prefix=""):
    """Run a case with its cotangents; returns what the layer returned, and the gradients."""
    get = lambda name: arrays.get(prefix + name)  # noqa: E731
    arguments = {"mask": get("mask"), "initial_state": None if get("h0") is None else [get("h0"), get("c0")]}
    if case.get("training"):
        arguments |= {"training": True, "dropout_masks": (get("dp_mask"), get("rec_dp_mask"))}
    returned, pullback = layer.vjp(arrays[prefix + "x"], **arguments)
    names = ["g_out", "g_h", "g_c"] if layer.return_state else ["g_out"]
    return as_list(returned), pullback(*(get(name) for name in names), regularize=True)


def assert_gradients(case, layer, gradients, arrays, prefix=""):
    assert_close(case, gradients.inputs, arrays[prefix + "d_x"], "x")
    for index, state in enumerate(("h0", "c0")):
        if f"{prefix}d_{state}" in arrays:
            assert_close(case, gradients.initial_state[index], arrays[f"{prefix}d_{state}"], state)
    for name, weight in zip(NAMES, layer.weights, strict=False):
        gradient = gradients.weights[name]
        if case.get("add_losses"):
            gradient = gradient + weight.regularizer.gradient(weight.value)
        assert_close(case, gradient, arrays[f"{prefix}d_{name}"], name)


GRADED = [name for name in cases("lstm") if CASES[name]["tolerance"]["gradient"] is not None]


@pytest.mark.parametrize("name", [name for name in GRADED if "calls" not in CASES[name]])
@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_recorded_gradients(name, checkpoint_every):
    case, arrays = load(name)
    layer = make_lstm(
        case, weights=weights(arrays), batch_input_shape=arrays["x"].shape, checkpoint_every=checkpoint_every
    )
    returned, gradients = vjp(layer, case, arrays)
    called, _ = call(layer, case, arrays)
    for output, expected in zip(returned, called, strict=True):
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-13 if output.dtype == np.float64 else 1e-6)
        assert output.dtype == expected.dtype
    assert_gradients(case, layer, gradients, arrays)


@pytest.mark.parametrize("name", [name for name in GRADED if "calls" in CASES[name]])
def test_recorded_gradients_of_stateful_layers(name):
    case, arrays = load(name)
    layer = make_lstm(case, weights=weights(arrays), batch_input_shape=arrays["call0_x"].shape)
    for index, step in enumerate(case["calls"]):
        prefix = f"call{index}_"
        if step["before"] == "reset":
            layer.reset_state()
        elif step["before"] == "reset_states":
            layer.reset_states([arrays[prefix + "reset_h"], arrays[prefix + "reset_c"]])
        _, gradients = vjp(layer, case, arrays, prefix)
        used = {key: value for key, value in arrays.items() if not (key.endswith(("d_h0", "d_c0")) and index)}
        assert_gradients(case, layer, gradients, used, prefix)
        for state, key in zip(layer.states, ("state_h", "state_c"), strict=True):
            np.testing.assert_allclose(state, arrays[prefix + key], rtol=0, atol=1e-10)


# ---- options ----------------------------------------------------------------------------------------------------


def numeric(loss, value, direction, step=1e-6):
    return (loss(value + step * direction) - loss(value - step * direction)) / (2 * step)


def test_time_major_is_a_transposed_view(rng):
    x, mask = rng.normal(size=(3, 5, 4)), holes(rng, 3, 5)
    options = {"return_sequences": True, "return_state": True, "dtype": "float64"}
    layer = LSTM(6, **options)
    _, pullback = layer.vjp(x, mask=mask)
    turned = LSTM(6, time_major=True, batch_input_shape=(5, 3, 4), weights=layer.get_weights(), **options)
    _, turned_pullback = turned.vjp(x.swapaxes(0, 1), mask=mask.T)
    dy, dh, dc = rng.normal(size=(3, 5, 6)), rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    expected, found = pullback(dy, dh, dc), turned_pullback(dy.swapaxes(0, 1), dh, dc)
    assert np.array_equal(found.inputs, expected.inputs.swapaxes(0, 1))
    for a, b in zip(found.weights, expected.weights, strict=True):
        assert np.array_equal(a, b)


def test_each_result_may_have_a_cotangent_alone(rng):
    layer = LSTM(4, return_sequences=True, return_state=True, dtype="float64")
    x = rng.normal(size=(3, 5, 2))
    (y, h, c), pullback = layer.vjp(x)
    given = [rng.normal(size=a.shape) for a in (y, h, c)]
    alone = [pullback(*(d if i == j else None for j, d in enumerate(given))) for i in range(3)]
    together = pullback(*given)
    np.testing.assert_allclose(together.inputs, sum(one.inputs for one in alone), rtol=0, atol=1e-13)
    kernel = sum(one.weights["kernel"] for one in alone)
    np.testing.assert_allclose(together.weights["kernel"], kernel, rtol=0, atol=1e-13)
    assert np.array_equal(pullback(given[0]).inputs, alone[0].inputs)
    assert not any(array.any() for array in pullback().weights)
    with pytest.raises(ValueError, match=r"LSTM: cotangent\[2\] must have shape \(3, 4\), got \(4, 3\)"):
        pullback(None, None, given[2].T)


def test_a_ragged_list_gives_a_list_of_gradients(rng):
    layer = LSTM(4, return_sequences=True, dtype="float64")
    xs = [rng.normal(size=(time, 2)) for time in (3, 0, 5)]
    ys, pullback = layer.vjp(xs)
    ds = [rng.normal(size=y.shape) for y in ys]
    found = pullback(*ds)
    expected = lstm_backward(ds, lstm_forward(xs, layer.parameters, tape=True).tape)
    for a, b, x in zip(found.inputs, expected.x, xs, strict=True):
        assert a.shape == x.shape
        assert np.array_equal(a, b)
    assert found.initial_state[1].shape == (3, 4)
    part = pullback(None, None, ds[2])
    whole = pullback(*(np.zeros_like(d) for d in ds[:2]), ds[2])
    assert np.array_equal(part.weights["kernel"], whole.weights["kernel"])


def test_states_among_the_inputs_of_keras_2(rng):
    layer = LSTM(4, return_state=True, generation="keras2", dtype="float64")
    x, h, c = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    returned, pullback = layer.vjp([x, h, c])
    assert isinstance(returned, list)
    dy = rng.normal(size=(3, 4))
    found = pullback(dy)
    assert [part.shape for part in found.inputs] == [(3, 5, 2), (3, 4), (3, 4)]
    assert np.array_equal(found.inputs[1], found.initial_state[0])
    direction = rng.normal(size=c.shape)
    slope = numeric(lambda c: np.vdot(layer([x, h, c])[0], dy), c, direction)
    assert np.vdot(found.inputs[2], direction) == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("generation", ["keras3", "keras2", "v1"])
@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.4])
@pytest.mark.parametrize("ragged", [False, True])
def test_drawn_dropout_is_the_same_both_ways(rng, generation, recurrent_dropout, ragged):
    """Same seed, same draws: the outputs are those of a call, the gradient is the slope of such calls."""
    x = rng.normal(size=(3, 5, 2))
    values = [rng.normal(size=shape) for shape in ((2, 16), (4, 16), (16,))]

    def made(x, run):
        layer = LSTM(
            4, dropout=0.4, recurrent_dropout=recurrent_dropout, seed=11, generation=generation, dtype="float64"
        )
        layer.build((None, None, 2))
        layer.set_weights(values)
        return getattr(layer, run)(list(x) if ragged else x, training=True)

    outputs, pullback = made(x, "vjp")
    np.testing.assert_allclose(outputs, made(x, "__call__"), rtol=0, atol=1e-13)
    plain = LSTM(4, generation=generation, dtype="float64", batch_input_shape=(None, None, 2), weights=values)
    assert np.abs(outputs - plain(x)).max() > 1e-3
    dy, direction = rng.normal(size=outputs.shape), rng.normal(size=x.shape)
    slope = numeric(lambda x: np.vdot(made(x, "__call__"), dy), x, direction)
    found = pullback(dy)
    assert np.vdot(np.stack(found.inputs), direction) == pytest.approx(slope, rel=1e-7)
    again = pullback(dy)
    assert np.array_equal(again.weights["kernel"], found.weights["kernel"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
def test_gradients_of_16_bit_policies_are_float32(rng, dtype):
    layer = LSTM(4, dtype=dtype, return_state=True)
    x = rng.normal(size=(3, 5, 2)).astype(np.float32)
    (y, *_), pullback = layer.vjp(x)
    found = pullback(np.ones_like(y))
    assert found.inputs.dtype == np.float32
    assert found.weights["kernel"].dtype == np.float32
    full = LSTM(4, batch_input_shape=(None, None, 2), weights=[w.astype(np.float32) for w in layer.get_weights()])
    _, pullback = full.vjp(x)
    np.testing.assert_allclose(found.inputs, pullback(np.ones((3, 4))).inputs, rtol=0, atol=0.01)


def test_output_goes_where_it_should(rng):
    layer = LSTM(4, return_sequences=True, time_major=True)
    x = rng.normal(size=(5, 3, 2)).astype(np.float32)
    out = np.zeros((5, 3, 4), np.float32)
    returned, _ = layer.vjp(x, out=out)
    assert np.shares_memory(returned, out)
    np.testing.assert_allclose(out, layer(x), rtol=0, atol=1e-6)


def test_frozen_weights_have_no_gradient(rng):
    layer = LSTM(4, trainable=False)
    y, pullback = layer.vjp(rng.normal(size=(3, 5, 2)))
    assert list(pullback(np.ones_like(y)).weights) == [None, None, None]


def test_pullbacks_of_one_layer_do_not_meet(rng):
    """Two calls, and threads, on one layer object."""
    layer = LSTM(4, return_sequences=True, dtype="float64")
    xs = rng.normal(size=(4, 3, 5, 2))
    ds = rng.normal(size=(4, 3, 5, 4))
    layer(xs[0])
    alone = [layer.vjp(x)[1](d).weights["kernel"] for x, d in zip(xs, ds, strict=True)]
    found = [None] * 4
    kept = [layer.vjp(x)[1] for x in xs]

    def work(index):
        for _ in range(5):
            found[index] = kept[index](ds[index]).weights["kernel"]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(found, alone, strict=True))


def test_integers_have_no_gradient(rng):
    layer = LSTM(4, return_sequences=True)
    x = rng.integers(-2, 3, (3, 5, 2))
    y, pullback = layer.vjp(x)
    found = pullback(np.ones_like(y))
    assert found.inputs is None
    _, pullback = layer.vjp(x.astype(np.float32))
    assert np.array_equal(pullback(np.ones_like(y)).weights["kernel"], found.weights["kernel"])
    ys, pullback = layer.vjp(list(x))
    assert pullback(*map(np.ones_like, ys)).inputs == [None] * 3
