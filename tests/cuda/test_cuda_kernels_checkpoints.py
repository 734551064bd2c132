"""Passes that keep the states of some steps only: the same bits as those that keep everything, and less memory."""

import numpy as np
import pytest
from simulated_device import SimulatedArray, SimulatedDevice
from simulated_driver import Foreign, Stream
from simulated_requests import draw, make_request
from support.cases import holes, make_parameters, make_state

from numbalstm import activations
from numbalstm.backends.cuda import choice, passes
from numbalstm.backends.interface import Variant
from numbalstm.functional import lstm_backward, lstm_forward

BATCH, STEPS, FEATURES, UNITS = 2, 5, 3, 4


def requests(rng):
    def parameters(dtype=np.float64, **options):
        return make_parameters(rng, FEATURES, UNITS, dtype, **options)

    def x(dtype=np.float64):
        return rng.normal(size=(BATCH, STEPS, FEATURES)).astype(dtype)

    zones = tuple(rng.choice([0.0, 1.0], (2, BATCH, STEPS, UNITS)))
    factors = rng.choice([0.0, 1.25], (4, BATCH, FEATURES)), rng.choice([0.0, 1.25], (BATCH, UNITS))
    projected, narrow = parameters(peephole=True, projection=3, norm=True), parameters(np.float32)
    return {
        "plain": make_request(x(), parameters()),
        "last output": make_request(x(), parameters(), return_sequences=False, go_backwards=True),
        "everything": make_request(
            x(), projected, mask=holes(rng, BATCH, STEPS), initial_state=make_state(rng, projected, BATCH),
            activation=activations.get("softmax"), variant=Variant(cell_clip=0.6, projection_clip=0.3),
        ),
        "zoneout": make_request(
            x(), parameters(peephole=True), variant=Variant(zoneout=zones), dropout_masks=factors, go_backwards=True
        ),
        "list": make_request([x()[0], x()[0, :2]], parameters(), go_backwards=True),
        "grid": make_request(
            x(np.float32), narrow, mask=holes(rng, BATCH, STEPS), initial_state=make_state(rng, narrow, BATCH)
        ),
    }  # fmt: skip


def results(tape, cotangents):
    gradients = tape.pullback(*cotangents)
    return [*(gradients.x if isinstance(gradients.x, list) else [gradients.x]), gradients.h, gradients.c], {
        name: gradients.parameters[name] for name in sorted(gradients.parameters)
    }


@pytest.mark.parametrize("name", requests(np.random.default_rng(0)))
def test_the_same_bits(rng, name):
    request = requests(rng)[name]
    whole, tape = passes.record(SimulatedDevice(), request)
    cotangents = draw(rng, whole.outputs), draw(rng, whole.h), draw(rng, whole.c)
    expected = results(tape, cotangents)
    for every in (2, 5):
        device = SimulatedDevice()
        found, kept = passes.record(device, request, every)
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))
        for _ in range(2):
            ours = results(kept, cotangents)
            for one, other in zip(ours[0], expected[0], strict=True):
                np.testing.assert_array_equal(one, other)
            for key, value in expected[1].items():
                np.testing.assert_array_equal(ours[1][key], value, err_msg=key)
        assert name != "grid" or {"grid", "grid_backward"} <= set(device.launches)
        assert (kept.nbytes < tape.nbytes) == (every == 2)


def test_the_memory_is_that_of_the_states_between_the_parts(rng):
    request = requests(rng)["plain"]
    device = SimulatedDevice()
    _, tape = passes.record(device, request)
    each = BATCH * UNITS * 8
    assert tape.nbytes == BATCH * STEPS * FEATURES * 8 + (4 * STEPS + 2 * (STEPS + 1)) * each
    for every, states in ((1, 4), (2, 2), (4, 1)):
        assert passes.record(device, request, every)[1].nbytes == states * 2 * each


def test_products_are_computed_as_those_of_the_whole_pass(rng, monkeypatch):
    parameters = make_parameters(rng, 16, 32, np.float32)
    request = make_request(rng.normal(size=(1, 3, 16)).astype(np.float32), parameters)
    monkeypatch.setattr(choice, "tuned", lambda m, n, k: m == 3)
    device = SimulatedDevice()
    whole, _ = passes.record(device, request)
    assert "gemm" in device.launches
    device.launches.clear()
    found, _ = passes.record(device, request, 1)
    assert device.launches.count("gemm") == 3
    np.testing.assert_array_equal(found.outputs, whole.outputs)


def test_what_lies_on_the_device_stays_there(rng):
    request = requests(rng)["plain"]
    there = request._replace(x=SimulatedArray(request.x.copy()))
    device = SimulatedDevice()
    expected, expected_tape = passes.record(device, request)
    found, tape = passes.record(device, there, 2)
    np.testing.assert_array_equal(found.outputs.data, expected.outputs)
    ones = np.ones_like(expected.outputs)
    gradients, wanted = tape.pullback(SimulatedArray(ones), None, None), expected_tape.pullback(ones, None, None)
    np.testing.assert_array_equal(gradients.x.data, wanted.x)
    np.testing.assert_array_equal(gradients.parameters["kernel"], wanted.parameters["kernel"])


def test_masks_and_streams_of_the_caller(driver, rng):
    """A mask that lies on the GPU, another stream for the way back, and launches that come again as graphs."""
    parameters, x = make_parameters(rng, FEATURES, UNITS), rng.normal(size=(BATCH, STEPS, FEATURES))
    mask, d_outputs = holes(rng, BATCH, STEPS), rng.normal(size=(BATCH, STEPS, UNITS))
    host = lstm_forward(x, parameters, mask=mask, tape=True, device="cpu")
    wanted = lstm_backward(d_outputs, host.tape)
    for stream in (None, None, Stream(driver, 91)):
        found = lstm_forward(
            Foreign(driver, x), parameters, mask=Foreign(driver, mask), tape=True, checkpoint_every=2
        )  # fmt: skip
        gradients = lstm_backward(Foreign(driver, d_outputs), found.tape, stream=stream)
        np.testing.assert_allclose(found.outputs.copy_to_host(), host.outputs, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(gradients.x.copy_to_host(), wanted.x, rtol=1e-12, atol=1e-12)
        for name, value in wanted.parameters.items():
            np.testing.assert_allclose(gradients.parameters[name], value, rtol=1e-12, atol=1e-12)
