"""Metrics of counts: true and false positives and negatives among all elements; targets other than 0 are positive."""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.losses.base import matched
from numbalstm.metrics.base import Metric, combined, quotient


class _Counts(Metric):
    """Base of precision and recall: weights of true positives, and of what they are divided by."""

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        super().__init__(name)
        self.threshold = checks.number(type(self).__name__, "threshold", threshold)

    def zeros(self) -> dict[str, np.ndarray]:
        return {"true_positives": np.zeros(()), "all": np.zeros(())}

    def counted(self, positive: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Return the elements that the true positives are a part of."""
        raise NotImplementedError

    def add(self, y_true: Any, y_pred: np.ndarray, sample_weight: Any, mask: Any) -> None:
        positive, found = matched(self.name, y_true, y_pred) != 0.0, y_pred > self.threshold
        weights = combined(self.name, sample_weight, mask, y_pred.shape)
        self.sums["true_positives"] += weights[positive & found].sum()
        self.sums["all"] += weights[self.counted(positive, found)].sum()

    def result(self) -> float:
        return quotient(self.sums["true_positives"], self.sums["all"])


class Precision(_Counts):
    """The part of the elements predicted as positive that are so.

    Parameters
    ----------
    threshold : float, default 0.5
        Predictions above it are positive.
    name : str, optional
        None: "precision".
    """

    default_name = "precision"

    def counted(self, positive: np.ndarray, found: np.ndarray) -> np.ndarray:
        return found


class Recall(_Counts):
    """The part of the positive elements that are predicted as such.

    Parameters
    ----------
    threshold : float, default 0.5
        Predictions above it are positive.
    name : str, optional
        None: "recall".
    """

    default_name = "recall"

    def counted(self, positive: np.ndarray, found: np.ndarray) -> np.ndarray:
        return positive


class AUC(Metric):
    """The area under the curve of the true over the false positive rate (ROC), by trapezoids.

    Parameters
    ----------
    num_thresholds : int, default 200
        At least 2; the curve's points are at thresholds spread evenly over [0, 1].
    name : str, optional
        None: "auc".

    Raises
    ------
    ValueError
        When there are fewer thresholds; from `update` when a prediction that counts is outside [0, 1].
    """

    default_name = "auc"

    def __init__(self, num_thresholds: int = 200, name: str | None = None) -> None:
        self.num_thresholds = checks.integer("AUC", "num_thresholds", num_thresholds, minimum=2)
        super().__init__(name)

    def zeros(self) -> dict[str, np.ndarray]:
        return {"positives": np.zeros(self.num_thresholds), "negatives": np.zeros(self.num_thresholds)}

    def add(self, y_true: Any, y_pred: np.ndarray, sample_weight: Any, mask: Any) -> None:
        positive = matched(self.name, y_true, y_pred) != 0.0
        weights = combined(self.name, sample_weight, mask, y_pred.shape)
        counts = weights != 0.0
        positive, weights, p = positive[counts], weights[counts], y_pred[counts]
        if not ((p >= 0.0) & (p <= 1.0)).all():
            raise ValueError(f"{self.name}: y_pred must be within [0, 1], got values from {p.min():g} to {p.max():g}.")
        # Bucket k holds what is above threshold k / (n - 1) and not above the next.
        buckets = np.maximum(np.ceil(p * (self.num_thresholds - 1)) - 1, 0).astype(np.int64)
        for name, chosen in (("positives", positive), ("negatives", ~positive)):
            self.sums[name] += np.bincount(buckets[chosen], weights[chosen], minlength=self.num_thresholds)

    def result(self) -> float:
        rates = []
        for name in ("positives", "negatives"):
            above = self.sums[name][::-1].cumsum()
            rates.append(above / above[-1] if above[-1] != 0.0 else above)
        recall, false_rate = rates
        return float((np.diff(false_rate) * (recall[1:] + recall[:-1]) / 2.0).sum())
