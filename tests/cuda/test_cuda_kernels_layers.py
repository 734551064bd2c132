"""Layers and streams on arrays of a GPU, on a simulated driver."""

import numpy as np
import pytest
from simulated_driver import Foreign, Stream

import numbalstm as nl
from numbalstm.backends.cuda import device, dispatch
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.functional import lstm_forward

BATCH, STEPS, FEATURES, UNITS = 2, 3, 4, 3


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, STEPS, FEATURES))


def on_host(values):
    if isinstance(values, (list, tuple)):
        return [on_host(value) for value in values]
    assert isinstance(values, DeviceArray)
    return values.copy_to_host()


def same(found, expected):
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def check(driver, rng, layer, x, **options):
    """Compare a call and a way back on the GPU with those on the CPU."""
    layer.build(x.shape)
    for weight in layer.weights:
        weight.value = rng.uniform(-0.5, 0.5, weight.shape)

    def there(value):
        if isinstance(value, list):
            return [there(one) for one in value]
        return Foreign(driver, value) if isinstance(value, np.ndarray) else value

    expected = layer(x, **options)
    same(on_host(layer(there(x), **{name: there(value) for name, value in options.items()})), expected)
    outputs, pull = layer.vjp(x, **options)
    found, pull_there = layer.vjp(there(x), **{name: there(value) for name, value in options.items()})
    same(on_host(found), expected)
    cotangents = [rng.normal(size=y.shape) for y in (outputs if isinstance(outputs, tuple) else [outputs])]
    wanted, gradients = pull(*cotangents), pull_there(*there(cotangents))
    same(on_host(gradients.inputs), wanted.inputs)
    same(on_host(gradients.initial_state), wanted.initial_state)
    for (name, one), (_, other) in zip(gradients.weights.items(), wanted.weights.items(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("return_state", [False, True])
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_lstm(driver, rng, x, return_sequences, return_state, time_major):
    layer = nl.LSTM(
        UNITS, return_sequences=return_sequences, return_state=return_state, time_major=time_major, dtype="float64",
        go_backwards=return_state,
    )  # fmt: skip
    state = [rng.normal(size=(STEPS if time_major else BATCH, UNITS)) for _ in range(2)]
    check(driver, rng, layer, x, mask=rng.random(x.shape[:2]) < 0.7, initial_state=state)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
def test_bidirectional(driver, rng, x, merge_mode):
    sequences = merge_mode != "sum"
    inner = nl.LSTM(
        UNITS, return_sequences=sequences, return_state=sequences, time_major=merge_mode == "mul", dtype="float64"
    )
    check(driver, rng, nl.Bidirectional(inner, merge_mode=merge_mode), x, mask=rng.random(x.shape[:2]) < 0.7)


def test_both_directions_at_once(driver, monkeypatch, rng, x):
    layer = nl.Bidirectional(nl.LSTM(UNITS, dtype="float64", return_sequences=True))
    expected = layer(x)
    stream = Stream(driver, 70)
    streams = []
    real = dispatch.device_for
    monkeypatch.setattr(dispatch, "device_for", lambda *given: streams.append(real(*given)) or streams[-1])
    found = layer(Foreign(driver, x, stream))
    same(on_host(found), expected)
    handles = [device.handle for device in streams]
    assert set(handles) == {70, streams[0].card.side.handle}
    assert found.stream == 70  # the caller need not know of the other
    monkeypatch.setattr(dispatch, "_fit", lambda *_: False)
    streams.clear()
    same(on_host(layer(Foreign(driver, x, stream))), expected)
    assert {device.handle for device in streams} == {70}


def test_what_fits_beside_each_other(driver, rng):
    limits = dispatch.device_for(None)
    layers = [nl.LSTM(units, input_shape=(None, 3)) for units in (40, 60, 80)]
    assert limits.warps == 1  # so a block holds one unit
    assert dispatch._fit(limits, layers[:2], 3)
    assert not dispatch._fit(limits, layers[1:], 3)
    assert not dispatch._fit(limits, [nl.RNN(nl.LSTMCell(3))] * 2, 3)
    for options in ({"recurrent_dropout": 0.5}, {"zoneout": (0.0, 0.1)}):
        assert not dispatch._fit(limits, [nl.LSTM(4, input_shape=(None, 3), **options)] * 2, 3)


def test_stacked(driver, rng, x):
    layer = nl.StackedLSTM(UNITS, 2, bidirectional=True, return_sequences=True, return_state=True, dtype="float64")
    check(driver, rng, layer, x, initial_state=[rng.normal(size=(4, BATCH, UNITS)) for _ in range(2)])
    check(driver, rng, nl.StackedLSTM([UNITS, 3], dtype="float64"), x)


def test_states_of_a_stateful_layer_stay_on_the_gpu(driver, rng, x):
    layer, other = (nl.LSTM(UNITS, stateful=True, dtype="float64", batch_input_shape=x.shape) for _ in range(2))
    other.set_weights(layer.get_weights())
    for _ in range(2):
        same(on_host(layer(Foreign(driver, x))), other(x))
        assert all(isinstance(state, DeviceArray) for state in layer._states)
    same(layer.states, other.states)
    same(layer(x), other(x))  # and come back with inputs of the host
    same(on_host(layer(Foreign(driver, x))), other(x))
    layer.reset_state([np.ones((BATCH, UNITS))] * 2)
    other.reset_state([np.ones((BATCH, UNITS))] * 2)
    same(on_host(layer(Foreign(driver, x))), other(x))


def test_dropout_and_learned_states(driver, rng, x):
    for options in ({"dropout": 0.5, "recurrent_dropout": 0.5}, {"learn_initial_state": True, "zoneout": (0.2, 0.3)}):
        one, other = (nl.LSTM(UNITS, seed=3, return_sequences=True, dtype="float64", **options) for _ in range(2))
        for layer in (one, other):
            layer.build(x.shape)
        other.set_weights(one.get_weights())
        expected, pull = one.vjp(x, training=True)
        found, pull_there = other.vjp(Foreign(driver, x), training=True)
        np.testing.assert_allclose(found.copy_to_host(), expected, atol=1e-6)
        ones = np.ones_like(expected)
        for a, b in zip(pull_there(Foreign(driver, ones)).weights, pull(ones).weights, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_stack_with_dropout_between_its_layers(driver, rng, x):
    one, other = (nl.StackedLSTM(UNITS, 2, dropout=0.5, seed=3, dtype="float64") for _ in range(2))
    for layer in (one, other):
        layer.build(x.shape)
    other.set_weights(one.get_weights())
    same(on_host(other(Foreign(driver, x), training=True)), one(x, training=True))


def test_out_of_a_layer(driver, x):
    layer = nl.LSTM(UNITS, return_sequences=True, time_major=True, dtype="float64")
    expected = layer(x)
    out = Foreign(driver, np.zeros(expected.shape))
    layer(Foreign(driver, x), out=out)
    same(out.data, expected)


def test_layers_that_do_not_compute_on_a_gpu_say_so(driver, x):
    there = Foreign(driver, x.astype(np.float32))
    for layer in (nl.Dense(3), nl.Masking(), nl.RNN(nl.LSTMCell(3)), nl.LSTM(3, dtype="float16"), nl.Flatten()):
        with pytest.raises(ValueError, match="lies on a GPU, where LSTM, Bidirectional and StackedLSTM compute"):
            layer(there)
    with pytest.raises(ValueError, match="inputs on the GPU must have dtype float64, got float32"):
        nl.LSTM(3, dtype="float64")(there)
    with pytest.raises(ValueError, match="sequences of a list must lie on the host"):
        nl.LSTM(3)([Foreign(driver, x[0].astype(np.float32))])
    with pytest.raises(ValueError, match=r'inputs lie on a GPU; .* device="cpu"'):
        nl.LSTM(3, device="cpu")(there)


def test_use_cudnn_takes_the_gpu(driver, x):
    layer = nl.LSTM(UNITS, use_cudnn=True, use_bias=False, dtype="float64")
    found = layer(x)
    assert driver.launches
    same(found, layer.clone(use_cudnn=False, weights=layer.get_weights(), input_shape=x.shape[1:])(x))


# ---- streams of steps


@pytest.mark.filterwarnings("ignore:.*slower NumPy reference")
@pytest.mark.parametrize("options", [{}, {"peephole": True, "proj_size": 3}, {"layer_norm": True}])
def test_a_stream_with_its_state_on_the_gpu(driver, rng, x, options):
    layer = nl.LSTM(UNITS, dtype="float64", input_shape=x.shape[1:], return_sequences=True, **options)
    expected = layer(x)
    stream = layer.stream(BATCH, device="cuda")
    for t in range(STEPS):
        same(stream.step(x[:, t]), expected[:, t])
    stream.reset()
    for t in range(STEPS):
        found = stream.step(Foreign(driver, x[:, t].copy()))
        same(on_host(found), expected[:, t])
    stream.reset()
    same(stream.run(x), expected)
    stream.reset()
    same(on_host(stream.run(Foreign(driver, x))), expected)


def test_snapshots_and_states_of_a_stream(driver, rng, x):
    layer = nl.StackedLSTM([UNITS, 3], dtype="float64", input_shape=x.shape[1:], return_sequences=True)
    there, host = layer.stream(BATCH, device="cuda"), layer.stream(BATCH)
    for t in range(2):
        same(there.step(x[:, t]), host.step(x[:, t]))
    snapshot = there.snapshot()
    same(there.states, host.states)
    following = [np.array(there.step(x[:, t])) for t in (2, 0, 1)]
    there.restore(snapshot)
    for t, wanted in zip((2, 0, 1), following, strict=True):
        np.testing.assert_array_equal(there.step(x[:, t]), wanted)
    host.restore(snapshot)  # fits a stream on the CPU too
    same(host.step(x[:, 2]), following[0])
    out = Foreign(driver, np.zeros((BATCH, 3)))
    there.restore(snapshot)
    there.step(Foreign(driver, x[:, 2].copy()), out=out)
    same(out.data, following[0])
    again = np.zeros((BATCH, 3))
    there.restore(snapshot)
    assert there.step(x[:, 2], out=again) is again
    same(again, following[0])


def test_steps_are_graphs_and_weights_are_uploaded_once(driver, monkeypatch, rng, x):
    layer = nl.LSTM(UNITS, dtype="float64", input_shape=x.shape[1:])
    stream, kept = layer.stream(BATCH, device="cuda"), []
    state = [np.zeros((BATCH, UNITS))] * 2
    real = device.Device.keep
    monkeypatch.setattr(device.Device, "keep", lambda self, array: kept.append(1) or real(self, array))
    for number in range(12):
        if number == 6:
            assert driver.graphs_launched == 4
            assert not kept
            layer.set_weights([2 * weight for weight in layer.get_weights()])
        t = number % STEPS
        expected = lstm_forward(x[:, t : t + 1], layer.parameters, initial_state=state, return_sequences=False)
        state = expected[1:]
        same(stream.step(x[:, t]), expected.outputs)
    assert kept


def test_what_no_stream_on_the_gpu_takes(driver):
    model = nl.Sequential([nl.LSTM(3, input_shape=(None, 2), return_sequences=True), nl.Dense(2)])
    with pytest.raises(ValueError, match=r'a stream with device="cuda" takes LSTM layers alone, and Dense .* is none'):
        model.stream(device="cuda")
    with pytest.raises(ValueError, match="no 16-bit policy"):
        nl.LSTM(3, input_shape=(None, 2), dtype="float16").stream(device="cuda")
    with pytest.raises(ValueError, match="Stream: device must be one of 'cpu', 'cuda', got 'gpu'"):
        nl.LSTM(3, input_shape=(None, 2)).stream(device="gpu")
    stream = nl.LSTM(3, input_shape=(None, 2)).stream(2)
    with pytest.raises(ValueError, match="lies on a GPU, where"):
        stream.step(Foreign(driver, np.zeros((2, 2), np.float32)))
    stream = nl.LSTM(3, input_shape=(None, 2)).stream(2, device="cuda")
    with pytest.raises(ValueError, match=r"the step must have shape \(2, 2\), got \(3, 2\)"):
        stream.step(Foreign(driver, np.zeros((3, 2), np.float32)))
    with pytest.raises(ValueError, match=r"out must have shape \(2, 3\), got \(2, 2\)"):
        stream.step(*(Foreign(driver, np.zeros((2, 2), np.float32)) for _ in range(2)))
