"""What every loss shares: shapes, sample weights, masks and the average of Keras 3."""

from typing import Any

import numpy as np

from numbalstm import checks, objects

EPSILON = 1e-7
"""Keeps logarithms and quotients finite (Keras's backend epsilon)."""

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", None)


class Loss(objects.Configurable):
    """Base of the losses; a subclass defines `evaluate`.

    Parameters
    ----------
    reduction : {"sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", None}, default "sum_over_batch_size"
        How the weighted values of all samples and steps become one number: "sum_over_batch_size" and "mean" divide
        their sum by how many there are, weights or not, masked ones not counted; "mean_with_sample_weight" divides by
        the sum of the weights; "sum" divides by nothing; None (or "none") returns the array of values.  "auto" of
        Keras 2 is the first.
    name : str, optional
        None: the name that Keras gives.

    Raises
    ------
    ValueError
        When the reduction is anything else.

    Notes
    -----
    Arithmetic is in the float type of the predictions (float16: in float32), sums are in float64.
    """

    default_name = "loss"

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        names: dict[Any, Any] = {"auto": "sum_over_batch_size", "none": None}
        reduction = names.get(reduction, reduction)
        self.reduction = checks.one_of(type(self).__name__, "reduction", reduction, REDUCTIONS)
        self.name = self.default_name if name is None else name

    def evaluate(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of all samples and steps, and their gradients.

        Parameters
        ----------
        y_true, y_pred : float arrays of one shape, (batch, ..., n)
            As `targets` and `predictions` prepare them.

        Returns
        -------
        values : array, (batch, ...)
            One value for each row along the last axis.
        gradients : array, (batch, ..., n)
            Of each value with respect to its row of `y_pred`.
        """
        raise NotImplementedError

    def targets(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        """Return `y_true` in the type and shape of `y_pred`; an axis of size 1 at the end may be missing or too many.

        Raises
        ------
        ValueError
            When the shape does not fit; nothing is broadcast.
        """
        return matched(self.name, y_true, y_pred)

    def values(self, y_true: Any, y_pred: Any, mask: Any = None) -> np.ndarray:
        """Return one value for each sample and step, unweighted; 0 under the mask.

        Parameters
        ----------
        y_true, y_pred, mask
            As for a call.

        Returns
        -------
        numpy.ndarray, (batch, ...)
            The shape of `y_pred` without its last axis.
        """
        y_pred = predictions(self.name, y_pred)
        return self._evaluated(y_true, y_pred, self._mask(y_true, y_pred, mask))[0]

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Any:
        """Return the loss.

        Parameters
        ----------
        y_true : array_like
            Of the shape of `y_pred`, or without its last axis where that has size 1.
        y_pred : array_like of floats, (batch, ..., n)
            One axis alone is the batch.
        sample_weight : array_like, optional
            Weights of samples (batch,), of samples and steps (batch, time), or of any shape that such a shape begins
            with; sizes of 1 are stretched.  None: 1.
        mask : array_like of bool, optional
            False or 0: the sample or step does not count, whatever stands there.  Shapes as for `sample_weight`.

        Returns
        -------
        float
            Or with ``reduction=None`` the weighted values, (batch, ...).

        Raises
        ------
        TypeError
            When `y_pred` has no float type.
        ValueError
            When a shape does not fit.
        """
        y_pred = predictions(self.name, y_pred)
        mask = self._mask(y_true, y_pred, mask)
        values, _ = self._evaluated(y_true, y_pred, mask)
        weights, divisor = self._weights(values.shape, sample_weight, mask)
        if self.reduction is None:
            return values * weights
        return float((values * weights).sum() / divisor)

    def value_and_gradient(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient with respect to `y_pred`.

        Parameters
        ----------
        y_true, y_pred, sample_weight, mask
            As for a call.

        Returns
        -------
        value : float
        gradient : numpy.ndarray
            Of the shape of `y_pred`; float32, or float64 for float64 predictions.  Zero under the mask.

        Raises
        ------
        ValueError
            When a shape does not fit, or with ``reduction=None``.
        """
        if self.reduction is None:
            raise ValueError(f"{self.name}: reduction=None gives no single number to differentiate; choose another.")
        shape = np.shape(y_pred)
        y_pred = predictions(self.name, y_pred)
        mask = self._mask(y_true, y_pred, mask)
        values, gradients = self._evaluated(y_true, y_pred, mask)
        weights, divisor = self._weights(values.shape, sample_weight, mask)
        slopes = np.broadcast_to(weights / divisor, values.shape).astype(y_pred.dtype)
        return float((values * weights).sum() / divisor), (gradients * slopes[..., None]).reshape(shape)

    def get_config(self) -> dict:
        return {"name": self.name, "reduction": self.reduction}

    def _evaluated(self, y_true: Any, y_pred: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 values, and gradients; both zero under the mask."""
        if mask is not None:
            y_true = self._masked_targets(y_true, y_pred, mask)
        with np.errstate(all="ignore"):
            values, gradients = self.evaluate(self.targets(y_true, y_pred), y_pred)
        if mask is not None:
            values, gradients = np.where(mask, values, 0.0), np.where(mask[..., None], gradients, 0.0)
        return values.astype(np.float64, copy=False), gradients

    def _masked_targets(self, y_true: Any, y_pred: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return `y_true` with zeros under the mask, where paddings like -1 are no targets."""
        y_true = np.asarray(y_true)
        full = np.broadcast_to(mask, y_pred.shape[:-1])
        if y_true.shape[: full.ndim] != full.shape:
            return y_true
        return np.where(full.reshape(full.shape + (1,) * (y_true.ndim - full.ndim)), y_true, np.zeros((), y_true.dtype))

    def _mask(self, y_true: Any, y_pred: np.ndarray, mask: Any) -> np.ndarray | None:
        return None if mask is None else fitted(self.name, "mask", np.asarray(mask) != 0, y_pred.shape[:-1])

    def _weights(
        self, shape: tuple[int, ...], sample_weight: Any, mask: np.ndarray | None
    ) -> tuple[np.ndarray, np.float64]:
        """Return factors that can be stretched to `shape`, and what the weighted sum is divided by."""
        weights = np.ones((1,) * len(shape))
        if sample_weight is not None:
            weights = fitted(self.name, "sample_weight", np.asarray(sample_weight, dtype=np.float64), shape)
        count = np.float64(np.prod(shape))
        divisor = np.float64(1.0)
        if self.reduction in ("sum_over_batch_size", "mean"):
            divisor = count if mask is None else count * np.count_nonzero(mask) / mask.size
        if mask is not None:
            weights = weights * mask
        if self.reduction == "mean_with_sample_weight":
            divisor = np.broadcast_to(weights, shape).sum()
        # Nothing to average gives 0, as in Keras.
        return weights, divisor if divisor != 0.0 else np.float64(np.inf)


def predictions(where: str, y_pred: Any) -> np.ndarray:
    """Return predictions as a float32 or float64 array with a batch axis and one more."""
    y_pred = np.asarray(y_pred)
    if y_pred.dtype.kind != "f":
        raise TypeError(f"{where}: y_pred must have a float type, got {y_pred.dtype}.")
    if y_pred.ndim == 0:
        raise ValueError(f"{where}: y_pred must have shape (batch, ...), got ().")
    y_pred = y_pred.astype(np.float64 if y_pred.dtype.itemsize > 4 else np.float32, copy=False)
    return y_pred[:, None] if y_pred.ndim == 1 else y_pred


def matched(where: str, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
    """Return `y_true` in the type and shape of `y_pred`; an axis of size 1 at the end may be missing or too many."""
    y_true = np.asarray(y_true)
    if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
        y_true = y_true[..., None]
    elif y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    checks.shape(where, "y_true", y_true, y_pred.shape)
    return y_true.astype(y_pred.dtype, copy=False)


def fitted(where: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return weights or a mask of samples, or of samples and steps, with as many axes as `shape`.

    Axes are added at the end; Keras 3 adds none, so that weights (batch,) of sequences fail there or fall on the steps.
    """
    if array.ndim == len(shape) + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    full = array.reshape(array.shape + (1,) * (len(shape) - array.ndim)) if array.ndim <= len(shape) else array
    if full.ndim != len(shape) or any(size not in (1, want) for size, want in zip(full.shape, shape, strict=True)):
        wanted = checks.format_shape(shape)
        raise ValueError(f"{where}: {name} must fit {wanted}, got shape {checks.format_shape(array.shape)}.")
    return full
