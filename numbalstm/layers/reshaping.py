"""Layers that change the shape and leave the values alone."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.layers.base import InputSpec, Layer, register_layer
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.symbolic import Shape, SymbolicTensor


class _Reshaping(Layer):
    """A layer that keeps integers as they are and destroys masks, as in Keras."""

    def call(self, inputs: Any) -> np.ndarray:
        """Return the values in their new shape."""
        return self.result(self.reshape(self.array(inputs, keep_integers=True)))

    def _vjp(self, inputs: Any) -> tuple[np.ndarray, Pull]:
        shape = np.shape(inputs)
        return self.call(inputs), lambda cotangent, _: LayerGradients(self.unshape(cotangent, shape))

    def reshape(self, x: np.ndarray) -> np.ndarray:
        """Return the array in its new shape."""
        raise NotImplementedError

    def unshape(self, cotangent: np.ndarray, shape: Shape) -> np.ndarray:
        """Return the gradient for an input of this shape."""
        return cotangent.reshape(shape)

    def output_dtype(self, inputs: Sequence[SymbolicTensor]) -> str:
        """Return the layer's float type for floats, and the input's type for others."""
        return super().output_dtype(inputs) if "float" in inputs[0].dtype else inputs[0].dtype


@register_layer()
class Flatten(_Reshaping):
    """Join all axes but the first: (batch, ...) to (batch, size); (batch,) to (batch, 1).

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
        "channels_first" moves axis 1 to the end before.  None is "channels_last".
    **kwargs
        As for `Layer`.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format_of("Flatten", data_format)
        self.input_spec = InputSpec(min_rank=1)

    def reshape(self, x: np.ndarray) -> np.ndarray:
        """Return the array as a matrix."""
        if self.data_format == "channels_first" and x.ndim > 1:
            x = np.moveaxis(x, 1, -1)
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))

    def unshape(self, cotangent: np.ndarray, shape: Shape) -> np.ndarray:
        """Return the gradient for an input of this shape."""
        if self.data_format == "channels_first" and len(shape) > 1:
            return np.moveaxis(cotangent.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
        return cotangent.reshape(shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (batch, size); the size is None when one of its factors is."""
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"data_format": self.data_format}


@register_layer()
class Reshape(_Reshaping):
    """Give each sample another shape.

    Parameters
    ----------
    target_shape : sequence of int
        Without the batch axis.  One of them may be -1: what remains.
    **kwargs
        As for `Layer`.
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(target_shape, (list, tuple)):
            raise TypeError(f"Reshape: target_shape must be a tuple, got {checks.describe(target_shape)}.")
        sizes = tuple(checks.integer("Reshape", "target_shape", size, minimum=-1) for size in target_shape)
        if sizes.count(-1) > 1:
            raise ValueError(f"Reshape: target_shape may hold one -1, got {sizes}.")
        self.target_shape = sizes
        self.input_spec = InputSpec(min_rank=1)

    def reshape(self, x: np.ndarray) -> np.ndarray:
        """Return the array with each sample in the target shape."""
        return x.reshape(self.compute_output_shape(x.shape))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (batch, *target_shape) with -1 worked out, or None in its place where sizes are not known."""
        rest, target = input_shape[1:], self.target_shape
        if None in rest:
            return (input_shape[0], *(None if size == -1 else size for size in target))
        total, known = math.prod(rest), math.prod(size for size in target if size != -1)
        fits = total == known if -1 not in target else known != 0 and total % known == 0
        if not fits:
            raise ValueError(f"{self.place}: a sample of shape {tuple(rest)} does not fit target_shape {target}.")
        return (input_shape[0], *(total // known if size == -1 else size for size in target))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"target_shape": self.target_shape}


@register_layer()
class RepeatVector(_Reshaping):
    """Repeat a vector as every step of a sequence: (batch, features) to (batch, n, features).

    Parameters
    ----------
    n : int
        Number of steps.
    **kwargs
        As for `Layer`.
    """

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = checks.positive_integer("RepeatVector", "n", n)
        self.input_spec = InputSpec(rank=2)

    def reshape(self, x: np.ndarray) -> np.ndarray:
        """Return the vectors repeated."""
        return np.repeat(x[:, None, :], self.n, axis=1)

    def unshape(self, cotangent: np.ndarray, shape: Shape) -> np.ndarray:
        """Return the sum over the steps."""
        return cotangent.sum(axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (batch, n, features)."""
        return (input_shape[0], self.n, input_shape[1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"n": self.n}


def data_format_of(where: str, value: Any) -> str:
    """Return the name of an axis order; None is "channels_last"."""
    if value is None:
        return "channels_last"
    return checks.one_of(where, "data_format", value, ("channels_last", "channels_first"))
