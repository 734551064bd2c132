"""Regularizers: penalties on weights or outputs, with their gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np

from numbalstm import checks, objects

LARGEST_INVERSE_NORM = 1e7
"""Bound of 1/||w|| in the unit normalisation of Keras, so that a zero row stays zero."""


class Regularizer(objects.Configurable):
    """Base: ``regularizer(w)`` is the penalty, ``regularizer.gradient(w)`` its gradient."""

    def __call__(self, w: Any) -> float:
        """Return the penalty of an array of any shape as a float64 number."""
        raise NotImplementedError

    def gradient(self, w: Any) -> np.ndarray:
        """Return the gradient of the penalty, of the shape and float type of `w`."""
        raise NotImplementedError


class L1L2(Regularizer):
    """l1 * sum |w| + l2 * sum w^2.

    Parameters
    ----------
    l1, l2 : float, default 0
        Factors, finite and not negative; None is the default.

    Raises
    ------
    ValueError
        When a factor is anything else.

    Notes
    -----
    The factors stay exact; Keras passes some of them through float32.
    """

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0) -> None:
        self.l1 = _factor(type(self).__name__, "l1", l1, 0.0)
        self.l2 = _factor(type(self).__name__, "l2", l2, 0.0)

    def __call__(self, w: Any) -> float:
        w = np.asarray(w, dtype=np.float64)
        return float(self.l1 * np.abs(w).sum() + self.l2 * (w * w).sum())

    def gradient(self, w: Any) -> np.ndarray:
        values = np.asarray(w, dtype=np.float64)
        return (self.l1 * np.sign(values) + 2.0 * self.l2 * values).astype(_float_type(w))

    def get_config(self) -> dict:
        return {"l1": self.l1, "l2": self.l2}


class L1(L1L2):
    """l1 * sum |w|.

    Parameters
    ----------
    l1 : float, default 0.01
        Finite and not negative; None is the default.
    """

    def __init__(self, l1: float | None = 0.01) -> None:
        super().__init__(l1=0.01 if l1 is None else l1)

    def get_config(self) -> dict:
        return {"l1": self.l1}


class L2(L1L2):
    """l2 * sum w^2.

    Parameters
    ----------
    l2 : float, default 0.01
        Finite and not negative; None is the default.
    """

    def __init__(self, l2: float | None = 0.01) -> None:
        super().__init__(l2=0.01 if l2 is None else l2)

    def get_config(self) -> dict:
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """The mean absolute cosine between every two rows (or columns) of a matrix, times a factor.

    Parameters
    ----------
    factor : float, default 0.01
        Finite and not negative.
    mode : {"rows", "columns"}
        Which vectors should be orthogonal.

    Raises
    ------
    ValueError
        When a setting is anything else, or the array is not a matrix.

    Notes
    -----
    factor / (n(n-1)/2) * sum over a < b of |v_a . v_b| with unit vectors v; 0 for n = 1, where Keras gives NaN.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = _factor("OrthogonalRegularizer", "factor", factor, 0.01)
        self.mode = checks.one_of("OrthogonalRegularizer", "mode", mode, ("rows", "columns"))

    def __call__(self, w: Any) -> float:
        unit, _ = self._unit_rows(w)
        return float(self._weight(unit) * 0.5 * np.abs(_products(unit)).sum())

    def gradient(self, w: Any) -> np.ndarray:
        unit, inverse = self._unit_rows(w)
        d_unit = self._weight(unit) * (np.sign(_products(unit)) @ unit)
        # Where 1/||w|| is bounded, the normalisation is a plain scaling and the second term drops out.
        bounded = inverse >= LARGEST_INVERSE_NORM
        along = np.where(bounded, 0.0, (d_unit * unit).sum(axis=1, keepdims=True))
        result = inverse * (d_unit - along * unit)
        return (result if self.mode == "rows" else result.T).astype(_float_type(w))

    def get_config(self) -> dict:
        return {"factor": self.factor, "mode": self.mode}

    def _unit_rows(self, w: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors as unit rows (n, k), and what they were multiplied with (n, 1)."""
        w = np.asarray(w, dtype=np.float64)
        checks.shape("OrthogonalRegularizer", "the weight", w, ("rows", "columns"))
        rows = w if self.mode == "rows" else w.T
        norm = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
        inverse = 1.0 / np.maximum(norm, 1.0 / LARGEST_INVERSE_NORM)
        return rows * inverse, inverse

    def _weight(self, unit: np.ndarray) -> float:
        pairs = len(unit) * (len(unit) - 1) / 2
        return self.factor / pairs if pairs else 0.0


def _products(unit: np.ndarray) -> np.ndarray:
    """Return the inner products of all pairs of different rows, (n, n) with a zero diagonal."""
    product = unit @ unit.T
    np.fill_diagonal(product, 0.0)
    return product


def _factor(where: str, name: str, value: Any, default: float) -> float:
    if value is None:
        return default
    try:
        return checks.number(where, name, value, minimum=0.0)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _float_type(w: Any) -> np.dtype:
    dtype = np.asarray(w).dtype
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def _l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """Make what Keras 2 means by the name "l1_l2"."""
    return L1L2(l1, l2)


NAMED: dict[str, Callable] = {
    "L1": L1,
    "L2": L2,
    "L1L2": L1L2,
    "OrthogonalRegularizer": OrthogonalRegularizer,
    "l1": L1,
    "l2": L2,
    "l1l2": L1L2,
    "l1_l2": _l1_l2,
    "orthogonal_regularizer": OrthogonalRegularizer,
}


def get(identifier: Any, where: str = "regularizer") -> Callable | None:
    """Return the regularizer that `identifier` stands for.

    Parameters
    ----------
    identifier : str, class, Regularizer, callable, dict or None
        A name ("l1", "l2", "l1l2" with factors 0 as in Keras 3, "l1_l2" with factors 0.01 as in Keras 2,
        "orthogonal_regularizer", or a class name), a class, a callable of one array (returned as it is), or the dict
        of a Keras 2 or Keras 3 config.  None is no regularizer.
    where : str
        Opens the messages, for example ``"LSTM: kernel_regularizer"``.

    Raises
    ------
    ValueError
        When the name or a setting is unknown.
    """
    return objects.resolve(where, "regularizer", identifier, NAMED)


def serialize(regularizer: Any) -> Any:
    """Return what a Keras 2 or Keras 3 layer config holds for a regularizer; a user's callable stays itself."""
    return objects.serialize(regularizer, "keras.regularizers")
