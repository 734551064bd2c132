"""Losses of margins; binary labels 0 and 1 count as -1 and 1."""

import numpy as np

from numbalstm.losses.base import Loss
from numbalstm.losses.regression import Pair, mean_of


class Hinge(Loss):
    """mean max(1 - t p, 0)."""

    default_name = "hinge"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        t = signs(y_true)
        margin = 1.0 - t * y_pred
        return mean_of(np.maximum(margin, 0.0), np.where(margin >= 0.0, -t, 0.0))


class SquaredHinge(Loss):
    """mean max(1 - t p, 0)^2."""

    default_name = "squared_hinge"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        t = signs(y_true)
        margin = np.maximum(1.0 - t * y_pred, 0.0)
        return mean_of(margin * margin, -2.0 * t * margin)


class CategoricalHinge(Loss):
    """max(1 + max((1 - t) p) - sum t p, 0) over the classes (the last axis)."""

    default_name = "categorical_hinge"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        others = (1.0 - y_true) * y_pred
        largest = others.max(axis=-1, keepdims=True)
        margin = 1.0 + largest[..., 0] - (y_true * y_pred).sum(axis=-1)
        ties = (others == largest).astype(y_pred.dtype)
        slopes = (1.0 - y_true) * ties / ties.sum(axis=-1, keepdims=True) - y_true
        return np.maximum(margin, 0.0), np.where(margin[..., None] >= 0.0, slopes, 0.0)


def signs(y_true: np.ndarray) -> np.ndarray:
    """Return labels -1 and 1; labels that are all 0 or 1 are translated."""
    binary = ((y_true == 0.0) | (y_true == 1.0)).all()
    return 2.0 * y_true - 1.0 if binary else y_true
