"""Losses of numbers: distances between targets t and predictions p, averaged over the last axis."""

import numpy as np

from numbalstm import checks
from numbalstm.losses.base import EPSILON, Loss

Pair = tuple[np.ndarray, np.ndarray]


def mean_of(values: np.ndarray, gradients: np.ndarray) -> Pair:
    """Return elementwise values and slopes averaged over the last axis."""
    return values.mean(axis=-1), gradients / gradients.dtype.type(gradients.shape[-1])


class MeanSquaredError(Loss):
    """mean (p - t)^2."""

    default_name = "mean_squared_error"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        error = y_pred - y_true
        return mean_of(error * error, 2.0 * error)


class MeanAbsoluteError(Loss):
    """mean |p - t|; slope 0 at the kink."""

    default_name = "mean_absolute_error"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        error = y_pred - y_true
        return mean_of(np.abs(error), np.sign(error))


class MeanAbsolutePercentageError(Loss):
    """100 mean |p - t| / max(|t|, 1e-7)."""

    default_name = "mean_absolute_percentage_error"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        scale = 100.0 / np.maximum(np.abs(y_true), EPSILON)
        error = y_pred - y_true
        return mean_of(np.abs(error) * scale, np.sign(error) * scale)


class MeanSquaredLogarithmicError(Loss):
    """mean (log(max(p, 1e-7) + 1) - log(max(t, 1e-7) + 1))^2."""

    default_name = "mean_squared_logarithmic_error"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        bounded = np.maximum(y_pred, EPSILON)
        error = np.log(bounded + 1.0) - np.log(np.maximum(y_true, EPSILON) + 1.0)
        return mean_of(error * error, np.where(y_pred >= EPSILON, 2.0 * error / (bounded + 1.0), 0.0))


class Huber(Loss):
    """mean of e^2 / 2 where |e| <= delta and delta |e| - delta^2 / 2 elsewhere, with e = p - t.

    Parameters
    ----------
    delta : float, default 1
        Where the parabola goes over into lines; not negative.
    reduction, name
        As of `Loss`.

    Raises
    ------
    ValueError
        When `delta` is negative or not finite.
    """

    default_name = "huber_loss"

    def __init__(
        self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ) -> None:
        super().__init__(reduction, name)
        self.delta = checks.number("Huber", "delta", delta, minimum=0.0)

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        error = y_pred - y_true
        size = np.abs(error)
        values = np.where(size <= self.delta, 0.5 * error * error, self.delta * size - 0.5 * self.delta**2)
        return mean_of(values, np.clip(error, -self.delta, self.delta))

    def get_config(self) -> dict:
        return super().get_config() | {"delta": self.delta}


class LogCosh(Loss):
    """mean log cosh(p - t)."""

    default_name = "log_cosh"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        error = y_pred - y_true
        size = np.abs(error)
        return mean_of(size + np.log1p(np.exp(-2.0 * size)) - np.log(2.0), np.tanh(error))


class Poisson(Loss):
    """mean of p - t log(p + 1e-7)."""

    default_name = "poisson"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        bounded = y_pred + EPSILON
        return mean_of(y_pred - y_true * np.log(bounded), 1.0 - y_true / bounded)


class CosineSimilarity(Loss):
    """Minus the cosine of the angle between target and prediction: -1 is the best value."""

    default_name = "cosine_similarity"

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> Pair:
        target, _ = unit(y_true)
        direction, inverse = unit(y_pred)
        cosine = (target * direction).sum(axis=-1, keepdims=True)
        # A vector too short to be normalised is merely scaled.
        along = np.where(inverse < 1.0 / EPSILON, cosine * direction, 0.0)
        return -cosine[..., 0], (along - target) * inverse


def unit(x: np.ndarray) -> Pair:
    """Return x / max(||x||, 1e-7) along the last axis, and the factor."""
    norm = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    inverse = 1.0 / np.maximum(norm, EPSILON)
    return x * inverse, inverse
