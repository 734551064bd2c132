"""Dense layers: any shape, and the same bits for a row whatever the batch and the threads."""

import numpy as np
import pytest

from numbalstm.backends import dense as dense_module
from numbalstm.backends.dense import DenseWeights, dense


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("rows", "features", "units"), [(1, 1, 1), (5, 7, 10), (49, 130, 63), (97, 3, 64), (2, 40, 131)]
)
@pytest.mark.parametrize("biased", [True, False])
def test_any_shape(dtype, rows, features, units, biased, rng):
    x = rng.standard_normal((rows, features)).astype(dtype)
    kernel = rng.standard_normal((features, units)).astype(dtype)
    bias = rng.standard_normal(units).astype(dtype) if biased else None
    exact = x.astype(np.longdouble) @ kernel.astype(np.longdouble) + (bias if biased else 0)
    y = dense(x, DenseWeights(kernel, bias))
    assert y.dtype == dtype
    assert np.abs(y - exact).max() < 8 * np.sqrt(features) * np.finfo(dtype).eps * (1 + np.abs(exact).max())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_has_the_same_bits_in_any_company(threads, rng, monkeypatch):
    monkeypatch.setattr(dense_module, "WORTH_A_THREAD", 0)
    weights = DenseWeights(rng.standard_normal((33, 70)).astype("float32"), rng.standard_normal(70).astype("float32"))
    x = rng.standard_normal((131, 33)).astype("float32")
    whole = dense(x, weights, threads)
    for rows in (slice(0, 1), slice(3, 52), slice(100, 131), slice(None, None, -2)):
        assert dense(x[rows], weights).tobytes() == np.ascontiguousarray(whole[rows]).tobytes()


def test_no_rows():
    assert dense(np.empty((0, 3)), DenseWeights(np.ones((3, 2)), None)).shape == (0, 2)
