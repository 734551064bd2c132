"""Recorded passes of the compiled kernels beside those of the equations in NumPy."""

import numpy as np

from numbalstm.backends import compiled_tape, reference_backward

TOLERANCE = {"float64": 3e-13, "float32": 2e-5}


def normal(rng, *shape, dtype="float64"):
    return (rng.standard_normal(shape) * 0.5).astype(dtype)


def factors(rng, *shape, dtype="float64"):
    return ((rng.random(shape) < 0.7) / 0.7).astype(dtype)


def parts(gradients):
    """Everything of the gradients as flat pairs of a name and an array."""
    x = gradients.x if isinstance(gradients.x, list) else [gradients.x]
    return [*(("x", row) for row in x), ("h", gradients.h), ("c", gradients.c), *gradients.parameters.items()]


def arrays_like(rng, outputs):
    if isinstance(outputs, list):
        return [normal(rng, *row.shape, dtype=row.dtype) for row in outputs]
    return normal(rng, *outputs.shape, dtype=outputs.dtype)


def worst(found, expected):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(found, expected, strict=True))
    pairs = zip(found, expected, strict=True)
    return max(
        float(np.max(np.abs(a.astype(float) - b), initial=0)) / max(1.0, np.max(np.abs(b), initial=0)) for a, b in pairs
    )


def check(rng, asked, dtype="float64", slack=1):
    """A request's results and gradients are those of the reference, with and without checkpoints."""
    forward, tape = compiled_tape.record(asked, None)
    expected, reference = reference_backward.record(asked, None)
    flat = [[*r.outputs, r.h, r.c] for r in (forward, expected)]
    assert worst(*flat) < slack * TOLERANCE[dtype]
    cotangents = arrays_like(rng, expected.outputs), arrays_like(rng, expected.h), arrays_like(rng, expected.c)
    found = parts(tape.pullback(*cotangents))
    wanted = parts(reference.pullback(*cotangents))
    assert [name for name, _ in found] == [name for name, _ in wanted]
    assert worst((a for _, a in found), (a for _, a in wanted)) < slack * TOLERANCE[dtype]
    for every in (1, 3):
        again, checkpointed = compiled_tape.record(asked, every)
        assert all(np.array_equal(a, b) for a, b in zip(list(again.outputs), list(forward.outputs), strict=True))
        for (name, a), (_, b) in zip(parts(checkpointed.pullback(*cotangents)), found, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
    return forward, found
