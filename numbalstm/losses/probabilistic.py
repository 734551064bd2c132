"""Losses of probabilities and classes."""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.losses.base import EPSILON, Loss

Pair = tuple[np.ndarray, np.ndarray]


class _Crossentropy(Loss):
    """Base of the cross-entropies."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        where = type(self).__name__
        self.from_logits = checks.one_of(where, "from_logits", from_logits, (False, True))
        self.label_smoothing = checks.fraction(where, "label_smoothing", label_smoothing)
        self.axis = checks.one_of(where, "axis", axis, (-1,))

    def get_config(self) -> dict:
        own = {"from_logits": self.from_logits, "label_smoothing": self.label_smoothing, "axis": self.axis}
        return super().get_config() | own


class BinaryCrossentropy(_Crossentropy):
    """mean of -t log p - (1 - t) log(1 - p) over the last axis.

    Parameters
    ----------
    from_logits : bool, default False
        Whether predictions are logits x, with p = sigmoid(x), which overflow nowhere.  Otherwise they are the p, taken
        as within [1e-7, 1 - 1e-7]; outside, the slope is 0.
    label_smoothing : float in [0, 1], default 0
        Targets t become t (1 - s) + s / 2.
    axis : -1
        The only one there is.
    reduction, name
        As of `Loss`.

    Raises
    ------
    ValueError
        When a setting is anything else.
    """

    default_name = "binary_crossentropy"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        t = y_true * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        if self.from_logits:
            decay = np.exp(-np.abs(y_pred))
            values = np.maximum(y_pred, 0.0) - y_pred * t + np.log1p(decay)
            gradients = np.where(y_pred >= 0.0, 1.0, decay) / (1.0 + decay) - t
        else:
            p, inside = clipped(y_pred)
            values = -t * np.log(p) - (1.0 - t) * np.log(1.0 - p)
            gradients = np.where(inside, (1.0 - t) / (1.0 - p) - t / p, 0.0)
        return values.mean(axis=-1), gradients / gradients.dtype.type(gradients.shape[-1])


class CategoricalCrossentropy(_Crossentropy):
    """Minus the sum of t log p over the classes (the last axis).

    Parameters
    ----------
    from_logits : bool, default False
        Whether predictions are logits x, with p = softmax(x), which overflow nowhere.  Otherwise they are the p,
        divided by their sum and taken as within [1e-7, 1 - 1e-7].
    label_smoothing : float in [0, 1], default 0
        Targets t become t (1 - s) + s / classes.
    axis : -1
        The only one there is.
    reduction, name
        As of `Loss`.

    Raises
    ------
    ValueError
        When a setting is anything else, or predictions have a single class.
    """

    default_name = "categorical_crossentropy"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        classes = several_classes(self.name, y_pred)
        t = y_true * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        if self.from_logits:
            log_p, p = log_softmax(y_pred)
            return -(t * log_p).sum(axis=-1), p * t.sum(axis=-1, keepdims=True) - t
        total = y_pred.sum(axis=-1, keepdims=True)
        share = y_pred / total
        p, inside = clipped(share)
        slopes = np.where(inside, -t / p, 0.0)
        return -(t * np.log(p)).sum(axis=-1), (slopes - (slopes * share).sum(axis=-1, keepdims=True)) / total


class SparseCategoricalCrossentropy(_Crossentropy):
    """-log p of the class that the target numbers.

    Parameters
    ----------
    from_logits : bool, default False
        Whether predictions are logits x, with p = softmax(x), which overflow nowhere.  Otherwise they are the p, taken
        as within [1e-7, 1 - 1e-7] and then divided by their sum.
    ignore_class : int, optional
        A number, such as -1, whose targets count as masked.  None: every target is a class.
    axis : -1
        The only one there is.
    reduction, name
        As of `Loss`.

    Raises
    ------
    ValueError
        When a setting is anything else, predictions have a single class, or a target is no class.
    """

    default_name = "sparse_categorical_crossentropy"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(from_logits, axis=axis, reduction=reduction, name=name)
        where = type(self).__name__
        self.ignore_class = None if ignore_class is None else checks.integer(where, "ignore_class", ignore_class)

    def targets(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        """Return class numbers, (batch, ...)."""
        classes = several_classes(self.name, y_pred)
        y_true = class_numbers(self.name, y_true, y_pred)
        wrong = y_true[(y_true < 0) | (y_true >= classes)]
        if wrong.size:
            raise ValueError(f"{self.name}: y_true must number one of {classes} classes from 0, got {wrong[0]}.")
        return y_true

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        scale = None
        if not self.from_logits:
            p, inside = clipped(y_pred)
            y_pred, scale = np.log(p), inside / p
        log_p, gradients = log_softmax(y_pred)
        index = y_true[..., None]
        values = -np.take_along_axis(log_p, index, axis=-1)[..., 0]
        np.put_along_axis(gradients, index, np.take_along_axis(gradients, index, axis=-1) - 1.0, axis=-1)
        return values, gradients if scale is None else gradients * scale

    def get_config(self) -> dict:
        return Loss.get_config(self) | {"from_logits": self.from_logits, "ignore_class": self.ignore_class}

    def _mask(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray | None:
        mask = super()._mask(y_true, y_pred, mask)
        if self.ignore_class is None:
            return mask
        counted = class_numbers(self.name, y_true, y_pred) != self.ignore_class
        return counted if mask is None else counted & mask


class KLDivergence(Loss):
    """Sum of t log(t / p) over the last axis, both taken as within [1e-7, 1]."""

    default_name = "kl_divergence"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        t = np.clip(y_true, EPSILON, 1.0)
        p, inside = clipped(y_pred, 1.0)
        return (t * np.log(t / p)).sum(axis=-1), np.where(inside, -t / p, 0.0)


def clipped(p: np.ndarray, largest: float = 1.0 - EPSILON) -> Pair:
    """Return p within [1e-7, largest], and where it was inside."""
    bounded = np.clip(p, EPSILON, largest)
    return bounded, bounded == p


def log_softmax(x: np.ndarray) -> Pair:
    """Return log softmax and softmax along the last axis."""
    shifted = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=-1, keepdims=True)
    return shifted - np.log(total), exponentials / total


def several_classes(where: str, y_pred: np.ndarray) -> int:
    """Return the number of classes; ValueError when there is only one, whose loss would not depend on anything."""
    classes = y_pred.shape[-1]
    if classes < 2:
        shape = checks.format_shape(y_pred.shape)
        raise ValueError(
            f"{where}: y_pred must hold two or more classes on its last axis, got shape {shape}. For one probability "
            "use binary_crossentropy."
        )
    return classes


def class_numbers(where: str, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
    """Return class numbers as integers of the shape of `y_pred` without its last axis."""
    y_true = np.asarray(y_true)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    checks.shape(where, "y_true", y_true, y_pred.shape[:-1])
    if y_true.dtype.kind in "biu":
        return y_true.astype(np.int64, copy=False)
    if y_true.dtype.kind != "f" or not (np.isfinite(y_true) & (np.floor(y_true) == y_true)).all():
        raise ValueError(f"{where}: y_true must hold whole numbers of classes, got {checks.describe(y_true)}.")
    return y_true.astype(np.int64)
