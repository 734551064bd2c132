"""What the kernels of a layer-normalised LSTM need beside the others: packed weights, room for a row, the gradients."""

from typing import NamedTuple

import numpy as np

from numbalstm.kernels.cpu.norm_job import KEPT, NORM, TOGETHER
from numbalstm.kernels.cpu.packing import address, aligned, pack, unpack
from numbalstm.kernels.simd import Tile
from numbalstm.parameters import GATES, LSTMParameters


class NormWeights(NamedTuple):
    """Packed weights of layer normalisation; `constant` is what both products get: their beta and the bias."""

    kernel_gamma: np.ndarray
    recurrent_gamma: np.ndarray
    constant: np.ndarray
    cell_gamma: np.ndarray
    cell_beta: np.ndarray
    units: int
    epsilon: float


def packed_norm(parameters: LSTMParameters, lanes: int) -> NormWeights | None:
    """The weights in the kernels' order; None without layer normalisation."""
    norm = parameters.norm
    if norm is None:
        return None
    constant = norm.kernel_beta + norm.recurrent_beta
    if parameters.bias is not None:
        constant = constant + parameters.bias
    packed = (pack(array[None], lanes) for array in (norm.kernel_gamma, norm.recurrent_gamma, constant))
    states = (_padded(array, lanes) for array in (norm.cell_gamma, norm.cell_beta))
    return NormWeights(*packed, *states, parameters.units, norm.epsilon)


def _padded(array: np.ndarray, lanes: int) -> np.ndarray:
    whole = aligned((-(-len(array) // lanes) * lanes,), array.dtype)
    whole[: len(array)], whole[len(array) :] = array, 0
    return whole


def norm_record(tile: Tile, weights: NormWeights, keep: list, **places: int) -> np.ndarray:
    """The record of a job, with its scratch; `keep` gets what has to live as long."""
    record = np.zeros(1, NORM)
    scratch = aligned((TOGETHER, (len(GATES) + 1) * len(weights.cell_gamma) + KEPT * tile.lanes), tile.dtype)
    keep += [record, scratch, weights]
    for name in ("kernel_gamma", "recurrent_gamma", "constant", "cell_gamma", "cell_beta"):
        record[name] = address(getattr(weights, name))
    record["scratch"] = address(scratch)
    record["columns"], record["units"], record["epsilon"] = 4 * weights.units, weights.units, weights.epsilon
    for name, place in places.items():
        record[name] = place
    return record


class Sums(NamedTuple):
    """The sums of h R, as z holds those of x K, (tiles, rows, 4, lanes), and the scales of both, (2, rows)."""

    h: np.ndarray
    scales: np.ndarray

    @property
    def places(self) -> dict[str, int]:
        """The fields of a job's record."""
        x_scales, h_scales = self.scales
        return {"h_sums": address(self.h), "x_scales": address(x_scales), "h_scales": address(h_scales)}


def sums_beside(tile: Tile, tiles: int, rows: int) -> Sums:
    """Room for the sums of so many rows."""
    return Sums(aligned((tiles, rows, len(GATES), tile.lanes), tile.dtype), np.empty((2, rows), tile.dtype))


class NormGradients:
    """The gradients of the weights of layer normalisation as they add up, and room for what they add up from.

    Parameters
    ----------
    tile : Tile
    weights : NormWeights
    room : int
        Rows of a chunk.
    workers : int
    """

    def __init__(self, tile: Tile, weights: NormWeights, room: int, workers: int) -> None:
        tiles, width = len(weights.constant), len(weights.cell_gamma)
        self._tile, self._weights = tile, weights
        self._gammas = aligned((tiles, 2, len(GATES), tile.lanes), tile.dtype)
        self._cell = aligned((2, width), tile.dtype)
        self._gammas.fill(0)
        self._cell.fill(0)
        self._d_cells = [aligned((room, 2, width), tile.dtype) for _ in range(workers)]

    def record(self, dz: np.ndarray, number: int, sums: Sums | None, keep: list) -> int:
        """Address of the record of a worker's job; of the three parts of its dz the first is the job's own."""
        places = {
            "dz_h": address(dz[1]),
            "dz_sums": address(dz[2]),
            "d_cell": address(self._d_cells[number]),
            "gamma_gradients": address(self._gammas),
            "cell_gradients": address(self._cell),
            **({} if sums is None else sums.places),
        }
        return address(norm_record(self._tile, self._weights, keep, **places))

    def arrays(self, d_sums: np.ndarray) -> dict[str, np.ndarray]:
        """What has added up, by name; `d_sums` is the gradient of the sums, and so of two beta."""
        units = self._weights.units
        kernel_gamma, recurrent_gamma = (unpack(self._gammas[:, part : part + 1], units)[0] for part in (0, 1))
        beta, gamma = self._cell[:, :units].copy()
        return {
            "kernel_gamma": kernel_gamma,
            "kernel_beta": d_sums.copy(),
            "recurrent_gamma": recurrent_gamma,
            "recurrent_beta": d_sums.copy(),
            "cell_gamma": gamma,
            "cell_beta": beta,
        }
