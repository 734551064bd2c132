"""How often the predicted class is the right one."""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.losses.base import matched
from numbalstm.losses.probabilistic import class_numbers
from numbalstm.metrics.base import MeanMetric


class BinaryAccuracy(MeanMetric):
    """The part of all elements where p > threshold says what the target 0 or 1 says.

    Parameters
    ----------
    threshold : float, default 0.5
    name : str, optional
        None: "binary_accuracy".
    """

    default_name = "binary_accuracy"

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        super().__init__(name)
        self.threshold = checks.number("BinaryAccuracy", "threshold", threshold)

    def values(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray:
        return matched(self.name, y_true, y_pred) == (y_pred > self.threshold)


class CategoricalAccuracy(MeanMetric):
    """The part of all samples and steps where the largest prediction is at the largest target."""

    default_name = "categorical_accuracy"

    def values(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray:
        return matched(self.name, y_true, y_pred).argmax(axis=-1) == y_pred.argmax(axis=-1)


class SparseCategoricalAccuracy(MeanMetric):
    """The part of all samples and steps where the largest prediction is at the class that the target numbers."""

    default_name = "sparse_categorical_accuracy"

    def values(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray:
        return class_numbers(self.name, y_true, y_pred) == y_pred.argmax(axis=-1)


class Accuracy(MeanMetric):
    """The accuracy that fits the shapes, as Keras chooses it for the name "accuracy".

    Predictions with one value at the end: `BinaryAccuracy`.  Targets without that axis, or with size 1 there:
    `SparseCategoricalAccuracy`.  Otherwise `CategoricalAccuracy`.
    """

    default_name = "accuracy"

    def values(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray:
        shape = np.shape(y_true)
        if y_pred.shape[-1] == 1:
            chosen: MeanMetric = BinaryAccuracy(name=self.name)
        elif len(shape) < y_pred.ndim or shape[-1] == 1:
            chosen = SparseCategoricalAccuracy(self.name)
        else:
            chosen = CategoricalAccuracy(self.name)
        return chosen.values(y_true, y_pred, mask)


class SparseTopKCategoricalAccuracy(MeanMetric):
    """The part of all samples and steps where fewer than k predictions are larger than that of the target's class.

    Parameters
    ----------
    k : int, default 5
        At least 1.
    name : str, optional
        None: the name in Keras.

    Notes
    -----
    A target that is no class, and a prediction for it that is not finite, count as wrong.
    """

    default_name = "sparse_top_k_categorical_accuracy"

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        super().__init__(name)
        self.k = checks.positive_integer(type(self).__name__, "k", k)

    def classes(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        """Return the class numbers of targets."""
        return class_numbers(self.name, y_true, y_pred)

    def values(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray:
        index = self.classes(y_true, y_pred)[..., None]
        inside = np.clip(index, 0, y_pred.shape[-1] - 1)
        chosen = np.take_along_axis(y_pred, inside, axis=-1)
        usable = (inside == index) & np.isfinite(chosen)
        return usable[..., 0] & ((y_pred > chosen).sum(axis=-1) < self.k)


class TopKCategoricalAccuracy(SparseTopKCategoricalAccuracy):
    """`SparseTopKCategoricalAccuracy` for targets with one value for each class, of which the largest counts.

    Parameters
    ----------
    k : int, default 5
        At least 1.
    name : str, optional
        None: the name in Keras.
    """

    default_name = "top_k_categorical_accuracy"

    def classes(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        """Return the class numbers of targets."""
        return matched(self.name, y_true, y_pred).argmax(axis=-1)
