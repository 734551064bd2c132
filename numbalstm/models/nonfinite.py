"""Where a number that is not finite came from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbalstm.layers.symbolic import SymbolicTensor, leaves, map_leaves
from numbalstm.models.graph import Graph
from numbalstm.models.inputs import as_input, in_order


class NonFiniteError(FloatingPointError):
    """The loss or a gradient is NaN or infinite; the weights are those before the update.

    Attributes
    ----------
    epoch, batch : int or None
        Counted from 0, as callbacks do; None outside `fit`.
    step : int
        Updates that the optimizer had made.
    layer : str or None
        Name of the first layer with such a value in its output; None when all outputs are finite.
    """

    def __init__(self, message: str, epoch: int | None, batch: int | None, step: int, layer: str | None) -> None:
        super().__init__(message)
        self.epoch, self.batch, self.step, self.layer = epoch, batch, step, layer


def first_layer(model: Any, inputs: Sequence[np.ndarray]) -> tuple[str | None, str]:
    """Run a model in training on a batch; return the first layer with a value that is not finite, and an explanation.

    Values of masked steps do not count.
    """
    arrays = [
        as_input(model.place, name, array, tensor, model._checks_sizes)
        for name, array, tensor in zip(model.input_names, inputs, model.inputs, strict=True)
    ]
    found = _search(model, arrays, [None] * len(arrays))
    if found is None:
        return None, "the outputs of all layers are finite"
    layer, sources = found
    reasons = [
        f"the input {name!r} is not finite"
        for name, array in zip(model.input_names, arrays, strict=True)
        if any(array is source for source in sources) and not is_finite(array)
    ]
    reasons += [f"its weight {weight.name!r} is not finite" for weight in layer.weights if not is_finite(weight.value)]
    because = f" ({', '.join(reasons)})" if reasons else ""
    return (
        layer.name,
        f"the first layer with a value that is not finite is {layer.name!r} ({type(layer).__name__}){because}",
    )


def _search(model: Any, arrays: Sequence[Any], masks: Sequence[Any]) -> tuple[Any, list[Any]] | None:
    """Return the first layer with a bad output, and what it was given."""
    graph = model.graph
    given = {id(tensor) for tensor in graph.inputs}
    tensors = [tensor for node in graph.nodes for tensor in node.outputs if id(tensor) not in given]
    probe = Graph(graph.place, graph.inputs, tensors, graph.generation)
    outputs, output_masks = probe.run(arrays, masks, True)
    ends = [*graph.inputs, *tensors]
    values = {id(end): value for end, value in zip(ends, [*arrays, *outputs], strict=True)}
    known = {id(end): mask for end, mask in zip(ends, [*masks, *output_masks], strict=True)}
    for tensor in tensors:
        if is_finite(values[id(tensor)], known[id(tensor)]):
            continue
        node = tensor.node
        if hasattr(node.layer, "graph"):
            inner = _inside(node, values, known)
            if inner is not None:
                return inner
        return node.layer, [values[id(source)] for source in node.inputs]
    return None


def _inside(node: Any, values: dict[int, Any], known: dict[int, Any]) -> tuple[Any, list[Any]] | None:
    """Search a model that is a layer of another one."""
    model = node.layer

    def filled(table: dict[int, Any]) -> list[Any]:
        nested = map_leaves(lambda leaf: table[id(leaf)] if isinstance(leaf, SymbolicTensor) else leaf, node.args[0])
        return in_order(model.place, nested, model.inputs, model.input_names)

    masks = filled(known) if any(known[id(leaf)] is not None for leaf in leaves(node.args[0])) else None
    arrays = filled(values)
    return _search(model, arrays, [None] * len(arrays) if masks is None else masks)


def is_finite(value: Any, mask: Any = None) -> bool:
    """Return whether all numbers that count are finite."""
    if mask is not None and np.shape(mask) == value.shape[: np.ndim(mask)]:
        value = value[np.asarray(mask, bool)]
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())
