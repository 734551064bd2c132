"""The array functions that Keras 3 writes into a functional model's graph to compute masks."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from numbalstm import checks
from numbalstm.layers.base import Layer
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.registry import register_operation
from numbalstm.layers.symbolic import Node, Shape, SymbolicTensor, broadcast, map_leaves


class Operation(Layer):
    """A function of arrays and numbers as a node of a graph; it has no weights and neither sees nor makes masks.

    Parameters
    ----------
    name : str, optional
    **settings
        The function's own, as its Keras 3 config holds them.

    Raises
    ------
    ValueError
        For an unknown setting.
    """

    is_operation = True
    operation_name: ClassVar[str]
    supports_mask = True  # a mask that ends here is no loss: Keras computes masks by these functions
    options: ClassVar[tuple[str, ...]] = ()
    result_dtype = "bool"

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        for setting in settings:
            if setting not in self.options:
                raise checks.unknown(type(self).__name__, "setting", setting, self.options)
        super().__init__(name=name)
        self.settings = settings
        self.build(None)

    def _connect(self, inputs: Any, args: tuple, kwargs: dict[str, Any]) -> SymbolicTensor:
        node = Node(self, (inputs, *args), kwargs)
        shapes = map_leaves(lambda leaf: leaf.shape if isinstance(leaf, SymbolicTensor) else (), node.args)
        self.nodes.append(node)
        return node.set_outputs(self.shape(*shapes), self.settings.get("dtype") or self.result_dtype)

    def shape(self, *shapes: Any) -> Shape:
        """Return the shape of the value for arguments of these shapes."""
        raise NotImplementedError

    def output_shapes(self, *shapes: Any) -> Shape:
        """Return `shape`."""
        return self.shape(*shapes)

    def call_with_mask(self, inputs: Any, mask: Any, /, *args: Any, gives_mask: bool = True) -> tuple[Any, None]:
        """Return the function's value, and no mask."""
        return self.call(inputs, *args), None

    def vjp_with_mask(self, inputs: Any, mask: Any, /, *args: Any, gives_mask: bool = True) -> tuple[Any, None, Pull]:
        """Return the function's value, no mask, and the pull."""
        shapes = map_leaves(np.shape, inputs)

        def pull(cotangent: Any, _: bool) -> LayerGradients:
            return LayerGradients(None if cotangent is None else self.pulled(cotangent, shapes))

        return self.call(inputs, *args), None, pull

    def pulled(self, cotangent: np.ndarray, shapes: Any) -> Any:
        """Return the gradient for inputs of these shapes; None for a function whose values jump or are constant."""
        return None

    def get_config(self) -> dict[str, Any]:
        """Return the name and the function's settings."""
        return {"name": self.name, **self.settings}


class _Elementwise(Operation):
    function: ClassVar[Callable[..., np.ndarray]]

    def call(self, *arguments: Any) -> np.ndarray:
        """Return the function's value, element by element."""
        return type(self).function(*arguments)

    def shape(self, *shapes: Shape) -> Shape:
        """Return the shape that the arguments' shapes broadcast to."""
        result: Shape | None = ()
        for shape in shapes:
            result = broadcast(result, shape)
            if result is None:
                raise ValueError(f"{self.place}: shapes {shapes} do not fit together.")
        return result


@register_operation()
class NotEqual(_Elementwise):
    """``x1 != x2``."""

    function = staticmethod(np.not_equal)


@register_operation()
class Equal(_Elementwise):
    """``x1 == x2``."""

    function = staticmethod(np.equal)


@register_operation()
class LogicalOr(_Elementwise):
    """``x1 or x2``."""

    function = staticmethod(np.logical_or)


@register_operation()
class LogicalAnd(_Elementwise):
    """``x1 and x2``."""

    function = staticmethod(np.logical_and)


@register_operation()
class LogicalNot(_Elementwise):
    """``not x``."""

    function = staticmethod(np.logical_not)


class _Filled(Operation):
    options = ("dtype",)
    value = False

    def call(self, x: Any) -> np.ndarray:
        """Return a constant array, shaped as `x`."""
        return np.full(np.shape(x), self.value, self.settings.get("dtype") or np.asarray(x).dtype)

    def shape(self, shape: Shape) -> Shape:
        """Return the argument's shape."""
        return shape


@register_operation()
class ZerosLike(_Filled):
    """Zeros in the shape of an array."""


@register_operation()
class OnesLike(_Filled):
    """Ones in the shape of an array."""

    value = True


@register_operation("Any")
class AnyOf(Operation):
    """Whether any element along an axis is true."""

    options = ("axis", "keepdims")

    def call(self, x: Any) -> np.ndarray:
        """Return the truth along the axis."""
        return np.any(x, axis=self._axis(np.ndim(x)), keepdims=bool(self.settings.get("keepdims")))

    def _axis(self, rank: int) -> tuple[int, ...]:
        axis = self.settings.get("axis")
        axes = range(rank) if axis is None else axis if isinstance(axis, (list, tuple)) else [axis]
        return tuple(item % rank for item in axes)

    def shape(self, shape: Shape) -> Shape:
        """Return the argument's shape without the axis, or with size 1 there."""
        axes, kept = self._axis(len(shape)), bool(self.settings.get("keepdims"))
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape) if kept or axis not in axes)


@register_operation()
class ExpandDims(Operation):
    """A new axis of size 1."""

    options = ("axis",)

    def call(self, x: Any) -> np.ndarray:
        """Return a view with the axis."""
        return np.expand_dims(x, self.settings["axis"])

    def pulled(self, cotangent: np.ndarray, shapes: Any) -> np.ndarray:
        """Return the cotangent in the shape of the input."""
        return cotangent.reshape(shapes)

    def shape(self, shape: Shape) -> Shape:
        """Return the argument's shape with the axis."""
        axis = self.settings["axis"] % (len(shape) + 1)
        return (*shape[:axis], 1, *shape[axis:])


@register_operation()
class Squeeze(Operation):
    """Without an axis of size 1."""

    options = ("axis",)

    def call(self, x: Any) -> np.ndarray:
        """Return a view without the axis."""
        return np.squeeze(x, self.settings["axis"])

    def pulled(self, cotangent: np.ndarray, shapes: Any) -> np.ndarray:
        """Return the cotangent in the shape of the input."""
        return cotangent.reshape(shapes)

    def shape(self, shape: Shape) -> Shape:
        """Return the argument's shape without the axis."""
        axis = self.settings["axis"] % len(shape)
        return shape[:axis] + shape[axis + 1 :]


@register_operation("Concatenate")
class ConcatenateArrays(Operation):
    """Arrays one behind the other."""

    options = ("axis",)

    def call(self, arrays: Sequence[Any]) -> np.ndarray:
        """Return the joined array."""
        return np.concatenate(arrays, axis=self.settings.get("axis", 0))

    def pulled(self, cotangent: np.ndarray, shapes: Any) -> list[np.ndarray]:
        """Return each array's part."""
        axis = self.settings.get("axis", 0)
        return np.split(cotangent, np.cumsum([shape[axis] for shape in shapes])[:-1], axis=axis)

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the joined shape."""
        sizes = list(shapes[0])
        axis = self.settings.get("axis", 0)
        column = [shape[axis] for shape in shapes]
        sizes[axis] = None if None in column else sum(column)
        return tuple(sizes)
