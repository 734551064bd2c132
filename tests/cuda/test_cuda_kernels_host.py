"""The host side of the GPU: streams, memory, graphs and layers, on a simulated driver."""

from types import SimpleNamespace

import numpy as np
import pytest
from simulated_driver import Foreign, Stream
from simulated_requests import make_request
from support.cases import holes, make_parameters, make_state

import numbalstm as nl
from numbalstm.backends.cuda import arrays, device, presence, replay, toolchain
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.problem import settle
from numbalstm.backends.cuda.replay import fingerprint
from numbalstm.backends.interface import DeviceUnavailableError
from numbalstm.functional import lstm_backward, lstm_forward
from numbalstm.kernels.cuda.elementwise import make_elementwise
from numbalstm.parameters import LSTMParameters

BATCH, STEPS, FEATURES, UNITS = 3, 5, 4, 6


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, STEPS, FEATURES))


@pytest.fixture
def parameters(rng):
    return make_parameters(rng, FEATURES, UNITS)


def close(found, expected):
    np.testing.assert_allclose(found.copy_to_host(), expected, rtol=1e-12, atol=1e-12)


def test_a_pass_of_arrays_on_the_gpu(driver, rng, x, parameters):
    state, mask = make_state(rng, parameters, BATCH), holes(rng, BATCH, STEPS)
    expected = lstm_forward(x, parameters, initial_state=state, mask=mask, tape=True, device="cpu")
    there = [Foreign(driver, part) for part in state]
    found = lstm_forward(Foreign(driver, x), parameters, initial_state=there, mask=Foreign(driver, mask), tape=True)
    for one, other in zip(found, expected, strict=True):
        close(one, other)
    cotangents = [rng.normal(size=part.shape) for part in expected]
    wanted = lstm_backward(cotangents[0], expected.tape, d_h=cotangents[1], d_c=cotangents[2])
    d_outputs, d_h, d_c = (Foreign(driver, part) for part in cotangents)
    gradients = lstm_backward(d_outputs, found.tape, d_h=d_h, d_c=d_c)
    for one, other in zip(gradients[:3], wanted[:3], strict=True):
        close(one, other)
    for name, value in wanted.parameters.items():
        np.testing.assert_allclose(gradients.parameters[name], value, rtol=1e-12, atol=1e-12)


# ---- streams


def test_a_pass_runs_on_the_stream_that_the_inputs_name(driver, x, parameters):
    stream = Stream(driver, 77)
    found = lstm_forward(Foreign(driver, x, stream), parameters)
    assert found.outputs.stream == found.h.stream == 77
    assert found.outputs.__cuda_array_interface__["stream"] == 77
    close(found.outputs, lstm_forward(x, parameters, device="cpu").outputs)


@pytest.mark.parametrize("given", ["handle", "cuda.core", "cupy", "torch"])
def test_a_pass_runs_on_the_stream_of_the_caller(driver, x, parameters, given):
    stream = Stream(driver, 78)
    names = {"cupy": {"ptr": 78}, "torch": {"cuda_stream": 78}}
    named = {"handle": 78, "cuda.core": stream}.get(given) or SimpleNamespace(**names[given])
    other = Stream(driver, 79)
    found = lstm_forward(Foreign(driver, x, other), parameters, stream=named, tape=True)
    assert found.c.stream == 78
    third = Stream(driver, 80)
    gradients = lstm_backward(Foreign(driver, np.ones((BATCH, STEPS, UNITS)), third), found.tape, stream=third)
    assert gradients.x.stream == 80


def test_what_is_no_stream(driver, x, parameters):
    for stream in ("default", -1, True, 1.0):
        with pytest.raises(TypeError, match="lstm_forward: stream must be the handle of a CUDA stream"):
            lstm_forward(x, parameters, stream=stream)
    assert lstm_forward(Foreign(driver, x), parameters, stream=0).c.stream == 1


def test_missing_waits_are_noticed(driver, monkeypatch, x, parameters):
    monkeypatch.setattr(Stream, "wait", lambda self, other: None)
    lstm_forward(Foreign(driver, x, Stream(driver, 90)), parameters, stream=91)
    assert "stream 91 reads what stream 90 writes" in driver.problems
    driver.problems.clear()


def test_memory_that_comes_back_is_not_used_too_early(driver, rng, parameters):
    """Arrays of the caller die at once, and so do those of our own passes."""
    streams = [Stream(driver, 60 + number) for number in range(3)]
    for number in range(6):
        x = Foreign(driver, rng.normal(size=(BATCH, STEPS, FEATURES)), streams[number % 3])
        found = lstm_forward(x, parameters, stream=61, tape=True)
        lstm_backward(found.outputs, found.tape, stream=streams[number % 2])


def test_the_stream_of_the_caller_waits_for_the_pass(driver, x, parameters):
    theirs = Stream(driver, 64)
    there = Foreign(driver, x, theirs)
    lstm_forward(there, parameters, stream=65)
    driver.written(there.block, theirs, theirs.now())  # as a caller that goes on at once


def test_weights_are_freed_behind_the_passes_that_read_them(driver, x, rng):
    parameters = make_parameters(rng, FEATURES, UNITS)
    lstm_forward(Foreign(driver, x), parameters, stream=66)
    parameters.packed.clear()


def test_what_another_stream_made_is_freed_on_the_stream_that_took_it_over(driver, rng, x, monkeypatch):
    monkeypatch.setattr(replay, "LARGEST", 0)  # nothing is kept for later passes
    layer = nl.Bidirectional(nl.LSTM(UNITS, dtype="float64", time_major=True, return_sequences=True), merge_mode=None)
    _, backward = layer(Foreign(driver, x, Stream(driver, 67)))
    copied = backward.copy()
    del backward
    assert copied.stream == 67


def test_weights_are_uploaded_once_for_all_streams(driver, monkeypatch, x, parameters):
    kept = []
    real = device.Device.keep
    monkeypatch.setattr(device.Device, "keep", lambda self, array: kept.append(1) or real(self, array))
    for stream in (1, 50, 51):
        lstm_forward(Foreign(driver, x), parameters, stream=stream)
        count = len(kept)
    assert count == len(kept) > 0
    fresh = len(kept)
    lstm_forward(Foreign(driver, x), parameters, stream=52)
    assert len(kept) == fresh


# ---- out=


@pytest.mark.parametrize("return_sequences", [False, True])
def test_outputs_into_memory_of_the_caller(driver, x, parameters, return_sequences):
    expected = lstm_forward(x, parameters, return_sequences=return_sequences, device="cpu").outputs
    out = Foreign(driver, np.full(expected.shape, np.nan))
    found = lstm_forward(Foreign(driver, x), parameters, out=out, return_sequences=return_sequences).outputs
    assert found.pointer == out.block.start
    close(found, expected)
    wide = Foreign(driver, np.full((*expected.shape[:-1], UNITS + 3), np.nan))
    part = arrays.view("", "", wide, None)[..., 1 : 1 + UNITS]
    lstm_forward(Foreign(driver, x), parameters, out=part, return_sequences=return_sequences)
    np.testing.assert_allclose(wide.data[..., 1 : 1 + UNITS], expected, rtol=1e-12)
    assert np.isnan(wide.data[..., 0]).all()
    assert np.isnan(wide.data[..., 1 + UNITS :]).all()


def test_gradients_into_memory_of_the_caller(driver, x, parameters):
    found = lstm_forward(Foreign(driver, x), parameters, tape=True)
    wanted = lstm_backward(None, found.tape, d_h=np.ones((BATCH, UNITS))).x.copy_to_host()
    out = Foreign(driver, np.zeros(x.shape))
    lstm_backward(None, found.tape, d_h=np.ones((BATCH, UNITS)), out=out)
    np.testing.assert_array_equal(out.data, wanted)
    host, out = lstm_forward(x, parameters, tape=True, device="cpu"), np.zeros(x.shape)
    assert lstm_backward(None, host.tape, d_h=np.ones((BATCH, UNITS)), out=out).x is out
    np.testing.assert_allclose(out, wanted, rtol=1e-12, atol=1e-12)


def test_what_is_no_place_for_outputs(driver, x, parameters):
    there, shape = Foreign(driver, x), (BATCH, STEPS, UNITS)
    read_only = Foreign(driver, np.zeros(shape))
    read_only.__cuda_array_interface__["data"] = (read_only.block.start, True)
    narrow = Foreign(driver, np.zeros((*shape[:2], FEATURES)))
    for out, message in (
        (np.zeros(shape), "inputs lie on a GPU, out does not"),
        (read_only, "out must be a writeable array of dtype float64, got .*read-only"),
        (narrow, r"out must have shape \(3, 5, 6\), got \(3, 5, 4\)"),
        (Foreign(driver, np.zeros(shape, np.float32)), "out on the GPU must have dtype float64"),
    ):
        with pytest.raises(ValueError, match=message):
            lstm_forward(there, parameters, out=out)
    with pytest.raises(ValueError, match="out lies on a GPU, inputs do not"):
        lstm_forward(x, parameters, out=Foreign(driver, np.zeros(shape)))
    square = LSTMParameters(*(np.zeros((UNITS, 4 * UNITS)) for _ in range(2)))
    same = Foreign(driver, np.zeros(shape))
    with pytest.raises(ValueError, match="out must not share memory with inputs"):
        lstm_forward(same, square, out=same)


def test_cotangents_lie_where_the_inputs_did(driver, x, parameters):
    host = lstm_forward(x, parameters, tape=True, device="cpu")
    with pytest.raises(ValueError, match="d_outputs, d_h or d_c lies on a GPU, inputs did not"):
        lstm_backward(Foreign(driver, np.ones((BATCH, STEPS, UNITS))), host.tape)


# ---- graphs


def test_launches_that_come_again_are_a_graph(driver, rng, parameters):
    inputs = [rng.normal(size=(BATCH, STEPS, FEATURES)) for _ in range(6)]
    expected = [lstm_forward(x, parameters, device="cpu").outputs for x in inputs]
    for x, wanted in zip(inputs, expected, strict=True):
        close(lstm_forward(Foreign(driver, x), parameters).outputs, wanted)
    assert driver.graphs_launched == 5
    held = [lstm_forward(Foreign(driver, x), parameters).outputs for x in inputs]  # none of the memory comes back
    for found, wanted in zip(held, expected, strict=True):
        close(found, wanted)


def test_graphs_of_training(driver, rng, x, parameters):
    d_outputs = rng.normal(size=(BATCH, STEPS, UNITS))
    host = lstm_forward(x, parameters, tape=True, device="cpu")
    wanted, there = lstm_backward(d_outputs, host.tape), Foreign(driver, d_outputs)
    for _ in range(4):
        found = lstm_forward(Foreign(driver, x), parameters, tape=True)
        gradients = lstm_backward(there, found.tape)
        close(gradients.x, wanted.x)
        np.testing.assert_allclose(gradients.parameters["kernel"], wanted.parameters["kernel"], rtol=1e-11, atol=1e-12)
    assert driver.graphs_launched == 4  # of both directions, in the third and fourth round: tapes take turns
    other = lstm_forward(Foreign(driver, 2 * x), parameters, tape=True)
    close(lstm_backward(Foreign(driver, d_outputs), found.tape).x, wanted.x)  # an older tape still holds its numbers
    close(other.outputs, lstm_forward(2 * x, parameters, device="cpu").outputs)


def test_a_graph_follows_new_weights_sizes_and_options(driver, rng, parameters):
    for batch, options in ((2, {}), (3, {}), (2, {"go_backwards": True}), (2, {"return_sequences": False})):
        for _ in range(3):
            x = rng.normal(size=(batch, STEPS, FEATURES))
            for weights in (parameters, make_parameters(rng, FEATURES, UNITS)):
                expected = lstm_forward(x, weights, device="cpu", **options).outputs
                close(lstm_forward(Foreign(driver, x), weights, **options).outputs, expected)
    assert driver.graphs_launched


def test_a_driver_that_does_not_capture_launches_one_by_one(driver, x, parameters):
    driver.captures = False
    expected = lstm_forward(x, parameters, device="cpu").outputs
    for _ in range(3):
        close(lstm_forward(Foreign(driver, x), parameters).outputs, expected)
    assert driver.graphs_launched == 0


def test_memory_made_during_a_capture_lives_as_long_as_the_graph(driver):
    found = device.get()
    target = found.upload(np.ones(4))
    kernel = make_elementwise("float64", "sum", 1.0, 32)

    def body(where, values):
        room = where.empty((4,), "float64")
        for a, b in ((values, room), (room, values)):
            operands = (a.at(), 0, 0, 1, a.at(), 0, 0, 1, b.at(), 0, 0, 1)
            where.launch(kernel, 1, *operands, 1, 1, 4)

    for _ in range(4):
        found.replay(body, found, target)
        found.finish()
        found.zeros((4,), "float64")
    assert driver.graphs_launched == 3
    np.testing.assert_array_equal(target.copy_to_host(), np.full(4, 4.0**4))


def test_a_body_that_copies_is_no_graph(driver):
    found = device.get()
    target = found.upload(np.ones(4))
    for _ in range(3):
        found.replay(lambda where, values: where.write(values, np.zeros(4)), found, target)
    assert driver.graphs_launched == 0
    np.testing.assert_array_equal(target.copy_to_host(), 0)
    assert found.card.graphs  # others still are


def test_what_launches_depend_on(x, parameters):
    relu = {"activation": nl.activations.get("relu")}
    kinds = (({}, False), ({}, True), ({"return_sequences": False}, False), (relu, False))
    problems = [settle(make_request(x, parameters, **changes), record) for changes, record in kinds]
    assert len({fingerprint(problem) for problem in problems}) == len(problems)
    one = DeviceArray(64, (2, 3), "f8", 0, None)
    assert fingerprint((one, 3, "a", None)) == (((64, (2, 3), (3, 1))), 3, "a", None)
    assert fingerprint(one) != fingerprint(DeviceArray(72, (2, 3), "f8", 0, None))
    assert fingerprint(SimpleNamespace(a=[one])) == ((fingerprint(one),),)
    with pytest.raises(TypeError):
        fingerprint(np.zeros(3))


# ---- errors


def test_too_little_memory_is_one_clear_error(driver, x, parameters):
    there = Foreign(driver, x)
    lstm_forward(there, parameters)
    driver.room = 0
    driver.pool.clear()
    with pytest.raises(MemoryError, match="simulated GPU has too little free memory for 0 MB more: take fewer"):
        lstm_forward(there, make_parameters(np.random.default_rng(0), FEATURES, 50))


def test_memory_that_was_kept_is_given_up_first(driver, x, parameters):
    for _ in range(3):
        lstm_forward(Foreign(driver, x), parameters)
    kept = device.get()
    before = driver.room
    kept.forget()
    assert driver.room > before


def test_a_gpu_that_is_too_old(driver, monkeypatch, x, parameters):
    monkeypatch.setattr(presence, "capability", lambda number: (7, 5))
    with pytest.raises(DeviceUnavailableError, match=r"GPU 0: the GPU has compute capability 7\.5"):
        lstm_forward(Foreign(driver, x), parameters)


def test_machine_code_that_the_driver_refuses_is_made_again(driver, monkeypatch, x, parameters):
    made = []

    def rebuilt(kernel, capability):
        made.append(kernel.name)
        return toolchain.Cubin(kernel._replace(), "entry", 0, 0, 0)

    def built(kernel, capability):
        driver.refused.add(id(kernel))
        made.append(kernel)
        return toolchain.Cubin(kernel, "entry", 0, 0, 0)

    monkeypatch.setattr(toolchain, "built", built)
    monkeypatch.setattr(toolchain, "rebuilt", rebuilt)
    close(lstm_forward(Foreign(driver, x), parameters).outputs, lstm_forward(x, parameters, device="cpu").outputs)
    assert "gather" in made


def test_a_kernel_is_loaded_once(driver, monkeypatch, x, parameters):
    built, loaded = toolchain.built, []
    monkeypatch.setattr(toolchain, "built", lambda kernel, cc: loaded.append(kernel.name) or built(kernel, cc))
    for _ in range(2):
        lstm_forward(Foreign(driver, x), parameters)
    assert len(loaded) == len(set(loaded))


# ---- arrays


def test_views(driver, rng):
    values = rng.normal(size=(3, 4, 5))
    there = device.get().upload(values)
    whole, backwards = slice(None), slice(None, None, -1)
    for key in (1, -1, (whole, 2), (..., slice(1, 4)), (backwards, ..., slice(4, None, -2)), (0, 1, 2)):
        np.testing.assert_array_equal(there[key].copy_to_host(), values[key])
    np.testing.assert_array_equal(there.swapaxes(0, 1).copy_to_host(), values.swapaxes(0, 1))
    np.testing.assert_array_equal(there.T.copy_to_host(), values.T)
    np.testing.assert_array_equal(np.flip(there, 1).copy_to_host(), np.flip(values, 1))
    np.testing.assert_array_equal(there[:, ::2].copy().copy_to_host(), values[:, ::2])
    computed, wanted = there[1:] * there[:2] + there[0:2] / 4, values[1:] * values[:2] + values[:2] / 4
    np.testing.assert_array_equal(computed.copy_to_host(), wanted)
    np.testing.assert_array_equal((there * values).copy_to_host(), values * values)
    there[:, 1] = 7
    there[0] = there[1]
    values[:, 1] = 7
    values[0] = values[1]
    np.testing.assert_array_equal(there.copy_to_host(), values)
    for key in (3, (0, 0, 0, 0), "x", None):
        with pytest.raises(IndexError):
            there[key]
    with pytest.raises(TypeError, match="copy_to_host"):
        np.asarray(there)
    with pytest.raises(ValueError, match="must be alike"):
        there + there[:1]
    assert [part.shape for part in there] == [(4, 5)] * 3
    empty = device.get().upload(values[:0])
    assert (empty + empty).copy_to_host().shape == (0, 4, 5)
