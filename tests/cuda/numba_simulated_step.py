"""The step kernels in Numba's own simulator: run by test_cuda_kernels_numba_simulator.py."""

import numpy as np
from numba import cuda

from numbalstm.kernels.cuda.dot import Tile
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.step import make_step
from numbalstm.kernels.cuda.step_backward import make_step_backward

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
    nothing, nothing, BATCH, UNITS, UNITS,
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
print("agrees")
