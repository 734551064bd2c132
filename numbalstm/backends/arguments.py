"""The arguments of a forward pass: what a caller may hand in, turned into what a backend may be given."""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.parameters import LSTMParameters


def as_array(where: str, name: str, value: Any) -> np.ndarray:
    """Return `value` as an array of any type; ValueError for nested lists of unequal lengths and the like."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: {name} cannot be made an array: {error}") from error


def real_array(where: str, name: str, value: Any, dtype: np.dtype) -> np.ndarray:
    """Return `value` as a native, aligned array of `dtype`, no stride negative; it is copied only if it must be."""
    if type(value) is np.ndarray and value.dtype == dtype:
        flags = value.flags
        if flags.c_contiguous and flags.aligned:
            return value
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{where}: {name} must not be a numpy.ma array: its mask would be lost. Pass mask= instead.")
    array = as_array(where, name, value)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{where}: {name} must hold real numbers, got dtype {array.dtype}. Convert it with astype({str(dtype)!r})."
        )
    array = array.astype(dtype, copy=False)
    if not array.flags.aligned or min(array.strides, default=0) < 0:
        array = array.copy()
    return array


def inputs(where: str, x: Any, parameters: LSTMParameters) -> np.ndarray | list[np.ndarray]:
    """Return the inputs as an array (B, T, F), or as a list of arrays (T_i, F) for a list or tuple."""
    if isinstance(x, (list, tuple)):
        return [_sequence(where, row, sequence, parameters) for row, sequence in enumerate(x)]
    x = real_array(where, "inputs", x, parameters.dtype)
    if x.ndim != 3:
        raise ValueError(
            f"{where}: inputs must have shape (batch, time, {parameters.features}), "
            f"or be a list of arrays (time, {parameters.features}), got {x.shape}."
        )
    checks.shape(where, "inputs", x, ("batch", "time", parameters.features))
    if x.shape[1] == 0:
        raise ValueError(f"{where}: inputs must have at least one time step, got shape {x.shape}.")
    return x


def _sequence(where: str, row: int, sequence: Any, parameters: LSTMParameters) -> np.ndarray:
    sequence = real_array(where, f"inputs[{row}]", sequence, parameters.dtype)
    checks.shape(where, f"inputs[{row}]", sequence, ("time", parameters.features))
    return sequence


def mask(where: str, mask: Any, x: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """Return a mask as a bool array of the shape of the first two axes of `x`."""
    if isinstance(x, list):
        raise ValueError(f"{where}: mask is for one array of sequences; leave it out with a list of sequences.")
    array = as_array(where, "mask", mask)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{where}: mask must hold booleans or numbers, got dtype {array.dtype}.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.shape != x.shape[:2]:
        checks.shape(where, "mask", array, x.shape[:2])
    if array.dtype != np.bool_:
        array = array != 0
    if min(array.strides) < 0:
        array = array.copy()
    return array


def states(where: str, state: Any, parameters: LSTMParameters, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an initial state as arrays h (B, P) and c (B, U)."""
    if not isinstance(state, (list, tuple, np.ndarray)):
        raise ValueError(f"{where}: initial_state must be a pair [h, c], got {checks.describe(state)}.")
    if len(state) != 2:
        raise ValueError(f"{where}: initial_state must hold 2 arrays [h, c], got {len(state)}.")
    arrays = []
    for index, width in enumerate((parameters.output_size, parameters.units)):
        name = f"initial_state[{index}]"
        array = real_array(where, name, state[index], parameters.dtype)
        if array.shape != (batch, width):
            checks.shape(where, name, array, (batch, width))
        arrays.append(array)
    return arrays[0], arrays[1]


def dropout(
    where: str, masks: Any, x: np.ndarray | list[np.ndarray], parameters: LSTMParameters
) -> tuple[Any, tuple[np.ndarray | None, np.ndarray | None] | None]:
    """Return x, with factors per step applied, and the factors per sequence."""
    if not isinstance(masks, (list, tuple)) or len(masks) != 2:
        raise ValueError(f"{where}: dropout_masks must be a pair (m_x, m_h), got {checks.describe(masks)}.")
    batch = len(x)
    m_x, m_h = masks
    if m_x is not None:
        m_x = real_array(where, "dropout_masks[0]", m_x, parameters.dtype)
        fitting = _sequence_factors(batch, parameters.features)
        steps = () if isinstance(x, list) else (x.shape,)
        _check_factors(where, "dropout_masks[0]", m_x, fitting + steps)
        if m_x.shape not in fitting:
            x, m_x = x * m_x, None
    if m_h is not None:
        m_h = real_array(where, "dropout_masks[1]", m_h, parameters.dtype)
        _check_factors(where, "dropout_masks[1]", m_h, _sequence_factors(batch, parameters.output_size))
    return x, None if m_x is None and m_h is None else (m_x, m_h)


def _sequence_factors(batch: int, width: int) -> tuple[tuple[int, ...], ...]:
    return (batch, width), (4, batch, width)


def _check_factors(where: str, name: str, factors: np.ndarray, fitting: tuple[tuple[int, ...], ...]) -> None:
    if factors.shape not in fitting:
        shapes = " or ".join(str(shape) for shape in fitting)
        raise ValueError(f"{where}: {name} must have shape {shapes}, got {factors.shape}.")


def check_out(where: str, out: Any, x: Any, parameters: LSTMParameters, return_sequences: bool) -> None:
    """Raise ValueError when the outputs cannot be written into `out`."""
    if isinstance(x, list):
        raise ValueError(f"{where}: out is for one array of sequences; leave it out with a list of sequences.")
    if not isinstance(out, np.ndarray) or out.dtype != parameters.dtype or not out.flags.writeable:
        raise ValueError(f"{where}: out must be a writeable array of dtype {parameters.dtype}, got {_out_found(out)}.")
    width = parameters.output_size
    checks.shape(where, "out", out, (*x.shape[:2], width) if return_sequences else (x.shape[0], width))
    if np.may_share_memory(out, x):
        raise ValueError(f"{where}: out must not share memory with inputs.")


def _out_found(out: Any) -> str:
    read_only = isinstance(out, np.ndarray) and not out.flags.writeable
    return checks.describe(out) + (" (read-only)" if read_only else "")
