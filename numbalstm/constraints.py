"""Constraints: projections that an optimizer applies to a weight after each update.

The norm n is the Euclidean one along `axis`; axis 0 of an LSTM's kernel gives one norm per gate column.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numbalstm import checks, objects

EPSILON = 1e-7
"""Added to a norm before dividing by it (Keras's backend epsilon)."""


class Constraint(objects.Configurable):
    """Base: ``constraint(w)`` is a new array of the shape and float type of `w`."""

    def __call__(self, w: Any) -> np.ndarray:
        """Return the constrained weight."""
        w = np.asarray(w)
        if w.dtype.kind != "f":
            raise TypeError(f"{type(self).__name__}: the weight must have a float type, got {w.dtype}.")
        # EPSILON vanishes in float16.
        values = w.astype(np.float32) if w.dtype == np.float16 else w
        return self._apply(values).astype(w.dtype, copy=False)

    def _apply(self, w: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class NonNeg(Constraint):
    """max(w, 0)."""

    def _apply(self, w: np.ndarray) -> np.ndarray:
        return np.maximum(w, 0.0)


class UnitNorm(Constraint):
    """w / (n + epsilon).

    Parameters
    ----------
    axis : int or sequence of int, default 0
        Axes along which the norm is taken.
    """

    def __init__(self, axis: int | Sequence[int] = 0) -> None:
        self.axis = _axes("UnitNorm", axis)

    def _apply(self, w: np.ndarray) -> np.ndarray:
        return w / (EPSILON + _norm(w, self.axis))

    def get_config(self) -> dict:
        return {"axis": _axes_config(self.axis)}


class MaxNorm(Constraint):
    """w * min(n, max_value) / (n + epsilon).

    Parameters
    ----------
    max_value : float, default 2
        Largest norm, finite and not negative.
    axis : int or sequence of int, default 0
        Axes along which the norm is taken.
    """

    def __init__(self, max_value: float = 2.0, axis: int | Sequence[int] = 0) -> None:
        self.max_value = checks.number("MaxNorm", "max_value", max_value, minimum=0.0)
        self.axis = _axes("MaxNorm", axis)

    def _apply(self, w: np.ndarray) -> np.ndarray:
        norm = _norm(w, self.axis)
        return w * (np.minimum(norm, self.max_value) / (EPSILON + norm))

    def get_config(self) -> dict:
        return {"max_value": self.max_value, "axis": _axes_config(self.axis)}


class MinMaxNorm(Constraint):
    """w * (rate * clip(n, min_value, max_value) + (1 - rate) * n) / (n + epsilon).

    Parameters
    ----------
    min_value, max_value : float, default 0 and 1
        Bounds of the norm, finite and not negative.
    rate : float, default 1
        How far the norm moves towards its bounds at each update.
    axis : int or sequence of int, default 0
        Axes along which the norm is taken.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | Sequence[int] = 0
    ) -> None:
        self.min_value = checks.number("MinMaxNorm", "min_value", min_value, minimum=0.0)
        self.max_value = checks.number("MinMaxNorm", "max_value", max_value, minimum=0.0)
        self.rate = checks.number("MinMaxNorm", "rate", rate)
        self.axis = _axes("MinMaxNorm", axis)

    def _apply(self, w: np.ndarray) -> np.ndarray:
        norm = _norm(w, self.axis)
        bounded = np.minimum(np.maximum(norm, self.min_value), self.max_value)
        wanted = self.rate * bounded + (1.0 - self.rate) * norm
        return w * (wanted / (EPSILON + norm))

    def get_config(self) -> dict:
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": _axes_config(self.axis),
        }


def _norm(w: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    return np.sqrt((w * w).sum(axis=axis, keepdims=True))


def _axes(where: str, axis: Any) -> int | tuple[int, ...]:
    if isinstance(axis, (list, tuple)):
        return tuple(checks.integer(where, "axis", one) for one in axis)
    return checks.integer(where, "axis", axis)


def _axes_config(axis: int | tuple[int, ...]) -> int | list[int]:
    return list(axis) if isinstance(axis, tuple) else axis


NAMED: dict[str, Callable] = {
    "MaxNorm": MaxNorm,
    "MinMaxNorm": MinMaxNorm,
    "NonNeg": NonNeg,
    "UnitNorm": UnitNorm,
    "max_norm": MaxNorm,
    "min_max_norm": MinMaxNorm,
    "non_neg": NonNeg,
    "unit_norm": UnitNorm,
}


def get(identifier: Any, where: str = "constraint") -> Callable | None:
    """Return the constraint that `identifier` stands for.

    Parameters
    ----------
    identifier : str, class, Constraint, callable, dict or None
        A name ("max_norm", "non_neg", "unit_norm", "min_max_norm", or a class name), a class, a callable of one array
        (returned as it is), or the dict of a Keras 2 or Keras 3 config.  None is no constraint.
    where : str
        Opens the messages, for example ``"LSTM: kernel_constraint"``.

    Raises
    ------
    ValueError
        When the name or a setting is unknown.
    """
    return objects.resolve(where, "constraint", identifier, NAMED)


def serialize(constraint: Any) -> Any:
    """Return what a Keras 2 or Keras 3 layer config holds for a constraint; a user's callable stays itself."""
    return objects.serialize(constraint, "keras.constraints")
