"""Normalisation with learned scale and offset."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from numbalstm import checks, constraints, initializers, regularizers
from numbalstm.layers.base import InputSpec, Layer, register_layer
from numbalstm.layers.symbolic import Shape
from numbalstm.parameters import Weight


class _Normalization(Layer):
    """What both normalisations share: the options of ``gamma`` and ``beta``, and these weights."""

    supports_mask = True

    def __init__(
        self,
        epsilon: float,
        center: bool,
        scale: bool,
        beta_initializer: Any,
        gamma_initializer: Any,
        beta_regularizer: Any,
        gamma_regularizer: Any,
        beta_constraint: Any,
        gamma_constraint: Any,
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
    beta_initializer, gamma_initializer : default "zeros", "ones"
    beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint : optional
    **kwargs
        As for `Layer`.

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
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
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
        x = self.array(inputs)
        shape = [size if axis in self._axes else 1 for axis, size in enumerate(x.shape)]
        y = x - x.mean(axis=self._axes, keepdims=True)
        factor = 1 / np.sqrt(np.square(y).mean(axis=self._axes, keepdims=True) + x.dtype.type(self.epsilon))
        y *= factor if self.gamma is None else factor * self._value(self.gamma, shape)
        if self.beta is not None:
            y += self._value(self.beta, shape)
        return self.result(y)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"axis": self.axis}


@register_layer("BatchNormalizationV1", "BatchNormalizationV2")
class BatchNormalization(_Normalization):
    """Shift and scale every feature by the mean and variance that training collected; inference only.

    Parameters
    ----------
    axis : int or sequence of one int, default -1
        The axis of the features.
    momentum : float, default 0.99
        Of the moving averages in training; kept for the config.
    epsilon : float, default 1e-3
        Added to the variance.
    center, scale : bool, default True
        Whether there is an offset ``beta`` and a factor ``gamma``.
    beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer
        Default "zeros", "ones", "zeros", "ones".
    beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint : optional
    **kwargs
        As for `Layer`.

    Raises
    ------
    NotImplementedError
        From a call with ``training=True`` of a trainable layer.

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
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
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
        """Return the normalised inputs; a mask would matter in training only."""
        if training and self.trainable:
            raise NotImplementedError(
                f"{self.place}: normalises by the collected averages only; training=True is not supported."
            )
        x = self.array(inputs)
        shape = [1] * x.ndim
        shape[self.axis] = -1
        factor = 1 / np.sqrt(self._value(self.moving_variance, shape) + x.dtype.type(self.epsilon))
        if self.gamma is not None:
            factor = factor * self._value(self.gamma, shape)
        y = (x - self._value(self.moving_mean, shape)) * factor
        if self.beta is not None:
            y += self._value(self.beta, shape)
        return self.result(y)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {
            "axis": self.axis,
            "momentum": self.momentum,
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
        }
