"""Weights on a device, in the kernels' order, uploaded once for each set."""

from typing import Any, NamedTuple

import numpy as np

from numbalstm.parameters import GATES, LSTMParameters, Norm


class NormWeights(NamedTuple):
    """Layer normalisation: kernel_gamma and recurrent_gamma (U, 4), cell_gamma and cell_beta (U,); the rest is bias."""

    kernel_gamma: Any
    recurrent_gamma: Any
    cell_gamma: Any
    cell_beta: Any


class Weights(NamedTuple):
    """Device arrays of one `LSTMParameters`; units come first, a unit's gates together.

    Attributes
    ----------
    kernel : (U, 4, F)
    recurrent : (U, 4, P)
    bias : (U, 4)
        Zeros without a bias; with layer normalisation the betas of both products are in it.
    gate_bias : (4, U)
        The same, gate after gate.
    peepholes : (3, U) or None
    projection : (U, P) or None
    norm : NormWeights or None
    """

    kernel: Any
    recurrent: Any
    bias: Any
    gate_bias: Any
    peepholes: Any
    projection: Any
    norm: NormWeights | None


def on_device(parameters: LSTMParameters, device: Any) -> Weights:
    """Return the weights on a device; the first use of a set uploads them."""
    key = ("cuda", device.number)
    found = parameters.packed.get(key)
    if found is None:
        bias, norm = parameters.bias, parameters.norm
        if bias is None:
            bias = np.zeros(len(GATES) * parameters.units, parameters.dtype)
        if norm is not None:
            bias = bias + norm.kernel_beta + norm.recurrent_beta
        found = parameters.packed[key] = Weights(
            device.keep(by_unit(parameters.kernel)),
            device.keep(by_unit(parameters.recurrent_kernel)),
            device.keep(_gates_of_units(bias)),
            device.keep(bias),
            _uploaded(parameters.peephole_kernel, device),
            _uploaded(parameters.projection_kernel, device),
            None if norm is None else _norm_on_device(norm, device),
        )
    return found


def _norm_on_device(norm: Norm, device: Any) -> NormWeights:
    gammas = (_gates_of_units(gamma) for gamma in (norm.kernel_gamma, norm.recurrent_gamma))
    return NormWeights(*map(device.keep, (*gammas, norm.cell_gamma, norm.cell_beta)))


def _uploaded(array: np.ndarray | None, device: Any) -> Any:
    return None if array is None else device.keep(array)


def _gates_of_units(vector: np.ndarray) -> np.ndarray:
    """Return (4 U,), gate after gate, as (U, 4)."""
    return by_unit(vector[None])[..., 0]


def by_unit(matrix: np.ndarray) -> np.ndarray:
    """Return (n, 4 U) columns gate after gate as (U, 4, n)."""
    rows, width = matrix.shape
    return np.ascontiguousarray(matrix.reshape(rows, len(GATES), width // len(GATES)).transpose(2, 1, 0))


def by_gate(gradient: np.ndarray) -> np.ndarray:
    """Return (U, 4, n) as (n, 4 U): what `by_unit` undoes."""
    units, gates, rows = gradient.shape
    return np.ascontiguousarray(gradient.transpose(2, 1, 0)).reshape(rows, gates * units)
