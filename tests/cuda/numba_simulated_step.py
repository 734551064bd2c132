"""The step kernels in Numba's own simulator: run by test_cuda_kernels_numba_simulator.py."""

import numpy as np
from numba import cuda

from numbalstm.kernels.cuda.dot import Tile
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.step import make_step
from numbalstm.kernels.cuda.step_backward import make_step_backward
from numbalstm.kernels.cuda.step_rows import make_row_step
from numbalstm.kernels.cuda.step_rows_backward import make_row_backward

BATCH, UNITS = 3, 5
TILE = Tile(2, 4, 4)


def launch(kernel, blocks, *arguments):
    flat = [argument.reshape(-1) if isinstance(argument, np.ndarray) else argument for argument in arguments]
    cuda.jit(kernel.function)[blocks, kernel.threads](*flat)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


rng = np.random.default_rng(2)
xw, ut = rng.normal(size=(BATCH, UNITS, 4)), rng.normal(size=(UNITS, 4, UNITS))
h, c, dy, dc = (rng.normal(size=(BATCH, UNITS)) for _ in range(4))
mask, first = np.array([1, 0, 1], np.uint8), np.array([0, 0, 1], np.int32)
z = xw + np.einsum("bk,ugk->bug", h, ut)
i, f, g, o = (function(z[..., gate]) for gate, function in enumerate((sigmoid, sigmoid, np.tanh, sigmoid)))
keep = mask[:, None] != 0
new_c, new_h = f * c + i * g, o * np.tanh(f * c + i * g)

options = Options("float64", masked=True, record=True)
blocks = -(-BATCH // TILE.rows) * -(-UNITS // TILE.columns)
c_out, h_out, y = (np.full((BATCH, UNITS), np.nan) for _ in range(3))
nothing = np.zeros(1)
launch(
    make_step(options, TILE), blocks, xw, ut, h, c, c_out, h_out, y, UNITS, 1, mask, first, 1, nothing, nothing,
    nothing, nothing, nothing, BATCH, UNITS, UNITS,
)  # fmt: skip
np.testing.assert_allclose(c_out, np.where(keep, new_c, c), rtol=1e-12)
np.testing.assert_allclose(h_out, np.where(keep, new_h, h), rtol=1e-12)
np.testing.assert_allclose(y, np.where(keep, new_h, h), rtol=1e-12)
np.testing.assert_allclose(xw, z, rtol=1e-12)

passed, dz = np.zeros((BATCH, UNITS)), np.full((BATCH, UNITS, 4), np.nan)
d_c = dc.copy()
launch(
    make_step_backward(options, TILE), blocks, dz, 0, ut, nothing, passed, dy, UNITS, 1, 1, mask, first, 1, nothing,
    nothing, z, c, d_c, nothing, dz, nothing, nothing, BATCH, UNITS, UNITS,
)  # fmt: skip
a = np.tanh(new_c)
inner = dc + dy * o * (1 - a * a)
expected = np.stack(
    [inner * g * i * (1 - i), inner * c * f * (1 - f), inner * i * (1 - g * g), dy * a * o * (1 - o)], axis=-1
)
np.testing.assert_allclose(dz, np.where(keep[..., None], expected, 0), rtol=1e-10)
np.testing.assert_allclose(d_c, np.where(keep, inner * f, dc), rtol=1e-10)
np.testing.assert_allclose(passed, np.where(keep, 0, dy), rtol=1e-12)

# a block for each row: layer normalisation, and a softmax in the place of tanh for the candidate

THREADS, EPSILON = 4, 1e-3
gamma, cell_gamma, cell_beta = (rng.normal(size=shape) for shape in ((UNITS, 4), UNITS, UNITS))
recurrent = rng.normal(size=(BATCH, UNITS, 4))


def standardised(values):
    axes = tuple(range(1, values.ndim))
    scale = 1 / np.sqrt(values.var(axis=axes, keepdims=True) + EPSILON)
    return (values - values.mean(axis=axes, keepdims=True)) * scale, scale


def softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cell(z, c):
    i, f, g, o = (function(z[..., gate]) for gate, function in enumerate((sigmoid, sigmoid, softmax, sigmoid)))
    new_c = f * c + i * g
    return o * np.tanh(cell_gamma * standardised(new_c)[0] + cell_beta), new_c


normal, scales = standardised(recurrent)
z = xw + gamma * normal
new_h, new_c = cell(z, c)
options = options._replace(activations=("sigmoid", "sigmoid", "softmax", "sigmoid", "tanh"), epsilon=EPSILON)
sums, kept, room, kept_scales = xw.copy(), recurrent.copy(), np.full((BATCH, UNITS), np.nan), np.full(BATCH, np.nan)
launch(
    make_row_step(options, THREADS), BATCH, sums, kept, kept_scales, gamma, h, c, c_out, nothing, room, cell_gamma,
    cell_beta, h_out, y, UNITS, 1, mask, first, 1, nothing, nothing, nothing, UNITS,
)  # fmt: skip
np.testing.assert_allclose(sums, z, rtol=1e-12)
np.testing.assert_allclose(c_out, np.where(keep, new_c, c), rtol=1e-12)
np.testing.assert_allclose(y, np.where(keep, new_h, h), rtol=1e-12)
np.testing.assert_allclose(kept, normal, rtol=1e-10)
np.testing.assert_allclose(kept_scales, scales.reshape(-1), rtol=1e-12)

d_c, dz, d_products = dc.copy(), np.full_like(z, np.nan), np.full_like(z, np.nan)
standard, d_cell = np.full((BATCH, UNITS), np.nan), np.full((BATCH, UNITS), np.nan)
launch(
    make_row_backward(options, THREADS), BATCH, dy, mask, nothing, sums, c, d_c, nothing, kept, kept_scales, gamma,
    cell_gamma, cell_beta, dz, d_products, standard, d_cell, UNITS,
)  # fmt: skip


def loss(recurrent_now, z_now, c_now):
    new_h, new_c = cell(z_now + gamma * standardised(recurrent_now)[0], c_now)
    return (dy * new_h + dc * new_c).sum(axis=1)


STEP = 1e-6
for unit, gate in ((0, 0), (2, 1), (3, 2), (4, 3)):
    for found, which in ((d_products, 0), (dz, 1), (d_c, 2)):
        ends = []
        for sign in (-1, 1):
            point = [recurrent.copy(), xw.copy(), c.copy()]
            point[which][(slice(None), unit) if which == 2 else (slice(None), unit, gate)] += sign * STEP
            ends.append(loss(*point))
        slope = (ends[1] - ends[0]) / (2 * STEP)
        counted = dc[:, unit] if which == 2 else 0
        mine = found[:, unit] if which == 2 else found[:, unit, gate]
        np.testing.assert_allclose(mine, np.where(keep[:, 0], slope, counted), rtol=1e-5, atol=1e-7)
print("agrees")
