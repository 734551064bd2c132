"""Dense layers on the compiled kernels."""

import numpy as np

from numbalstm.backends import hardware, parallel
from numbalstm.backends.plan import address
from numbalstm.kernels.cpu.dense import BLOCK, DENSE, dense_jobs
from numbalstm.kernels.cpu.packing import aligned
from numbalstm.kernels.launch import code_of

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
    jobs, _z = dense_jobs_of(weights, rows, workers)
    where = address(jobs), address(x), address(y)
    if workers == 1 or not parallel.run_alone(dense_jobs, tile, *where, workers):
        code_of(dense_jobs, tile).call(tile, *where, 0, workers)
    return y


def dense_jobs_of(weights: DenseWeights, rows: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """The jobs of the workers, and the sums that they point to."""
    jobs = np.zeros(workers, DENSE)
    z = aligned((workers, BLOCK, 4 * weights.tile.lanes), weights.tile.dtype)
    for worker, job in enumerate(jobs):
        job["first"], job["last"] = rows * worker // workers, rows * (worker + 1) // workers
        job["z"] = address(z[worker])
    jobs["features"], jobs["columns"] = weights.features, weights.units
    jobs["kernel"], jobs["bias"] = address(weights.kernel), address(weights.bias)
    return jobs, z
