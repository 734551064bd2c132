"""The plain layers of every model: inputs, Dense, Activation, Masking."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from numbalstm import activations, checks, constraints, initializers, regularizers
from numbalstm.backends.dense import DenseWeights, dense
from numbalstm.layers.base import InputSpec, Layer, Node, SymbolicTensor, register_layer
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.symbolic import Shape

_INPUT_DTYPES = {"bool", "bfloat16", "float16", "float32", "float64", "int8", "int16", "int32", "int64"}
_INPUT_DTYPES |= {"uint8", "uint16", "uint32", "uint64"}


@register_layer()
class InputLayer(Layer):
    """The place where one array enters a model.

    Parameters
    ----------
    shape : sequence of int or None, optional
        Without the batch axis; None is a size that may differ from call to call.
    batch_size : int, optional
        None: any.
    dtype : str or numpy dtype, optional
        Element type of the arrays; None is float32.
    batch_shape : sequence of int or None, optional
        `shape` with the batch axis, in its place.
    name : str, optional
    optional : bool, default False
        Accepted from configs; None in an input's place is refused all the same.
    batch_input_shape, input_shape
        The Keras 2 names of `batch_shape` and `shape`.

    Attributes
    ----------
    batch_shape : tuple
    dtype : str
    output : SymbolicTensor
    """

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: Any = None,
        batch_shape: Sequence[int | None] | None = None,
        name: str | None = None,
        optional: bool = False,
        batch_input_shape: Sequence[int | None] | None = None,
        input_shape: Sequence[int | None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        shape = input_shape if shape is None else shape
        batch_shape = batch_input_shape if batch_shape is None else batch_shape
        self.batch_shape = _batch_shape(self.place, shape, batch_size, batch_shape)
        self.dtype = _element_type(self.place, dtype)
        self.optional = bool(optional)
        node = Node(self, (), {})
        self.nodes.append(node)
        self.tensor = node.set_outputs(self.batch_shape, self.dtype)
        self.build(self.batch_shape)

    def call(self, inputs: Any) -> np.ndarray:
        """Return the inputs unchanged."""
        return inputs

    def _vjp(self, inputs: Any) -> tuple[np.ndarray, Pull]:
        return inputs, lambda cotangent, _: LayerGradients(cotangent)

    @property
    def input(self) -> SymbolicTensor:
        """The symbolic tensor, as `output`."""
        return self.tensor

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": self.optional,
        }


def Input(
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: Any = None,
    name: str | None = None,
    batch_shape: Sequence[int | None] | None = None,
) -> SymbolicTensor:
    """Return a symbolic tensor from which a functional model, or the first place of a Sequential, starts.

    Parameters
    ----------
    shape : sequence of int or None
        Without the batch axis, for example ``(None, 8)``: any number of steps of 8 features.
    batch_size : int, optional
        None: any.
    dtype : str or numpy dtype, optional
        None is float32.
    name : str, optional
        Name of the input.
    batch_shape : sequence of int or None, optional
        `shape` with the batch axis, in its place.

    Raises
    ------
    ValueError
        Without a shape, or with two.
    """
    return InputLayer(shape, batch_size, dtype, batch_shape, name).tensor


@register_layer()
class Dense(Layer):
    """``activation(inputs @ kernel + bias)`` along the last axis.

    Parameters
    ----------
    units : int
        Size of the last output axis.
    activation : str or callable, optional
        None is the identity.
    use_bias : bool, default True
    kernel_initializer, bias_initializer : default "glorot_uniform", "zeros"
    kernel_regularizer, bias_regularizer, activity_regularizer : optional
    kernel_constraint, bias_constraint : optional
    **kwargs
        As for `Layer`.

    Notes
    -----
    Weights: ``kernel`` (features, units) and ``bias`` (units,).  A mask passes through.
    """

    supports_mask = True

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = checks.positive_integer("Dense", "units", units)
        self.activation = activations.get(activation, where="Dense: activation")
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "glorot_uniform", "Dense: kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "zeros", "Dense: bias_initializer")
        self.kernel_regularizer = regularizers.get(kernel_regularizer, "Dense: kernel_regularizer")
        self.bias_regularizer = regularizers.get(bias_regularizer, "Dense: bias_regularizer")
        self.kernel_constraint = constraints.get(kernel_constraint, "Dense: kernel_constraint")
        self.bias_constraint = constraints.get(bias_constraint, "Dense: bias_constraint")
        self.input_spec = InputSpec(min_rank=2)
        self._values: list[np.ndarray] = []

    def build(self, input_shape: Shape) -> None:
        """Make the weights; ValueError when the number of features is not known."""
        self.check_shape(input_shape)
        features = self.known_size(input_shape, -1)
        self.kernel = self.add_weight(
            "kernel", (features, self.units), self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", (self.units,), self.bias_initializer, self.bias_regularizer, self.bias_constraint
            )
        self.input_spec = InputSpec(min_rank=2, axes={-1: features})

    def call(self, inputs: Any) -> np.ndarray:
        """Compute the outputs, (..., units), for inputs (..., features)."""
        return self.policy.to_output(self.activation(self._linear(self.array(inputs))))

    def _linear(self, x: np.ndarray) -> np.ndarray:
        rows = dense(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), self._packed_weights())
        return rows.reshape(*x.shape[:-1], self.units)

    def _vjp(self, inputs: Any) -> tuple[np.ndarray, Pull]:
        x = self.array(inputs)
        z = self._linear(x)
        kernel = self.policy.to_compute(self.kernel.value)

        def pull(cotangent: np.ndarray, _: bool) -> LayerGradients:
            dz = self.activation.vjp(z, cotangent).reshape(-1, self.units)
            weights = {self.kernel: dense(x.reshape(len(dz), x.shape[-1]).T, DenseWeights(dz, None))}
            if self.bias is not None:
                weights[self.bias] = dz.sum(axis=0)
            return LayerGradients(dense(dz, DenseWeights(kernel.T, None)).reshape(x.shape), weights=weights)

        return self.policy.to_output(self.activation(z)), pull

    def _packed_weights(self) -> DenseWeights:
        """Return the weights in the kernels' order; made anew when they change, which makes the values read-only."""
        values = [weight.value for weight in (self.kernel, self.bias) if weight is not None]
        if len(values) != len(self._values) or any(a is not b for a, b in zip(values, self._values, strict=True)):
            for value in values:
                value.flags.writeable = False
            kernel, bias = (*(self.policy.to_compute(value) for value in values), None)[:2]
            self._packed, self._values = DenseWeights(kernel, bias), values
        return self._packed

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input shape with `units` as its last size."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


@register_layer()
class Activation(Layer):
    """Apply an activation function.

    Parameters
    ----------
    activation : str or callable
        Name of a function of `numbalstm.activations`, or a function of an array.
    **kwargs
        As for `Layer`.
    """

    supports_mask = True

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation, where="Activation: activation")

    def call(self, inputs: Any) -> np.ndarray:
        """Return the function's values, shaped as the inputs."""
        return self.policy.to_output(self.activation(self.array(inputs)))

    def _vjp(self, inputs: Any) -> tuple[np.ndarray, Pull]:
        x = self.array(inputs)
        outputs = self.policy.to_output(self.activation(x))
        return outputs, lambda cotangent, _: LayerGradients(self.activation.vjp(x, cotangent))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"activation": activations.serialize(self.activation)}


@register_layer()
class Masking(Layer):
    """Mask the steps whose features all equal a value, and set the features of these steps to zero.

    Parameters
    ----------
    mask_value : float, default 0.0
        The value that marks a missing step.
    **kwargs
        As for `Layer`.

    Notes
    -----
    The mask is True where some feature differs from `mask_value`.  NaN differs from every value.
    """

    supports_mask = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = _mask_value(mask_value)
        self.input_spec = InputSpec(min_rank=2)

    def call(self, inputs: Any) -> np.ndarray:
        """Return the inputs with zeros in the masked steps."""
        x = self.array(inputs, keep_integers=True)
        return self.result(np.where(self.compute_mask(x)[..., None], x, x.dtype.type(0)))

    def _vjp(self, inputs: Any) -> tuple[np.ndarray, Pull]:
        kept = self.compute_mask(inputs)[..., None]
        return self.call(inputs), lambda cotangent, _: LayerGradients(np.where(kept, cotangent, 0))

    def compute_mask(self, inputs: Any, mask: Any = None) -> np.ndarray:
        """Return the mask, shaped as the inputs without the last axis."""
        x = self.array(inputs, keep_integers=True)
        return (x != self.mask_value).any(axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"mask_value": self.mask_value}


def _mask_value(value: Any) -> float:
    """Return a mask value as a number; Keras 3 configs may hold NumPy scalars as dicts."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        value = value["config"].get("value")
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"Masking: mask_value must be a number, got {checks.describe(value)}.")
    return value.item() if isinstance(value, np.generic) else value


def _batch_shape(where: str, shape: Any, batch_size: int | None, batch_shape: Any) -> Shape:
    """Return the one shape that an input's arguments give."""
    if (shape is None) == (batch_shape is None):
        raise ValueError(f"{where}: give either shape or batch_shape, got shape={shape}, batch_shape={batch_shape}.")
    if batch_shape is not None and batch_size is not None:
        raise ValueError(f"{where}: give batch_size with shape, not with batch_shape.")
    given = batch_shape if shape is None else shape
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"{where}: a shape must be a tuple of integers and None, got {checks.describe(given)}.")
    sizes = tuple(None if size is None else checks.integer(where, "a size", size, minimum=0) for size in given)
    return sizes if shape is None else (batch_size, *sizes)


def _element_type(where: str, dtype: Any) -> str:
    """Return the name of an input's element type."""
    name = "float32" if dtype is None else dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in _INPUT_DTYPES:
        raise checks.unknown(where, "dtype", name, _INPUT_DTYPES)
    return name
