"""The register-blocked product: any shape, and the same bits for a row whatever rows stand beside it."""

import numpy as np
import pytest
from numba import njit

from numbalstm.kernels.cpu import panel
from numbalstm.kernels.cpu.packing import aligned, pack
from numbalstm.kernels.simd import Tile


@njit
def product(tile, rows, a, lda, w, k, z, ldz):
    panel.panel(tile, rows, a, lda, w, k, z, ldz, 0, 0)


def run(tile, a, packed, z):
    """z += a @ packed through the kernel; a may be a view with padding behind its rows."""
    product(tile, len(a), a.ctypes.data, a.strides[0], packed.ctypes.data, a.shape[1], z.ctypes.data, z.strides[0])
    return z


@pytest.mark.parametrize(("dtype", "lanes", "height"), [("float32", 16, 6), ("float32", 4, 3), ("float64", 8, 6)])
@pytest.mark.parametrize(("rows", "k"), [(1, 1), (2, 5), (3, 97), (5, 96), (6, 13), (7, 200), (17, 193), (64, 31)])
def test_product_of_any_shape(dtype, lanes, height, rows, k, rng):
    a = rng.standard_normal((rows, k + 3)).astype(dtype)[:, :k]
    w = rng.standard_normal((k, 4 * lanes)).astype(dtype)
    start = rng.standard_normal((rows, 4 * lanes)).astype(dtype)
    z = run(Tile(dtype, lanes, height), a, pack(w, lanes), start.copy())
    exact = start.astype(np.longdouble) + a.astype(np.longdouble) @ w.astype(np.longdouble)
    assert np.abs(z - exact).max() < 4 * np.sqrt(k) * np.finfo(dtype).eps * (1 + np.abs(exact).max())


@pytest.mark.parametrize("rows", range(2, 20))
def test_a_row_has_the_same_bits_alone(rows, rng):
    tile, k = Tile("float32", 16, 6), 131
    a = rng.standard_normal((rows, k)).astype("float32")
    packed = pack(rng.standard_normal((k, 64)).astype("float32"), 16)
    together = run(tile, a, packed, np.zeros((rows, 64), "float32"))
    alone = np.concatenate([run(tile, a[r : r + 1], packed, np.zeros((1, 64), "float32")) for r in range(rows)])
    assert together.tobytes() == alone.tobytes()


@njit
def pair(tile, a, w, ldw, k, z, ldz):
    panel.single_row(tile, a, w, ldw, k, z, ldz, 0, 0)


def test_two_tiles_at_once_have_the_bits_of_one(rng):
    tile, k = Tile("float32", 16, 6), 77
    a = rng.standard_normal((1, k)).astype("float32")
    packed = pack(rng.standard_normal((k, 128)).astype("float32"), 16)
    z = np.zeros((2, 64), "float32")
    pair(tile, a.ctypes.data, packed.ctypes.data, packed.strides[0], k, z.ctypes.data, z.strides[0])
    one_by_one = np.concatenate([run(tile, a, part, np.zeros((1, 64), "float32")) for part in packed])
    assert z.tobytes() == one_by_one.tobytes()


@pytest.mark.parametrize("units", [1, 15, 16, 17, 33])
def test_packing_keeps_every_weight_and_fills_with_zeros(units, rng):
    k, lanes = 3, 16
    matrix = rng.standard_normal((k, 4 * units)).astype("float32")
    packed = pack(matrix, lanes)
    assert packed.ctypes.data % 64 == 0
    whole = packed.transpose(1, 2, 0, 3).reshape(k, 4, -1)
    assert np.array_equal(whole[:, :, :units], matrix.reshape(k, 4, units))
    assert not whole[:, :, units:].any()


def test_aligned_memory_starts_on_a_cache_line():
    for shape in ((1,), (3, 5), (70, 4)):
        assert aligned(shape, np.float64).ctypes.data % 64 == 0
