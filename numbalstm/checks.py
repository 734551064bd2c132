"""Argument rules and their messages: where, what was expected, what came."""

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import numpy as np


def integer(where: str, name: str, value: Any, minimum: int | None = None) -> int:
    """Return `value` as an int.

    Parameters
    ----------
    where, name : str
        Who asks and for which argument; both open the message.
    value : int or numpy integer
        Booleans, floats and strings are refused, whatever their value.
    minimum : int, optional
        Smallest allowed value; None allows all.

    Raises
    ------
    TypeError
        When `value` is not an integer.
    ValueError
        When `value` is below `minimum`.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{where}: {name} must be an integer, got {describe(value)}.")
    if minimum is not None and value < minimum:
        raise ValueError(f"{where}: {name} must be at least {minimum}, got {value}.")
    return int(value)


def positive_integer(where: str, name: str, value: Any) -> int:
    """Return `value` as an int of at least 1; TypeError when it is no integer, ValueError when it is 0 or less."""
    return integer(where, name, value, minimum=1)


def number(where: str, name: str, value: Any, minimum: float | None = None) -> float:
    """Return `value` as a finite float.

    Parameters
    ----------
    where, name : str
        Who asks and for which argument; both open the message.
    value : int, float or numpy scalar
        Booleans and strings are refused.
    minimum : float, optional
        Smallest allowed value; None allows all.

    Raises
    ------
    TypeError
        When `value` is not a real number.
    ValueError
        When `value` is NaN, infinite or below `minimum`.
    """
    result = _real(where, name, value, "a number")
    if not math.isfinite(result):
        raise ValueError(f"{where}: {name} must be finite, got {result}.")
    if minimum is not None and result < minimum:
        raise ValueError(f"{where}: {name} must be at least {minimum:g}, got {result:g}.")
    return result


def fraction(where: str, name: str, value: Any) -> float:
    """Return `value` as a float in [0, 1]; TypeError when it is no number, ValueError outside and for NaN.

    The Keras layers clip such rates in silence; here they are refused.
    """
    result = _real(where, name, value, "a number in [0, 1]")
    if not 0.0 <= result <= 1.0:
        raise ValueError(f"{where}: {name} must be in [0, 1], got {result:g}.")
    return result


def one_of(where: str, name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """Return `value` if it is one of `allowed`, of the same type too (1 is not True); ValueError otherwise."""
    allowed = tuple(allowed)
    for candidate in allowed:
        if type(value) is type(candidate) and value == candidate:
            return candidate
    choices = ", ".join(repr(candidate) for candidate in allowed)
    raise ValueError(f"{where}: {name} must be one of {choices}, got {describe(value)}.")


def shape(where: str, name: str, array: Any, expected: Sequence[int | str | None]) -> None:
    """Check the shape of an array.

    Parameters
    ----------
    where, name : str
        Who asks and for which argument; both open the message.
    array : object with a ``shape``
        Array, weight or symbolic tensor.
    expected : sequence of int, str or None
        Sizes; a string is the name of a size that is free (shown in the message), None is free and unnamed.

    Raises
    ------
    ValueError
        When the number of axes or a size differs.
    """
    found = tuple(array.shape)
    fits = len(found) == len(expected) and all(
        size == want for size, want in zip(found, expected, strict=True) if isinstance(want, (int, np.integer))
    )
    if not fits:
        raise ValueError(f"{where}: {name} must have shape {format_shape(expected)}, got {format_shape(found)}.")


def unknown(where: str, kind: str, name: Any, known: Iterable[str]) -> ValueError:
    """Build (not raise) the error for a name that is not known, with the known ones and the closest of them.

    Parameters
    ----------
    where : str
        Opens the message, for example ``"LSTM: activation"``.
    kind : str
        What the name should name, for example ``"activation"``.
    name : object
        What came.
    known : iterable of str
        Every accepted name.
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1) if isinstance(name, str) else []
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ValueError(f"{where}: unknown {kind} {describe(name)}.{hint} Known: {', '.join(names)}.")


def describe(value: Any) -> str:
    """Return a short text for a received value: its repr, or its type where the repr would be long."""
    if value is None or isinstance(value, (str, bool, int, float, np.generic, np.dtype)):
        text = repr(value.item() if isinstance(value, np.generic) else value)
        return text if len(text) <= 60 else text[:57] + "..."
    if isinstance(value, np.ndarray):
        return f"an array of shape {format_shape(value.shape)} and dtype {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"


def format_shape(sizes: Sequence[int | str | None]) -> str:
    """Return a shape as text, free sizes by their name: ``(batch, 3)``."""
    inner = ", ".join(str(size) for size in sizes)
    return f"({inner},)" if len(sizes) == 1 else f"({inner})"


def _real(where: str, name: str, value: Any, wanted: str) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{where}: {name} must be {wanted}, got {describe(value)}.")
    return float(value)
