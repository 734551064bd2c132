"""The vector elementary functions against NumPy's in extended precision."""

import math

import numpy as np
import pytest
from numba import njit

from numbalstm.kernels import elementary
from numbalstm.kernels.memory import item_size, lane_count, load, store
from numbalstm.kernels.simd import Tile

EXACT = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": np.vectorize(math.erf, otypes=[np.longdouble]),
}
SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 88.5, -95.0, -103.0, 700.0, -745.0, 1e30, -1e30, 89.0, -87.5]


def on_vectors(name, x, lanes):
    function = getattr(elementary, name)

    @njit
    def run(tile, source, target, count):
        step = lane_count(tile) * item_size(tile)
        for n in range(count // lane_count(tile)):
            store(tile, target + n * step, function(load(tile, source + n * step)))

    padded = np.concatenate([x, np.zeros(-len(x) % lanes, x.dtype)])
    y = np.empty_like(padded)
    run(Tile(x.dtype, lanes, 1), padded.ctypes.data, y.ctypes.data, len(padded))
    return y[: len(x)]


def arguments(name, dtype, rng):
    x = np.concatenate([rng.uniform(-20, 20, 999), rng.uniform(-1e-3, 1e-3, 333), SPECIAL]).astype(dtype)
    return np.abs(x) if name == "log1p" else x


@pytest.mark.parametrize(("dtype", "lanes"), [("float32", 4), ("float32", 16), ("float64", 8)])
@pytest.mark.parametrize("name", EXACT)
def test_vectors_are_within_two_units_in_the_last_place(name, dtype, lanes, rng):
    x = arguments(name, dtype, rng)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.longdouble))
        rounded = exact.astype(dtype)
    info = np.finfo(dtype)
    y = on_vectors(name, x, lanes)

    regular = np.isfinite(rounded) & (np.abs(rounded) > info.tiny)
    assert np.abs((y[regular] - exact[regular]) / exact[regular]).max() < 2 * info.eps
    assert np.array_equal(np.isnan(y), np.isnan(rounded))
    assert np.array_equal(y[np.isinf(rounded)], rounded[np.isinf(rounded)])
    tiny = np.abs(rounded) <= info.tiny
    assert np.abs(y[tiny] - rounded[tiny]).max() <= 2 * info.tiny


@pytest.mark.parametrize("name", EXACT)
def test_arrays_keep_their_dtype_and_warn_of_nothing(name, rng):
    x = arguments(name, "float32", rng)
    y = getattr(elementary, name)(x[~np.isnan(x)])
    assert y.dtype == np.float32


def test_tanh_keeps_the_relative_precision_of_small_numbers():
    x = np.array([1e-30, -3e-20, 1e-8, -1e-5] * 4, np.float32)
    np.testing.assert_allclose(on_vectors("tanh", x, 16), np.tanh(x), rtol=3e-7)
