"""The arguments of a forward pass: what a caller may hand in, turned into what a backend may be given."""

from typing import Any

import numpy as np

from numbalstm import activations, checks
from numbalstm.backends.cuda import arrays as gpu_arrays
from numbalstm.backends.interface import PLAIN, Request, Variant
from numbalstm.parameters import LSTMParameters


def as_array(where: str, name: str, value: Any) -> np.ndarray:
    """Return `value` as an array of any type; ValueError for nested lists of unequal lengths and the like."""
    if gpu_arrays.on_gpu(value):
        raise ValueError(
            f"{where}: {name} lies on a GPU, where LSTM, Bidirectional and StackedLSTM compute and nothing else does: "
            "copy it to the host first."
        )
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
    if gpu_arrays.on_gpu(value):
        return gpu_arrays.view(where, name, value, dtype)
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
    if isinstance(sequence, gpu_arrays.DeviceArray):
        raise ValueError(
            f"{where}: sequences of a list must lie on the host; on a GPU give one padded array and a mask."
        )
    checks.shape(where, f"inputs[{row}]", sequence, ("time", parameters.features))
    return sequence


def mask(where: str, mask: Any, x: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """Return a mask as a bool array of the shape of the first two axes of `x`."""
    if isinstance(x, list):
        raise ValueError(f"{where}: mask is for one array of sequences; leave it out with a list of sequences.")
    if gpu_arrays.on_gpu(mask):
        array = gpu_arrays.view(where, "mask", mask, None)
        if array.dtype.itemsize > 1 or not isinstance(x, gpu_arrays.DeviceArray):
            array = array.copy_to_host()
    else:
        array = as_array(where, "mask", mask)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{where}: mask must hold booleans or numbers, got dtype {array.dtype}.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.shape != x.shape[:2]:
        checks.shape(where, "mask", array, x.shape[:2])
    if isinstance(array, gpu_arrays.DeviceArray):
        return array
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
) -> tuple[Any, tuple[np.ndarray | None, np.ndarray | None] | None, np.ndarray | None]:
    """Return x, with factors per step applied, the factors per sequence, and the factors per step (or None)."""
    if not isinstance(masks, (list, tuple)) or len(masks) != 2:
        raise ValueError(f"{where}: dropout_masks must be a pair (m_x, m_h), got {checks.describe(masks)}.")
    batch, each_step = len(x), None
    m_x, m_h = masks
    if m_x is not None:
        m_x = real_array(where, "dropout_masks[0]", m_x, parameters.dtype)
        fitting = _sequence_factors(batch, parameters.features)
        steps = () if isinstance(x, list) else (x.shape,)
        _check_factors(where, "dropout_masks[0]", m_x, fitting + steps)
        if m_x.shape not in fitting:
            x, m_x, each_step = x * m_x, None, m_x
    if m_h is not None:
        m_h = real_array(where, "dropout_masks[1]", m_h, parameters.dtype)
        _check_factors(where, "dropout_masks[1]", m_h, _sequence_factors(batch, parameters.output_size))
    return x, None if m_x is None and m_h is None else (m_x, m_h), each_step


def _sequence_factors(batch: int, width: int) -> tuple[tuple[int, ...], ...]:
    return (batch, width), (4, batch, width)


def _check_factors(where: str, name: str, factors: np.ndarray, fitting: tuple[tuple[int, ...], ...]) -> None:
    if factors.shape not in fitting:
        shapes = " or ".join(str(shape) for shape in fitting)
        raise ValueError(f"{where}: {name} must have shape {shapes}, got {factors.shape}.")


def variant(where: str, variant: Any, x: np.ndarray | list[np.ndarray], parameters: LSTMParameters) -> Variant:
    """Return a variant with its activations and arrays settled; the one that is plain is `PLAIN` itself."""
    if not isinstance(variant, Variant):
        raise TypeError(f"{where}: variant must be a numbalstm.functional.Variant, got {checks.describe(variant)}.")
    limits = {}
    for name in ("gate_clip", "cell_clip", "projection_clip"):
        limit = getattr(variant, name)
        if limit is not None and checks.number(where, f"variant.{name}", limit) <= 0:
            raise ValueError(f"{where}: variant.{name} must be above 0 (None: no limit), got {limit:g}.")
        limits[name] = None if limit is None else float(limit)
    if limits["projection_clip"] is not None and parameters.projection_kernel is None:
        raise ValueError(f"{where}: variant.projection_clip needs parameters with a projection_kernel.")
    settled = Variant(
        activations=None if variant.activations is None else _gate_activations(where, variant.activations),
        coupled=bool(variant.coupled),
        zoneout=None if variant.zoneout is None else _zoneout(where, variant.zoneout, x, parameters),
        **limits,
    )
    return PLAIN if all(value is None or value is False for value in settled) else settled


def _gate_activations(where: str, given: Any) -> tuple[activations.Activation, ...]:
    if not isinstance(given, (list, tuple)) or len(given) != 5:
        raise ValueError(
            f"{where}: variant.activations must be 5, of i, f, g, o and the cell state, got {checks.describe(given)}."
        )
    return tuple(activations.get(one, where=f"{where}: variant.activations") for one in given)


def _zoneout(where: str, given: Any, x: np.ndarray | list[np.ndarray], parameters: LSTMParameters) -> Any:
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        raise ValueError(f"{where}: variant.zoneout must be a pair (z_c, z_h), got {checks.describe(given)}.")
    widths = (parameters.units, parameters.output_size)
    zones = tuple(
        _zone(where, f"variant.zoneout[{index}]", zone, x, width, parameters.dtype)
        for index, (zone, width) in enumerate(zip(given, widths, strict=True))
    )
    return None if zones[0] is None and zones[1] is None else zones


def _zone(where: str, name: str, zone: Any, x: np.ndarray | list[np.ndarray], width: int, dtype: np.dtype) -> Any:
    if zone is None or isinstance(zone, (int, float)):
        return (checks.fraction(where, name, zone) if zone is not None else 0.0) or None
    if not isinstance(x, list):
        return _of_shape(where, name, zone, (*x.shape[:2], width), dtype)
    if not isinstance(zone, (list, tuple)) or len(zone) != len(x):
        raise ValueError(f"{where}: {name} must be a list of {len(x)} arrays, as the inputs, got {_count(zone)}.")
    return [
        _of_shape(where, f"{name}[{row}]", one, (len(sequence), width), dtype)
        for row, (one, sequence) in enumerate(zip(zone, x, strict=True))
    ]


def output_cotangent(where: str, cotangent: Any, request: Request) -> Any:
    """Return the cotangent of a pass' outputs, checked."""
    x, parameters = request.x, request.parameters
    width, dtype = parameters.output_size, parameters.dtype
    if not request.return_sequences:
        return _of_shape(where, "d_outputs", cotangent, (len(x), width), dtype)
    if not isinstance(x, list):
        return _of_shape(where, "d_outputs", cotangent, (*x.shape[:2], width), dtype)
    if not isinstance(cotangent, (list, tuple)) or len(cotangent) != len(x):
        raise ValueError(
            f"{where}: d_outputs must be a list of {len(x)} arrays, as the outputs were, got {_count(cotangent)}."
        )
    return [
        _of_shape(where, f"d_outputs[{row}]", one, (len(sequence), width), dtype)
        for row, (one, sequence) in enumerate(zip(cotangent, x, strict=True))
    ]


def state_cotangent(where: str, name: str, cotangent: Any, width: int, request: Request) -> np.ndarray | None:
    """Return the cotangent of a final state, checked; None stays None."""
    if cotangent is None:
        return None
    return _of_shape(where, name, cotangent, (len(request.x), width), request.parameters.dtype)


def _of_shape(where: str, name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    array = real_array(where, name, array, dtype)
    checks.shape(where, name, array, shape)
    return array


def _count(value: Any) -> str:
    return f"{len(value)}" if isinstance(value, (list, tuple)) else checks.describe(value)


def checked_out(where: str, out: Any, x: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Return `out`, into which values of this shape and type can be written; ValueError where they cannot."""
    if isinstance(x, list):
        raise ValueError(f"{where}: out is for one array of sequences; leave it out with a list of sequences.")
    there = gpu_arrays.on_gpu(out)
    if there:
        if not isinstance(x, gpu_arrays.DeviceArray):
            raise ValueError(f"{where}: out lies on a GPU, inputs do not; put both in one place.")
        out = gpu_arrays.view(where, "out", out, dtype)
        writeable = out.writeable
    else:
        writeable = isinstance(out, np.ndarray) and out.dtype == dtype and out.flags.writeable
        if isinstance(x, gpu_arrays.DeviceArray):
            raise ValueError(f"{where}: inputs lie on a GPU, out does not; put both in one place.")
    if not writeable:
        raise ValueError(f"{where}: out must be a writeable array of dtype {dtype}, got {_out_found(out)}.")
    checks.shape(where, "out", out, shape)
    if gpu_arrays.overlap(out, x) if there else np.may_share_memory(out, x):
        raise ValueError(f"{where}: out must not share memory with inputs.")
    return out


def _out_found(out: Any) -> str:
    read_only = not getattr(out, "writeable", True) or (isinstance(out, np.ndarray) and not out.flags.writeable)
    return checks.describe(out) + (" (read-only)" if read_only else "")
