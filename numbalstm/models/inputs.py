"""What a call gives, as one array for each input of a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numbalstm import checks, dtypes
from numbalstm.backends.arguments import as_array
from numbalstm.layers.symbolic import SymbolicTensor, is_shape


def in_order(
    place: str, given: Any, tensors: Sequence[SymbolicTensor], names: Sequence[str], shapes: bool = False
) -> list[Any]:
    """Return one item for each input.

    Parameters
    ----------
    place : str
        Opens the messages.
    given : object
        One item where there is one input; else a list in the order of the inputs, or a dict by input name.
    tensors, names : sequence
        Of the inputs.
    shapes : bool, default False
        The items are shapes.

    Raises
    ------
    ValueError
        For a wrong number of items, or a wrong name.
    """
    if isinstance(given, Mapping):
        return _by_name(place, given, names)
    several = isinstance(given, (list, tuple)) and not (shapes and is_shape(given))
    if len(tensors) == 1:
        whole = several and not shapes and not any(hasattr(item, "shape") for item in given)
        return [given] if not several or whole or len(given) != 1 else [given[0]]
    if not several:
        raise ValueError(f"{place}: needs {len(tensors)} inputs ({', '.join(names)}), got {checks.describe(given)}.")
    if len(given) != len(tensors):
        raise ValueError(f"{place}: needs {len(tensors)} inputs ({', '.join(names)}), got {len(given)}.")
    return list(given)


def _by_name(place: str, given: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    for name in given:
        if name not in names:
            raise checks.unknown(place, "input", name, names)
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(f"{place}: the input {missing[0]!r} is missing, got {', '.join(map(repr, given)) or 'none'}.")
    return [given[name] for name in names]


def nested_as(given: Any, gradients: Sequence[np.ndarray | None], names: Sequence[str]) -> Any:
    """Return gradients, one for each input, nested and shaped as what `in_order` and `as_input` took."""
    if isinstance(given, Mapping):
        by_name = dict(zip(names, gradients, strict=True))
        return {name: _shaped_as(array, by_name[name]) for name, array in given.items()}
    if isinstance(given, (list, tuple)) and len(given) == len(gradients) and any(hasattr(a, "shape") for a in given):
        return [_shaped_as(*pair) for pair in zip(given, gradients, strict=True)]
    return _shaped_as(given, gradients[0])


def _shaped_as(given: Any, gradient: np.ndarray | None) -> np.ndarray | None:
    return None if gradient is None else gradient.reshape(np.shape(given))


def as_input(place: str, name: str, given: Any, tensor: SymbolicTensor, checks_sizes: bool) -> np.ndarray:
    """Return what was given for one input as an array of its type and number of axes.

    A last axis of size 1 is added or dropped where that makes the number of axes right, as in Keras.  A batch size that
    the model was made with binds its stateful layers alone, and these check it themselves.

    Raises
    ------
    ValueError
        When the shape does not fit, or integers are wanted and other numbers come.
    TypeError
        When what was given is no array of real numbers.
    """
    array = given if isinstance(given, np.ndarray) else as_array(place, f"input {name!r}", given)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{place}: input {name!r} must be an array of real numbers, got dtype {array.dtype}.")
    expected, shape = tensor.shape, array.shape
    if len(shape) == len(expected) - 1 and expected[-1] == 1:
        array = array[..., None]
    elif len(shape) == len(expected) + 1 and shape[-1] == 1:
        array = array[..., 0]
    fits = array.ndim == len(expected) and (
        not checks_sizes or all(want in (None, size) for want, size in zip(expected[1:], array.shape[1:], strict=True))
    )
    if not fits:
        raise ValueError(
            f"{place}: input {name!r} must have shape {checks.format_shape(expected)}, "
            f"got {checks.format_shape(shape)} (None fits every size)."
        )
    return _typed(place, name, array, tensor.dtype)


def _typed(place: str, name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return dtypes.round_bfloat16(array)
    wanted = np.dtype(dtype)
    if array.dtype == wanted:
        return array
    with np.errstate(invalid="ignore"):  # what is no integer is refused below
        converted = array.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(converted, array):
        raise ValueError(
            f"{place}: input {name!r} must hold numbers of type {dtype}, got others of type {array.dtype}."
        )
    return converted
