"""Normalisation with learned scale and offset."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from numbalstm import checks, constraints, initializers, regularizers
from numbalstm.layers.base import InputSpec, Layer, register_layer
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.symbolic import Shape
from numbalstm.parameters import Weight

_MASK_EPSILON = 1e-7
"""What Keras adds to the number of elements that a mask leaves."""


class _Normalization(Layer):
    """What both normalisations share: the options of ``gamma`` and ``beta``, and these weights."""

    supports_mask = True

    def __init__(
        self,
        epsilon: float,
        center: bool,
        scale: bool,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        where = type(self).__name__
        self.epsilon = checks.number(where, "epsilon", epsilon, minimum=0.0)
        self.center, self.scale = bool(center), bool(scale)
        self.beta_initializer = initializers.get(beta_initializer, "zeros", f"{where}: beta_initializer")
        self.gamma_initializer = initializers.get(gamma_initializer, "ones", f"{where}: gamma_initializer")
        self.beta_regularizer = regularizers.get(beta_regularizer, f"{where}: beta_regularizer")
        self.gamma_regularizer = regularizers.get(gamma_regularizer, f"{where}: gamma_regularizer")
        self.beta_constraint = constraints.get(beta_constraint, f"{where}: beta_constraint")
        self.gamma_constraint = constraints.get(gamma_constraint, f"{where}: gamma_constraint")
        self.gamma: Weight | None = None
        self.beta: Weight | None = None

    def _add_scale_and_offset(self, shape: Shape) -> None:
        if self.scale:
            self.gamma = self.add_weight(
                "gamma", shape, self.gamma_initializer, self.gamma_regularizer, self.gamma_constraint
            )
        if self.center:
            self.beta = self.add_weight(
                "beta", shape, self.beta_initializer, self.beta_regularizer, self.beta_constraint
            )

    def _value(self, weight: Weight, shape: Sequence[int]) -> np.ndarray:
        """Return a weight's value for the arithmetic, shaped to broadcast over the inputs."""
        return self.policy.to_compute(weight.value).reshape(shape)

    def _scale_and_offset(self, unit: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, Callable]:
        """Return gamma * unit + beta, and what takes its cotangent to that of `unit` and of the weights."""
        gamma = None if self.gamma is None else self._value(self.gamma, shape)
        y = unit.copy() if gamma is None else unit * gamma  # unit is kept, and y the caller's
        if self.beta is not None:
            y += self._value(self.beta, shape)
        axes = tuple(axis for axis, size in enumerate(shape) if size == 1)

        def pull(cotangent: np.ndarray) -> tuple[np.ndarray, dict[Weight, np.ndarray]]:
            pairs = ((self.gamma, cotangent * unit), (self.beta, cotangent))
            weights = {
                weight: part.sum(axis=axes).reshape(weight.shape) for weight, part in pairs if weight is not None
            }
            return cotangent if gamma is None else cotangent * gamma, weights

        return y, pull

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "beta_regularizer": regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": constraints.serialize(self.beta_constraint),
            "gamma_constraint": constraints.serialize(self.gamma_constraint),
        }


@register_layer()
class LayerNormalization(_Normalization):
    """Give every sample mean 0 and variance 1 along some axes, then scale and shift.

    Parameters
    ----------
    axis : int or sequence of int, default -1
        Axes of which mean and variance are taken, the batch axis counted as 0.
    epsilon : float, default 1e-3
        Added to the variance.
    center, scale : bool, default True
        Whether there is an offset ``beta`` and a factor ``gamma``.
    **options
        ``beta_initializer`` (default "zeros"), ``gamma_initializer`` ("ones"), ``beta_regularizer``,
        ``gamma_regularizer``, ``beta_constraint``, ``gamma_constraint``, and as for `Layer`.

    References
    ----------
    Ba, Kiros, Hinton (2016), Layer normalization, arXiv:1607.06450.
    """

    harmless_config: ClassVar[dict[str, tuple]] = {"rms_scaling": (False,)}

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(epsilon, center, scale, **options)
        many = isinstance(axis, (list, tuple))
        axes = [checks.integer("LayerNormalization", "axis", item) for item in (axis if many else [axis])]
        self.axis = axes if many else axes[0]

    def build(self, input_shape: Shape) -> None:
        """Make the weights; ValueError when a normalised size is not known."""
        rank = len(input_shape)
        given = self.axis if isinstance(self.axis, list) else [self.axis]
        if any(not -rank <= axis < rank for axis in given):
            raise ValueError(
                f"{self.place}: axis {self.axis} is out of bounds for inputs of shape {tuple(input_shape)}."
            )
        self._axes = tuple(sorted({axis % rank for axis in given}))
        sizes = {axis: self.known_size(input_shape, axis) for axis in self._axes}
        # Keras sorts the axes as they were given, so that -1 comes before 1, and reshapes what it stores in that order.
        stored = dict.fromkeys(axis % rank for axis in sorted(given))
        self._add_scale_and_offset(tuple(sizes[axis] for axis in stored))
        self.input_spec = InputSpec(rank=rank, axes=sizes)

    def call(self, inputs: Any) -> np.ndarray:
        """Return the normalised inputs."""
        return self._vjp(inputs)[0]

    def _vjp(self, inputs: Any) -> tuple[np.ndarray, Pull]:
        x = self.array(inputs)
        shape = [size if axis in self._axes else 1 for axis, size in enumerate(x.shape)]
        unit = x - x.mean(axis=self._axes, keepdims=True)
        factor = 1 / np.sqrt(np.square(unit).mean(axis=self._axes, keepdims=True) + x.dtype.type(self.epsilon))
        unit *= factor
        y, scaled_pull = self._scale_and_offset(unit, shape)

        def pull(cotangent: np.ndarray, _: bool) -> LayerGradients:
            d_unit, weights = scaled_pull(cotangent)
            along = (d_unit * unit).mean(axis=self._axes, keepdims=True)
            dx = factor * (d_unit - d_unit.mean(axis=self._axes, keepdims=True) - unit * along)
            return LayerGradients(dx, weights=weights)

        return self.result(y), pull

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"axis": self.axis}


@register_layer("BatchNormalizationV1", "BatchNormalizationV2")
class BatchNormalization(_Normalization):
    """Shift and scale every feature by its mean and variance: in training those of the batch, else those collected.

    Parameters
    ----------
    axis : int or sequence of one int, default -1
        The axis of the features.
    momentum : float, default 0.99
        Of the moving averages: ``new = momentum * old + (1 - momentum) * batch``, once in every training call.
    epsilon : float, default 1e-3
        Added to the variance.
    center, scale : bool, default True
        Whether there is an offset ``beta`` and a factor ``gamma``.
    moving_mean_initializer, moving_variance_initializer : default "zeros", "ones"
    **options
        ``beta_initializer`` (default "zeros"), ``gamma_initializer`` ("ones"), ``beta_regularizer``,
        ``gamma_regularizer``, ``beta_constraint``, ``gamma_constraint``, and as for `Layer`.

    Notes
    -----
    With ``trainable=False`` the collected statistics serve in training too.  The variance is the mean square about the
    mean.  Masked elements do not count for the batch's statistics; an empty batch has none.

    References
    ----------
    Ioffe, Szegedy (2015), Batch normalization, arXiv:1502.03167, algorithm 2.
    """

    harmless_config: ClassVar[dict[str, tuple]] = {
        "renorm": (False,),
        "renorm_clipping": (None,),
        "renorm_momentum": (0.99,),
        "synchronized": (False, True),
        "virtual_batch_size": (None,),
        "fused": (None, False, True),
    }

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        *,
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        **options: Any,
    ) -> None:
        super().__init__(epsilon, center, scale, **options)
        if isinstance(axis, (list, tuple)) and len(axis) == 1:
            axis = axis[0]
        self.axis = checks.integer("BatchNormalization", "axis", axis)
        self.momentum = checks.number("BatchNormalization", "momentum", momentum)
        self.moving_mean_initializer = initializers.get(
            moving_mean_initializer, "zeros", "BatchNormalization: moving_mean_initializer"
        )
        self.moving_variance_initializer = initializers.get(
            moving_variance_initializer, "ones", "BatchNormalization: moving_variance_initializer"
        )

    def build(self, input_shape: Shape) -> None:
        """Make the weights; ValueError when the number of features is not known."""
        rank = len(input_shape)
        if not -rank <= self.axis < rank:
            raise ValueError(
                f"{self.place}: axis {self.axis} is out of bounds for inputs of shape {tuple(input_shape)}."
            )
        features = self.known_size(input_shape, self.axis)
        self._add_scale_and_offset((features,))
        self.moving_mean = self.add_weight("moving_mean", (features,), self.moving_mean_initializer, trainable=False)
        self.moving_variance = self.add_weight(
            "moving_variance", (features,), self.moving_variance_initializer, trainable=False
        )
        self.input_spec = InputSpec(rank=rank, axes={self.axis: features})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> np.ndarray:
        """Return the normalised inputs; `mask`, shaped as the inputs without the last axis, matters in training."""
        return self._vjp(inputs, training, mask)[0]

    def _vjp(self, inputs: Any, training: bool | None = None, mask: Any = None) -> tuple[np.ndarray, Pull]:
        x = self.array(inputs)
        shape = [1] * x.ndim
        shape[self.axis] = -1
        axes = tuple(axis for axis in range(x.ndim) if axis != self.axis % x.ndim)
        counts: np.ndarray | None = None  # which elements make the statistics; None: the collected ones are taken
        if training and self.trainable and x.size:
            counts = self._counted(x, mask)
            total = counts.sum(axis=axes, keepdims=True).astype(x.dtype) + x.dtype.type(
                0 if mask is None else _MASK_EPSILON
            )
            mean = np.where(counts, x, 0).sum(axis=axes, keepdims=True) / total
            centered = x - mean
            variance = np.where(counts, np.square(centered), 0).sum(axis=axes, keepdims=True) / total
            self._collect(self.moving_mean, mean)
            self._collect(self.moving_variance, variance)
        else:
            centered = x - self._value(self.moving_mean, shape)
            variance = self._value(self.moving_variance, shape)
        factor = 1 / np.sqrt(variance + x.dtype.type(self.epsilon))
        y, scaled_pull = self._scale_and_offset(centered * factor, shape)

        def pull(cotangent: np.ndarray, _: bool) -> LayerGradients:
            d_unit, weights = scaled_pull(cotangent)
            dx = d_unit * factor
            if counts is not None:
                d_variance = -0.5 * factor**3 * (d_unit * centered).sum(axis=axes, keepdims=True)
                # The masked mean is a little off, so what is counted does not sum to 0 around it.
                rest = np.where(counts, centered, 0).sum(axis=axes, keepdims=True)
                d_mean = -dx.sum(axis=axes, keepdims=True) - 2 * d_variance * rest / total
                dx += np.where(counts, (d_mean + 2 * d_variance * centered) / total, 0)
            return LayerGradients(dx, weights=weights)

        return self.result(y), pull

    def _counted(self, x: np.ndarray, mask: Any) -> np.ndarray:
        """Return which elements count for the batch's statistics."""
        if mask is None:
            return np.ones(x.shape, bool)
        mask = np.asarray(mask, dtype=bool)
        checks.shape(self.place, "mask", mask, x.shape[:-1])
        return np.broadcast_to(mask[..., None], x.shape)

    def _collect(self, weight: Weight, statistic: np.ndarray) -> None:
        """Move a moving average towards the batch's statistic."""
        old = self.policy.to_compute(weight.value)
        moved = old * self.momentum + statistic.reshape(old.shape) * (1.0 - self.momentum)
        weight.value = self.policy.to_variable(moved)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {
            "axis": self.axis,
            "momentum": self.momentum,
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
        }
