"""Requests run on the simulated device and on the reference, forward and backward."""

import numpy as np
from simulated_device import SimulatedDevice

from numbalstm import activations
from numbalstm.backends import reference, reference_backward
from numbalstm.backends.cuda import passes
from numbalstm.backends.interface import Request, Variant
from numbalstm.parameters import LSTMParameters, Norm

DEFAULTS = {
    "initial_state": None,
    "mask": None,
    "activation": activations.get("tanh"),
    "recurrent_activation": activations.get("sigmoid"),
    "return_sequences": True,
    "go_backwards": False,
    "zero_output_for_mask": False,
    "dropout_masks": None,
    "out": None,
    "threads": None,
}


def make_request(x, parameters, **changes):
    return Request(x, parameters, **(DEFAULTS | changes))


def in_double(request):
    """Return a request with all of its numbers in float64: what the reference computes from."""

    def double(value):
        if isinstance(value, np.ndarray):
            return value if value.dtype == bool else value.astype(np.float64)
        if isinstance(value, Variant):
            return value._replace(zoneout=double(value.zoneout))
        if isinstance(value, Norm):
            return Norm(*map(double, value))
        return type(value)(map(double, value)) if type(value) in (list, tuple) else value

    parameters = request.parameters
    names = ("kernel", "recurrent_kernel", "bias", "peephole_kernel", "projection_kernel")
    kernel, recurrent_kernel, bias, peepholes, projection = (double(getattr(parameters, name)) for name in names)
    doubled = LSTMParameters(
        kernel, recurrent_kernel, bias, peephole_kernel=peepholes, projection_kernel=projection,
        norm=double(parameters.norm),
    )  # fmt: skip
    return Request(*(doubled if value is parameters else double(value) for value in request))


def distance(found, expected):
    """Return the largest difference relative to the largest expected number."""
    if isinstance(expected, list):
        return max((distance(f, e) for f, e in zip(found, expected, strict=True)), default=0.0)
    assert found.shape == expected.shape
    if not expected.size:
        return 0.0
    return float(np.abs(found.astype(np.float64) - expected).max() / max(1.0, np.abs(expected).max()))


def draw(rng, like):
    return (
        [draw(rng, one) for one in like] if isinstance(like, list) else rng.normal(size=like.shape).astype(like.dtype)
    )


def differences(rng, request, device=None, backward=True, once=False):
    """Return, by name, how far the simulated device is from the float64 reference; `once`: only with a tape."""
    device = device or SimulatedDevice()
    double = in_double(request)
    expected = reference.forward(double)
    found = {}
    if not once:
        plain = passes.forward(device, request)
        found = {name: distance(getattr(plain, name), getattr(expected, name)) for name in ("outputs", "h", "c")}
    if not backward:
        return found
    recorded, tape = passes.record(device, request)
    found["recorded"] = distance(recorded.outputs, expected.outputs)
    cotangents = draw(rng, recorded.outputs), draw(rng, recorded.h), draw(rng, recorded.c)
    _, expected_tape = reference_backward.record(double, None)
    if not once:
        tape.pullback(*cotangents)  # a tape can be used again
    gradients, expected = tape.pullback(*cotangents), expected_tape.pullback(*cotangents)
    assert set(gradients.parameters) == set(expected.parameters)
    for name, value in expected.parameters.items():
        found[name] = distance(gradients.parameters[name], value)
    found |= {f"d_{name}": distance(getattr(gradients, name), getattr(expected, name)) for name in ("x", "h", "c")}
    return found


def assert_close(found, tolerance):
    assert all(value < tolerance for value in found.values()), found
