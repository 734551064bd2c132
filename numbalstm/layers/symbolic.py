"""Symbolic tensors and the nodes that join them into a graph, and the walk through nested lists, tuples and dicts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

Shape = tuple[int | None, ...]


class SymbolicTensor:
    """What stands for an array while a model is put together: a shape and a type, but no values.

    Parameters
    ----------
    shape : sequence of int or None
        The batch axis first; None is a size known only at the call.
    dtype : str
        Name of the element type, for example ``"float32"``.
    node : Node
        The layer call that makes this tensor.
    index : int
        Position among that call's outputs.
    """

    __slots__ = ("dtype", "index", "node", "shape")

    def __init__(self, shape: Sequence[int | None], dtype: str, node: "Node", index: int) -> None:
        self.shape: Shape = tuple(shape)
        self.dtype = dtype
        self.node = node
        self.index = index

    @property
    def ndim(self) -> int:
        """Number of axes, the batch axis included."""
        return len(self.shape)

    @property
    def name(self) -> str:
        """Name of the layer that makes this tensor."""
        return self.node.layer.name

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError(
            f"The symbolic output of layer {self.name!r} has no values. Make a Model of it and call that on arrays."
        )

    def __repr__(self) -> str:
        return f"SymbolicTensor(shape={self.shape}, dtype={self.dtype!r}, layer={self.name!r})"


class Node:
    """One call of a layer on symbolic tensors.

    Parameters
    ----------
    layer : Layer
    args, kwargs : tuple, dict
        The call's arguments, ``args[0]`` its inputs; symbolic tensors stand where arrays will.

    Attributes
    ----------
    inputs : list of SymbolicTensor
        Every symbolic tensor in `args` and `kwargs`, in that order.
    outputs : list of SymbolicTensor
        What the call returned, flat.
    structure : object
        What the call returned, nested as the layer returns it.
    """

    __slots__ = ("args", "inputs", "kwargs", "layer", "outputs", "structure")

    def __init__(self, layer: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        self.layer = layer
        self.args = args
        self.kwargs = kwargs
        self.inputs = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, SymbolicTensor)]
        self.outputs: list[SymbolicTensor] = []
        self.structure: Any = None

    def set_outputs(self, shapes: Any, dtype: str) -> Any:
        """Make the output tensors, nested as `shapes` is (one shape, or lists or dicts of shapes), and return them."""
        self.structure = map_shapes(lambda shape: self._output(shape, dtype), shapes)
        return self.structure

    def _output(self, shape: Shape, dtype: str) -> SymbolicTensor:
        self.outputs.append(SymbolicTensor(shape, dtype, self, len(self.outputs)))
        return self.outputs[-1]

    def __repr__(self) -> str:
        return f"Node({self.layer.name!r}, inputs={self.inputs}, outputs={self.outputs})"


def leaves(structure: Any) -> Iterator[Any]:
    """Yield what is inside nested lists, tuples and dicts, from left to right."""
    if isinstance(structure, (list, tuple)):
        for item in structure:
            yield from leaves(item)
    elif isinstance(structure, Mapping):
        for item in structure.values():
            yield from leaves(item)
    else:
        yield structure


def map_leaves(function: Callable[[Any], Any], structure: Any) -> Any:
    """Return the same nesting of lists, tuples and dicts with `function` applied to everything inside."""
    if isinstance(structure, (list, tuple)):
        return type(structure)([map_leaves(function, item) for item in structure])
    if isinstance(structure, Mapping):
        return {key: map_leaves(function, item) for key, item in structure.items()}
    return function(structure)


def is_symbolic(structure: Any) -> bool:
    """Return whether there is a symbolic tensor inside."""
    return any(isinstance(leaf, SymbolicTensor) for leaf in leaves(structure))


def is_shape(value: Any) -> bool:
    """Return whether `value` is one shape (a list or tuple of ints and None) and no list of shapes."""
    return isinstance(value, (list, tuple)) and all(size is None or isinstance(size, int) for size in value)


def plain_sizes(shapes: Any) -> Any:
    """Return a shape, or nested shapes, with the integers of NumPy as those of Python."""
    return map_leaves(lambda size: int(size) if isinstance(size, Integral) else size, shapes)


def map_shapes(function: Callable[[Shape], Any], shapes: Any) -> Any:
    """Apply `function` to every shape in a nested structure of shapes."""
    if is_shape(shapes):
        return function(tuple(shapes))
    if isinstance(shapes, Mapping):
        return {key: map_shapes(function, shape) for key, shape in shapes.items()}
    return type(shapes)([map_shapes(function, shape) for shape in shapes])


def broadcast(first: Shape, second: Shape) -> Shape | None:
    """Return the shape that two shapes broadcast to, aligned at the end; None when they do not fit."""
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    skipped = len(longer) - len(shorter)
    sizes = list(longer[:skipped])
    for one, other in zip(longer[skipped:], shorter, strict=True):
        if one is None or other is None:
            sizes.append(None)
        elif one != other and 1 not in (one, other):
            return None
        else:
            sizes.append(other if one == 1 else one)
    return tuple(sizes)
