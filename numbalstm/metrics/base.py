"""What every metric shares: sums over batches."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from numbalstm import checks, losses
from numbalstm.losses import Loss
from numbalstm.losses.base import fitted, matched, predictions


class Metric:
    """Base: a number over all samples since the last `reset`.

    Parameters
    ----------
    name : str, optional
        None: the name that Keras gives.

    Notes
    -----
    A subclass names its sums in `zeros`, adds to ``self.sums`` in `add`, and makes the number of them in `result`.
    """

    default_name = "metric"

    def __init__(self, name: str | None = None) -> None:
        self.name = self.default_name if name is None else name
        self.reset()

    def zeros(self) -> dict[str, np.ndarray]:
        """Return the float64 sums of no samples."""
        raise NotImplementedError

    def add(self, y_true: Any, y_pred: np.ndarray, sample_weight: Any, mask: Any) -> None:
        """Add a batch to the sums; `y_pred` is float32 or float64, (batch, ..., n)."""
        raise NotImplementedError

    def result(self) -> float:
        """Return the number; 0 of no samples."""
        raise NotImplementedError

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
        """Take a batch.

        Parameters
        ----------
        y_true, y_pred, sample_weight, mask
            As for a loss: see `numbalstm.losses.Loss`.

        Raises
        ------
        TypeError
            When `y_pred` has no float type.
        ValueError
            When a shape does not fit.
        """
        with np.errstate(all="ignore"):
            self.add(y_true, predictions(self.name, y_pred), sample_weight, mask)

    def reset(self) -> None:
        """Forget all samples."""
        self.sums = self.zeros()

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of the sums."""
        return {name: array.copy() for name, array in self.sums.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; ValueError, and nothing changed, when it is another metric's."""
        sums = {name: np.array(array, dtype=np.float64) for name, array in state.items()}
        if sums.keys() != self.sums.keys():
            raise ValueError(f"{self.name}: the state must hold {', '.join(self.sums)}, got {', '.join(sums)}.")
        for name, array in sums.items():
            checks.shape(self.name, name, array, self.sums[name].shape)
        self.sums = sums

    def __repr__(self) -> str:
        return f"<metric {self.name}: {self.result():g}>"


class MeanMetric(Metric):
    """Base of the metrics that are a weighted mean of one value for each sample; a subclass defines `values`."""

    def zeros(self) -> dict[str, np.ndarray]:
        return {"total": np.zeros(()), "count": np.zeros(())}

    def values(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray:
        """Return values, (batch, ...); those of the steps of a sample count together as much as the sample."""
        raise NotImplementedError

    def add(self, y_true: Any, y_pred: np.ndarray, sample_weight: Any, mask: Any) -> None:
        values = np.asarray(self.values(y_true, y_pred, mask), dtype=np.float64)
        weights = combined(self.name, sample_weight, mask, values.shape)
        inner = tuple(range(1, values.ndim))
        # What stands under a mask may be NaN.
        self.sums["total"] += np.where(weights == 0.0, 0.0, values * weights).mean(axis=inner).sum()
        self.sums["count"] += weights.mean(axis=inner).sum()

    def result(self) -> float:
        return quotient(self.sums["total"], self.sums["count"])


class MeanOf(MeanMetric):
    """The mean of a loss or of any function.

    Parameters
    ----------
    function : Loss or callable
        A callable is given arrays `y_true` and `y_pred` and returns values, (batch, ...).
    name : str, optional
        None: the name of the function.
    """

    def __init__(self, function: Loss | Callable, name: str | None = None) -> None:
        self.function = function
        if name is None:
            name = function.name if isinstance(function, Loss) else getattr(function, "__name__", "mean")
        super().__init__(name)

    def values(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray:
        if isinstance(self.function, Loss):
            return self.function.values(y_true, y_pred, mask)
        values = np.asarray(self.function(np.asarray(y_true), y_pred))
        if values.ndim == 0 or len(values) != len(y_pred):
            raise ValueError(
                f"{self.name}: the function must return one value for each of {len(y_pred)} samples, got shape "
                f"{checks.format_shape(values.shape)}."
            )
        return values


class RootMeanSquaredError(MeanMetric):
    """The root of the mean of (p - t)^2."""

    default_name = "root_mean_squared_error"

    def values(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray:
        return (y_pred - matched(self.name, y_true, y_pred)) ** 2

    def result(self) -> float:
        return super().result() ** 0.5


class CosineSimilarity(MeanMetric):
    """The cosine of the angle between target and prediction: the loss of that name without its minus."""

    default_name = "cosine_similarity"

    def values(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray:
        return -losses.CosineSimilarity().values(y_true, y_pred, mask)


def combined(where: str, sample_weight: Any, mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return weights of the given shape, zero under the mask."""
    weights = np.ones(shape)
    if sample_weight is not None:
        weights = weights * fitted(where, "sample_weight", np.asarray(sample_weight, dtype=np.float64), shape)
    if mask is not None:
        weights = weights * fitted(where, "mask", np.asarray(mask) != 0, shape)
    return weights


def quotient(numerator: Any, denominator: Any) -> float:
    """Return a quotient, 0 where the denominator is 0."""
    return float(numerator / denominator) if denominator != 0.0 else 0.0
