"""Dense layers on the compiled kernels."""

import numpy as np

from numbalstm.backends import hardware, parallel
from numbalstm.backends.plan import address
from numbalstm.kernels.cpu.dense import BLOCK, dense_parallel, dense_serial
from numbalstm.kernels.cpu.packing import aligned

WORTH_A_THREAD = 4_000_000  # multiply-adds: some 40 microseconds of work


class DenseWeights:
    """A matrix and a bias in the order of the kernels; makes its own copies.

    Parameters
    ----------
    kernel : float32 or float64 array (features, units)
    bias : array (units,) of the same dtype, or None
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray | None) -> None:
        self.features, self.units = kernel.shape
        self.tile = hardware.tile(kernel.dtype, False)
        span = 4 * self.tile.lanes
        blocks = -(-self.units // span)
        self.kernel = aligned((blocks, self.features, span), kernel.dtype)
        self.bias = aligned((blocks, span), kernel.dtype)
        self.kernel[-1], self.bias[...] = 0, 0
        for block in range(blocks):
            part = kernel[:, block * span : (block + 1) * span]
            self.kernel[block, :, : part.shape[1]] = part
        if bias is not None:
            self.bias.reshape(-1)[: self.units] = bias


def dense(x: np.ndarray, weights: DenseWeights, threads: int | None = None) -> np.ndarray:
    """Return x @ kernel + bias.

    Parameters
    ----------
    x : array (rows, features), of the weights' dtype
    weights : DenseWeights
    threads : int, optional
        Most threads to use; None: the setting.

    Returns
    -------
    array (rows, units)
        Each row's bits are the same whatever the other rows and the threads.
    """
    x = np.ascontiguousarray(x)
    rows = len(x)
    y = np.empty((rows, weights.units), x.dtype)
    tile = weights.tile
    workers = 1
    if rows * weights.features * weights.units > WORTH_A_THREAD:
        workers = min(parallel.threads(threads), rows)
    z = aligned((workers, BLOCK, 4 * tile.lanes), x.dtype)
    where = (address(x), address(weights.kernel), address(weights.bias), address(y), address(z))
    sizes = (rows, weights.features, weights.units)
    if workers == 1 or not parallel.run_alone(dense_parallel, tile, *where, *sizes, workers):
        dense_serial(tile, *where, *sizes)
    return y
