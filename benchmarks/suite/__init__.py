"""Sizes, seeded data, pinned threads, and plain NumPy to check against."""

import inspect
import os
import sys
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before NumPy is imported: BLAS reads them once

import numpy as np  # noqa: E402

import numbalstm as nl  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "compare"))

import cases  # noqa: E402

# batch, time, features, units: one sequence for latency, a full batch for throughput, and odd numbers
LATENCY = (1, 100, 32, 128)
THROUGHPUT = (64, 100, 64, 256)
ODD = (13, 37, 5, 67)


def data(size, dtype):
    """Return inputs (batch, time, features) and [kernel, recurrent_kernel, bias], seeded by the size."""
    batch, time, features, units = size
    rng = np.random.default_rng(size)
    shapes = ((batch, time, features), (features, 4 * units), (units, 4 * units), (4 * units,))
    scales = (1.0, features**-0.5, units**-0.5, 0.1)
    x, *weights = ((scale * rng.normal(size=shape)).astype(dtype) for scale, shape in zip(scales, shapes, strict=True))
    return x, weights


def expected(x, weights):
    """Return the outputs of all steps, (batch, time, units): the equations in NumPy and float64."""
    return cases.forward(x, *(np.asarray(weight, np.float64) for weight in weights))


def gradients(x, weights, dy):
    """Return the gradients of x and the weights for cotangents of all outputs, in NumPy and float64."""
    return cases.gradients(*(np.asarray(array, np.float64) for array in (x, *weights, dy)))


def layer(weights, dtype, **arguments):
    """Return a built LSTM that holds the weights."""
    features, units = weights[0].shape[0], weights[1].shape[0]
    return nl.LSTM(units, dtype=dtype, input_shape=(None, features), weights=weights, **arguments)


TOLERANCES = {"float64": 1e-10, "float32": 2e-5, "bfloat16": 2e-2, "int8": 5e-2}


def check(found, wanted, dtype):
    """Stop the benchmark when the result that it is about to time is wrong."""
    tolerance = TOLERANCES[dtype]
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def needs(*options):
    """Skip the benchmark where `LSTM` does not take these arguments: an older commit."""
    if missing := set(options) - set(inspect.signature(nl.LSTM.__init__).parameters):
        raise NotImplementedError(f"LSTM takes no {', '.join(sorted(missing))}")


def use_threads(count):
    """Pin the number of threads; skip the benchmark on a machine with fewer cores."""
    if count > (os.cpu_count() or 1):
        raise NotImplementedError("not so many cores here")
    nl.set_threads(count)
