"""Layers that make one array of several."""

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.layers.base import GENERATIONS, Layer, register_layer
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.symbolic import Shape, broadcast, is_shape


class _Merge(Layer):
    """Element by element, with broadcasting; arrays with fewer axes get axes of size 1 behind the batch axis.

    Parameters
    ----------
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Whose rule joins masks, see `compute_mask`.
    **kwargs
        As for `Layer`.
    """

    supports_mask = True

    def __init__(self, *, generation: str = "keras3", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generation = checks.one_of(type(self).__name__, "generation", generation, GENERATIONS)

    def build(self, input_shape: Any) -> None:
        """Check the shapes."""
        self.compute_output_shape(input_shape)

    def call(self, inputs: Sequence[Any]) -> np.ndarray:
        """Return the merged array of a list of arrays."""
        return self.result(self.merge(self._aligned(inputs)))

    def _vjp(self, inputs: Sequence[Any]) -> tuple[np.ndarray, Pull]:
        arrays = self._aligned(inputs)
        shapes = [np.shape(array) for array in inputs]

        def pull(cotangent: np.ndarray, _: bool) -> LayerGradients:
            return LayerGradients(_summed(self.unmerge(arrays, cotangent), arrays, shapes))

        return self.result(self.merge(arrays)), pull

    def merge(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Return one array of several with as many axes."""
        raise NotImplementedError

    def unmerge(self, arrays: list[np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
        """Return the gradient for each array, before it is summed over the axes in which that was broadcast."""
        raise NotImplementedError

    def arrays(self, inputs: Any) -> list[np.ndarray]:
        """Return the inputs as arrays of one type: all integers, or all floats in the type of the arithmetic."""
        if not isinstance(inputs, (list, tuple)) or not inputs:
            raise ValueError(f"{self.place}: must be called on a list of arrays, got {checks.describe(inputs)}.")
        found = [np.asarray(array) for array in inputs]
        integers = all(array.dtype.kind in "iub" for array in found)
        arrays = [self.array(array, keep_integers=integers) for array in found]
        self.compute_output_shape([array.shape for array in arrays])
        return arrays

    def _aligned(self, inputs: Any) -> list[np.ndarray]:
        arrays = self.arrays(inputs)
        rank = max(array.ndim for array in arrays)
        return [array.reshape(array.shape[:1] + (1,) * (rank - array.ndim) + array.shape[1:]) for array in arrays]

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """Return the shape that the inputs' shapes broadcast to; ValueError when they do not."""
        shapes = self._shapes(input_shape)
        rest: Shape | None = shapes[0][1:]
        for shape in shapes[1:]:
            rest = broadcast(rest, shape[1:])
            if rest is None:
                raise ValueError(f"{self.place}: the inputs do not fit together, got shapes {_listed(shapes)}.")
        batches = {shape[0] for shape in shapes} - {None}
        if len(batches) > 1:
            raise ValueError(f"{self.place}: the inputs must have one batch size, got shapes {_listed(shapes)}.")
        return (batches.pop() if batches else None, *rest)

    def _shapes(self, input_shape: Any) -> list[Shape]:
        if is_shape(input_shape) or isinstance(input_shape, dict):
            raise ValueError(f"{self.place}: must be called on a list of arrays, got one of shape {input_shape}.")
        return [tuple(shape) for shape in input_shape]

    def compute_mask(self, inputs: Any, mask: Any = None) -> np.ndarray | None:
        """Return the mask of the output.

        Keras 3: True where one of the masks is, and None when an input has none.  Keras 2: True where all the masks
        are that there are.
        """
        masks = self._masks(inputs, mask)
        found = [m for m in masks if m is not None]
        if not found or (self.generation == "keras3" and len(found) < len(masks)):
            return None
        return reduce(np.logical_or if self.generation == "keras3" else np.logical_and, found)  # they may broadcast

    def _masks(self, inputs: Any, mask: Any) -> list[Any]:
        """Return one mask or None for each input; [] when there are none at all."""
        if mask is None:
            return []
        if not isinstance(mask, (list, tuple)) or len(mask) != len(inputs):
            raise ValueError(
                f"{self.place}: mask must be a list with one mask or None for each of {len(inputs)} inputs."
            )
        return [None if m is None else np.asarray(m, dtype=bool) for m in mask]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        own = {} if self.generation == "keras3" else {"generation": self.generation}
        return super().get_config() | own


@register_layer()
class Add(_Merge):
    """Sum of the inputs.

    Parameters
    ----------
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Whose rule joins masks: see `compute_mask`.
    **kwargs
        As for `Layer`.
    """

    def merge(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Return the sum."""
        total = arrays[0]
        for array in arrays[1:]:
            total = total + array
        return total

    def unmerge(self, arrays: list[np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
        """Return the cotangent for each."""
        return [cotangent] * len(arrays)


@register_layer()
class Average(Add):
    """Mean of the inputs.

    Parameters
    ----------
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Whose rule joins masks: see `compute_mask`.
    **kwargs
        As for `Layer`.
    """

    def merge(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Return the sum divided by the number of inputs."""
        total = self.policy.to_compute(super().merge(arrays))
        return total / total.dtype.type(len(arrays))

    def unmerge(self, arrays: list[np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
        """Return its share of the cotangent for each."""
        return super().unmerge(arrays, cotangent / len(arrays))


@register_layer()
class Multiply(_Merge):
    """Product of the inputs.

    Parameters
    ----------
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Whose rule joins masks: see `compute_mask`.
    **kwargs
        As for `Layer`.

    Notes
    -----
    Masked elements count as 1; where every input has a mask, the product of steps masked in all of them is 0 (Keras 3;
    Keras 2 multiplies whatever is there).
    """

    def call(self, inputs: Sequence[Any], mask: Sequence[Any] | None = None) -> np.ndarray:
        """Return the product of a list of arrays."""
        arrays, kept = self._kept(inputs, mask)
        return self.result(_zeroed(self.merge(_ones(arrays, kept)), kept))

    def _vjp(self, inputs: Sequence[Any], mask: Sequence[Any] | None = None) -> tuple[np.ndarray, Pull]:
        arrays, kept = self._kept(inputs, mask)
        ones = _ones(arrays, kept)
        shapes = [np.shape(array) for array in inputs]

        def pull(cotangent: np.ndarray, _: bool) -> LayerGradients:
            parts = self.unmerge(ones, cotangent)
            parts = [part if m is None else np.where(m, part, 0) for part, m in zip(parts, kept, strict=True)]
            return LayerGradients(_summed(parts, arrays, shapes))

        return self.result(_zeroed(self.merge(ones), kept)), pull

    def _kept(self, inputs: Any, mask: Any) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """Return the inputs as arrays, and for each the elements that are not masked; None: all."""
        arrays, masks = self._aligned(inputs), self._masks(inputs, mask)
        if not masks or self.generation != "keras3":
            return arrays, [None] * len(arrays)
        pairs = zip(arrays, masks, strict=True)
        return arrays, [None if m is None else np.broadcast_to(m[..., None], x.shape) for x, m in pairs]

    def merge(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Return the product."""
        product = arrays[0]
        for array in arrays[1:]:
            product = product * array
        return product

    def unmerge(self, arrays: list[np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
        """Return the cotangent times the other arrays for each."""
        before = list(accumulate(arrays[:-1], np.multiply, initial=cotangent))
        behind = list(accumulate(arrays[:0:-1], np.multiply, initial=cotangent.dtype.type(1)))
        return [one * other for one, other in zip(before, reversed(behind), strict=True)]


@register_layer()
class Concatenate(_Merge):
    """The inputs one behind the other along an axis.

    Parameters
    ----------
    axis : int, default -1
        The axis, the batch axis counted as 0.
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Whose rule joins masks, see `compute_mask`.
    **kwargs
        As for `Layer`.
    """

    def __init__(self, axis: int = -1, *, generation: str = "keras3", **kwargs: Any) -> None:
        super().__init__(generation=generation, **kwargs)
        self.axis = checks.integer("Concatenate", "axis", axis)

    def call(self, inputs: Sequence[Any]) -> np.ndarray:
        """Return the joined array of a list of arrays."""
        return self.result(np.concatenate(self.arrays(inputs), axis=self.axis))

    def _vjp(self, inputs: Sequence[Any]) -> tuple[np.ndarray, Pull]:
        ends = np.cumsum([np.shape(array)[self.axis] for array in inputs])[:-1]
        return self.call(inputs), lambda cotangent, _: LayerGradients(np.split(cotangent, ends, axis=self.axis))

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """Return the joined shape; ValueError when other sizes than those along the axis differ."""
        shapes = self._shapes(input_shape)
        rank = len(shapes[0])
        if any(len(shape) != rank for shape in shapes) or not -rank <= self.axis < rank:
            raise ValueError(f"{self.place}: inputs of shapes {_listed(shapes)} have no common axis {self.axis}.")
        sizes = []
        for axis, column in enumerate(zip(*shapes, strict=True)):
            known = set(column) - {None}
            if axis == self.axis % rank:
                sizes.append(None if None in column else sum(column))
            elif len(known) > 1:
                raise ValueError(
                    f"{self.place}: the inputs must agree in all axes but {self.axis}, got shapes {_listed(shapes)}."
                )
            else:
                sizes.append(known.pop() if known else None)
        return tuple(sizes)

    def compute_mask(self, inputs: Any, mask: Any = None) -> np.ndarray | None:
        """Return the mask of the output; None when no input has one.

        Inputs without a mask count as not masked.  Along the last axis a step is kept in Keras 3 when one input keeps
        it, in Keras 2 when all do.
        """
        masks = self._masks(inputs, mask)
        if all(m is None for m in masks):
            return None
        shapes = [np.shape(x) for x in inputs]
        full = [
            np.ones(shape, bool) if m is None else np.broadcast_to(m[..., None] if m.ndim < len(shape) else m, shape)
            for m, shape in zip(masks, shapes, strict=True)
        ]
        joined = np.concatenate(full, axis=self.axis)
        return joined.any(axis=-1) if self.generation == "keras3" else joined.all(axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"axis": self.axis}


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(str, shapes))


def _summed(parts: Sequence[np.ndarray], arrays: Sequence[np.ndarray], shapes: Sequence[Shape]) -> list[np.ndarray]:
    """Return gradients summed over the axes in which the arrays were broadcast, in the shapes of the inputs."""
    found = []
    for part, array, shape in zip(parts, arrays, shapes, strict=True):
        axes = tuple(axis for axis, size in enumerate(array.shape) if size == 1 != part.shape[axis])
        found.append((part.sum(axis=axes, keepdims=True) if axes else part).reshape(shape))
    return found


def _ones(arrays: Sequence[np.ndarray], kept: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Return the arrays with 1 where they are masked."""
    pairs = zip(arrays, kept, strict=True)
    return [x if m is None else np.where(m, x, x.dtype.type(1)) for x, m in pairs]


def _zeroed(product: np.ndarray, kept: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return the product with 0 where every array has a mask and is masked."""
    if any(m is None for m in kept):
        return product
    return np.where(reduce(np.logical_or, kept), product, product.dtype.type(0))
