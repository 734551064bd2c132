"""Weights on a device, in the kernels' order, uploaded once for each set."""

from typing import Any, NamedTuple

import numpy as np

from numbalstm.parameters import GATES, LSTMParameters


class Weights(NamedTuple):
    """Device arrays of one `LSTMParameters`; units come first, a unit's gates together.

    Attributes
    ----------
    kernel : (U, 4, F)
    recurrent : (U, 4, P)
    bias : (U, 4)
        Zeros without a bias.
    gate_bias : (4, U)
        The same, gate after gate.
    peepholes : (3, U) or None
    projection : (U, P) or None
    """

    kernel: Any
    recurrent: Any
    bias: Any
    gate_bias: Any
    peepholes: Any
    projection: Any


def on_device(parameters: LSTMParameters, device: Any) -> Weights:
    """Return the weights on a device; the first use of a set uploads them."""
    key = ("cuda", device.number)
    found = parameters.packed.get(key)
    if found is None:
        bias = parameters.bias
        if bias is None:
            bias = np.zeros(len(GATES) * parameters.units, parameters.dtype)
        found = parameters.packed[key] = Weights(
            device.upload(by_unit(parameters.kernel)),
            device.upload(by_unit(parameters.recurrent_kernel)),
            device.upload(by_unit(bias[None])[..., 0]),
            device.upload(bias),
            _uploaded(parameters.peephole_kernel, device),
            _uploaded(parameters.projection_kernel, device),
        )
    return found


def _uploaded(array: np.ndarray | None, device: Any) -> Any:
    return None if array is None else device.upload(array)


def by_unit(matrix: np.ndarray) -> np.ndarray:
    """Return (n, 4 U) columns gate after gate as (U, 4, n)."""
    rows, width = matrix.shape
    return np.ascontiguousarray(matrix.reshape(rows, len(GATES), width // len(GATES)).transpose(2, 1, 0))


def by_gate(gradient: np.ndarray) -> np.ndarray:
    """Return (U, 4, n) as (n, 4 U): what `by_unit` undoes."""
    units, gates, rows = gradient.shape
    return np.ascontiguousarray(gradient.transpose(2, 1, 0)).reshape(rows, gates * units)
