"""The arguments of a stack of LSTM layers, and the form of its states: h of all layers and directions, c of all."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.backends import arguments
from numbalstm.backends.cuda import dispatch
from numbalstm.backends.cuda.arrays import DeviceArray, on_gpu, view


def widths(where: str, units: Any, num_layers: Any) -> list[int]:
    """Return the width of each layer, from one width or a list and the number of layers (None: 2, or the list's)."""
    count = None if num_layers is None else checks.positive_integer(where, "num_layers", num_layers)
    if not isinstance(units, (list, tuple)):
        return [checks.positive_integer(where, "units", units)] * (2 if count is None else count)
    if not units or (count is not None and count != len(units)):
        wanted = "at least one width" if count is None else f"{count} widths, one for each layer"
        raise ValueError(f"{where}: units must hold {wanted}, got {len(units)}.")
    return [checks.positive_integer(where, f"units[{number}]", width) for number, width in enumerate(units)]


def mask_of_lengths(where: str, lengths: Any, mask: Any, inputs: Any, time_major: bool) -> Any:
    """Return the mask that `lengths` of padded sequences mean, laid out as the inputs; `mask` where they are None."""
    if lengths is None:
        return mask
    if mask is not None:
        raise ValueError(f"{where}: give mask or lengths, not both.")
    if isinstance(inputs, (list, tuple)):
        raise ValueError(f"{where}: lengths are for one padded array; the sequences of a list have theirs already.")
    lengths = arguments.as_array(where, "lengths", lengths)
    batch, time = np.shape(inputs)[:2][:: -1 if time_major else 1]
    checks.shape(where, "lengths", lengths, (batch,))
    if batch and lengths.dtype.kind not in "iu":
        raise ValueError(f"{where}: lengths must be integers, got dtype {lengths.dtype}.")
    if batch and not 0 <= lengths.min() <= lengths.max() <= time:
        raise ValueError(
            f"{where}: lengths must be in 0 ... {time}, the steps of the inputs, "
            f"got {lengths.min()} ... {lengths.max()}."
        )
    counted = np.arange(time) < lengths[:, None]
    return counted.T if time_major else counted


def checked_states(
    where: str, given: Any, sizes: Sequence[Sequence[int]], batch: int, dtype: np.dtype
) -> list[list[np.ndarray]]:
    """Return an initial state [h_0, c_0] as two lists of arrays.

    Parameters
    ----------
    where : str
        Opens the messages of errors.
    given : pair, each an array (layers and directions, batch, width) or a list of arrays (batch, width)
    sizes : list of pairs
        Widths of h and c of each layer and direction.
    batch : int
    dtype : numpy.dtype

    Raises
    ------
    ValueError
        When a count or a shape does not fit.
    """
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        found = f"{len(given)} states" if isinstance(given, (list, tuple)) else checks.describe(given)
        raise ValueError(f"{where}: initial_state must be a pair [h_0, c_0], got {found}.")
    checked: list[list[np.ndarray]] = [[], []]
    for which, (part, arrays) in enumerate(zip(given, checked, strict=True)):
        name = f"initial_state[{which}]"
        part = view(where, name, part, dtype) if on_gpu(part) else part
        if not hasattr(part, "__len__") or len(part) != len(sizes):
            raise ValueError(
                f"{where}: {name} must hold {len(sizes)} arrays (batch, width), one for each layer and direction, "
                f"got {checks.describe(part)}."
            )
        for number, (size, state) in enumerate(zip(sizes, part, strict=True)):
            array = arguments.real_array(where, f"{name}[{number}]", state, dtype)
            checks.shape(where, f"{name}[{number}]", array, (batch, size[which]))
            arrays.append(array)
    return checked


def by_layer(states: Sequence[Sequence[Any]], layers: int) -> list[list[Any]]:
    """Return h of all and c of all as each layer takes them: h and c of one direction after the other."""
    pairs = list(zip(*states, strict=True))
    each = len(pairs) // layers
    return [[state for pair in pairs[first : first + each] for state in pair] for first in range(0, len(pairs), each)]


def joined(states: Sequence[Any], join: Callable[[Sequence[Any]], Any]) -> list[Any]:
    """Return h of all and c of all, from h and c of one direction after the other.

    `join` makes one of several arrays, or of whatever stands for them, if they are of equal shape; others stay a list.
    """
    parts = (states[::2], states[1::2])
    return [join(part) if len({getattr(s, "shape", s) for s in part}) == 1 else list(part) for part in parts]


def stacked(parts: Sequence[Any]) -> Any:
    """Return arrays of one shape as one array, with a new first axis."""
    return dispatch.joined("stack", list(parts)) if isinstance(parts[0], DeviceArray) else np.stack(parts)


def times(values: Any, factors: Any) -> Any:
    """Return an array, or a list of arrays, times the dropout factors."""
    if isinstance(values, list):
        return [times(*pair) for pair in zip(values, factors, strict=True)]
    return values * factors
