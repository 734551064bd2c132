"""The graph between some symbolic inputs and outputs: its order, and its execution with masks."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from inspect import signature
from itertools import chain, repeat
from typing import Any

import numpy as np

from numbalstm.layers.base import Layer
from numbalstm.layers.core import InputLayer
from numbalstm.layers.gradients import LayerGradients, Pull, added, added_weights
from numbalstm.layers.symbolic import Node, SymbolicTensor, is_symbolic, leaves, map_leaves, map_shapes
from numbalstm.parameters import Weight


class _Slot:
    """Stands in a step's arguments for the value that execution keeps under `index`."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class _Step:
    """One layer call: where its arguments come from, where its results go, and which values nobody needs after it."""

    __slots__ = ("args", "dead", "gives_mask", "kwargs", "layer", "named", "outputs", "place")

    def __init__(self, node: Node, slots: dict[int, int], given: set[int], generation: str, place: str) -> None:
        def slot(leaf: Any) -> Any:
            return _Slot(slots[id(leaf)]) if isinstance(leaf, SymbolicTensor) else leaf

        self.layer = node.layer
        self.args = tuple(map_leaves(slot, argument) for argument in node.args)
        self.kwargs = {name: map_leaves(slot, argument) for name, argument in node.kwargs.items()}
        names = signature(node.layer.call).parameters
        self.named = dict(zip(names, self.args, strict=False)) | self.kwargs
        self.outputs = [slots[id(tensor)] if id(tensor) not in given else None for tensor in node.outputs]
        self.dead: list[int] = []
        self.place = place
        self.gives_mask = _gives_mask(node, generation)

    def differentiable(self, gradients: LayerGradients) -> list[tuple[Any, Any]]:
        """Return the arguments that may have a gradient, each with it."""
        named = self.named
        return [
            (self.args[0], gradients.inputs),
            (named.get("initial_state", named.get("states")), gradients.initial_state),
            (named.get("constants"), gradients.constants),
        ]


Tape = list[tuple[_Step, Any, Pull]]
"""What each call of a run leaves for the way back: the step, the nesting of its outputs, its pull."""


class Graph:
    """The layer calls that lead from inputs to outputs.

    Parameters
    ----------
    place : str
        Opens the messages of errors, for example ``"Model 'encoder'"``.
    inputs, outputs : sequence of SymbolicTensor
    generation : {"keras3", "keras2"}
        Whose rules masks and the `training` argument follow, see `run`.

    Attributes
    ----------
    layers : list of Layer
        In the order of Keras: the farthest from the outputs first.
    nodes : list of Node
        In the order of execution.

    Raises
    ------
    ValueError
        When an output depends on an input that is not given, or two layers share a name.
    """

    def __init__(
        self, place: str, inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor], generation: str
    ) -> None:
        self.place, self.generation = place, generation
        # The nodes before the ends: a copy or pickle then follows the graph, instead of recursing back from its end.
        self.nodes, self.layers = _ordered(place, list(inputs), list(outputs))
        self.inputs, self.outputs = list(inputs), list(outputs)
        slots = {id(tensor): slot for slot, tensor in enumerate(self._tensors())}
        self._size = len(slots)
        self._ends = [slots[id(tensor)] for tensor in self.outputs]
        self._steps = self._plan(slots)

    def _tensors(self) -> Iterator[SymbolicTensor]:
        yield from self.inputs
        given = {id(tensor) for tensor in self.inputs}
        for node in self.nodes:
            yield from (tensor for tensor in node.outputs if id(tensor) not in given)

    def _plan(self, slots: dict[int, int]) -> list[_Step]:
        numbers = {id(layer): number for number, layer in enumerate(self.layers)}
        given = {id(tensor) for tensor in self.inputs}
        calls = [node for node in self.nodes if not {id(tensor) for tensor in node.outputs} <= given]
        steps = []
        for node in calls:
            layer = node.layer
            place = f"{self.place}, layer {numbers[id(layer)]} {layer.name!r} ({type(layer).__name__})"
            steps.append(_Step(node, slots, given, self.generation, place))
        kept = set(self._ends)
        for step, node in zip(reversed(steps), reversed(calls), strict=True):
            used = {slots[id(tensor)] for tensor in (*node.inputs, *node.outputs)}
            step.dead = sorted(used - kept)
            kept |= used
        return steps

    def run(
        self, arrays: Sequence[Any], masks: Sequence[Any], training: bool | None, tape: Tape | None = None
    ) -> tuple[list[Any], list[Any]]:
        """Compute the outputs.

        Parameters
        ----------
        arrays, masks : sequence
            For each input its array, and its mask or None.
        training : bool or None
            For the layers that heed it; None leaves each layer's own default.
        tape : list, optional
            Receives what `pull` needs.

        Returns
        -------
        outputs, masks : list
            For each output.

        Notes
        -----
        A layer is given the mask of its first argument; in Keras 3 only when that is its only argument with tensors, so
        an LSTM with a symbolic `initial_state` sees no mask.  A `training` argument fixed in the graph yields to the
        model's in Keras 3 and stands above it in Keras 2.  An array is dropped after its last use.
        """
        values: list[Any] = [None] * self._size
        known: list[Any] = [None] * self._size
        values[: len(self.inputs)], known[: len(self.inputs)] = arrays, masks
        for step in self._steps:
            self._call(step, values, known, training, tape)
            for slot in step.dead:
                values[slot] = known[slot] = None
        return [values[slot] for slot in self._ends], [known[slot] for slot in self._ends]

    def _call(self, step: _Step, values: list, known: list, training: bool | None, tape: Tape | None) -> None:
        layer, source = step.layer, step.args[0]
        if type(source) is _Slot:
            mask = known[source.index]
        else:
            mask = _filled(source, known)
            mask = None if all(item is None for item in leaves(mask)) else mask
        arguments = [_filled(argument, values) for argument in step.args[1:]]
        kwargs = {name: _filled(argument, values) for name, argument in step.kwargs.items()}
        if training is not None and layer._takes_training:
            fixed = self.generation != "keras3" and kwargs.get("training") is not None
            kwargs["training"] = kwargs["training"] if fixed else training
        call = layer.call_with_mask if tape is None else layer.vjp_with_mask
        try:
            outputs, masks, *pull = call(
                _filled(source, values), mask, *arguments, gives_mask=step.gives_mask, **kwargs
            )
        except (TypeError, ValueError, NotImplementedError) as error:
            raise _placed(error, step) from error
        if mask is not None and self.generation == "keras3" and not layer.supports_mask:
            _warn_of_lost_mask(step)
        if tape is not None:
            tape.append((step, map_leaves(lambda _: None, outputs), pull[0]))
        if type(outputs) is np.ndarray and len(step.outputs) == 1 and not isinstance(masks, list):
            outputs, masks = (outputs,), (masks,)
        else:
            outputs, masks = leaves(outputs), chain(() if masks is None else leaves(masks), repeat(None))
        for slot, value, output_mask in zip(step.outputs, outputs, masks, strict=False):
            if slot is not None:
                values[slot], known[slot] = value, output_mask

    def pull(self, tape: Tape, cotangents: Sequence[Any], regularize: bool) -> tuple[list[Any], dict[Weight, Any]]:
        """Take the outputs' cotangents back through a run.

        Parameters
        ----------
        tape : list
            Filled by `run`.
        cotangents : sequence of array or None
            For each output.
        regularize : bool
            Whether the gradients of activity regularizers are added.

        Returns
        -------
        inputs : list of array or None
            For each input.
        weights : dict
        """
        found: list[Any] = [None] * self._size
        for slot, cotangent in zip(self._ends, cotangents, strict=True):
            found[slot] = added(found[slot], cotangent)
        weights: dict[Weight, Any] = {}
        for step, outputs, pull in reversed(tape):
            slots = iter(step.outputs)
            nested = map_leaves(lambda _, slots=slots: _taken(found, next(slots, None)), outputs)
            gradients = pull(nested, regularize)
            weights = added_weights(weights, gradients.weights)
            for argument, gradient in step.differentiable(gradients):
                _add_to_slots(found, argument, gradient)
        return found[: len(self.inputs)], weights

    def shapes(self, shapes: Sequence[Any]) -> list[Any]:
        """Return the outputs' shapes for inputs of these shapes."""
        known: list[Any] = [None] * self._size
        known[: len(self.inputs)] = [_Shape(shape) for shape in shapes]
        for step in self._steps:
            arguments = [map_leaves(_bare, _filled(argument, known)) for argument in step.args]
            found: list[_Shape] = []
            map_shapes(lambda shape, found=found: found.append(_Shape(shape)), step.layer.output_shapes(*arguments))
            for slot, shape in zip(step.outputs, found, strict=True):
                if slot is not None:
                    known[slot] = shape
        return [known[slot].shape for slot in self._ends]


def _taken(found: list, slot: int | None) -> Any:
    """Return the cotangent that has come to a value, all of whose uses are done, and drop it."""
    if slot is None:
        return None
    cotangent, found[slot] = found[slot], None
    return cotangent


def _add_to_slots(found: list, argument: Any, gradient: Any) -> None:
    """Add an argument's gradient, nested as the argument, to the cotangents of the values it was made of."""
    if gradient is None:
        return
    if type(argument) is _Slot:
        found[argument.index] = added(found[argument.index], gradient)
    elif isinstance(argument, (list, tuple, dict)):
        keys = argument if isinstance(argument, dict) else range(len(argument))
        for key in keys:
            _add_to_slots(found, argument[key], gradient[key])


class _Shape:
    """Keeps a shape from being walked into."""

    __slots__ = ("shape",)

    def __init__(self, shape: Any) -> None:
        self.shape = tuple(shape)


def _bare(leaf: Any) -> Any:
    return leaf.shape if isinstance(leaf, _Shape) else ()


def _filled(template: Any, values: list) -> Any:
    """Return an argument with the values in place of its slots."""
    if type(template) is _Slot:
        return values[template.index]
    return map_leaves(lambda leaf: values[leaf.index] if type(leaf) is _Slot else leaf, template)


def _gives_mask(node: Node, generation: str) -> bool:
    """Return whether a layer is handed the mask of its first argument."""
    if generation == "keras3":
        return sum(is_symbolic(argument) for argument in (*node.args, *node.kwargs.values())) == 1
    return True


def _placed(error: Exception, step: _Step) -> Exception:
    """Return an error of the same type whose message starts with the layer's place in the model."""
    message = str(error)
    for own in (f"{step.layer.place}: ", f"{type(step.layer).__name__}: "):
        message = message.removeprefix(own)
    return type(error)(f"{step.place}: {message}")


def _warn_of_lost_mask(step: _Step) -> None:
    warnings.warn(
        f"{step.place}: does not heed masks, so the mask of its input ends here and later layers will not see it.",
        UserWarning,
        stacklevel=2,
    )


def _ordered(place: str, inputs: list[SymbolicTensor], outputs: list[SymbolicTensor]) -> tuple[list[Node], list[Layer]]:
    """Return the calls in the order of execution, and the layers in the order of Keras (its ``map_graph``)."""
    calls, first_seen = _walk(inputs, outputs)
    depths: dict[int, int] = {}
    layer_depths: dict[int, int] = {}
    for node in reversed(calls):
        depth = max(depths.get(id(node), 0), layer_depths.get(id(node.layer), 0))
        depths[id(node)] = layer_depths[id(node.layer)] = depth
        for tensor in node.inputs:
            depths[id(tensor.node)] = max(depth + 1, depths.get(id(tensor.node), 0))
    for tensor in inputs:  # inputs that no output needs
        if isinstance(tensor.node.layer, InputLayer) and id(tensor.node) not in depths:
            calls.append(tensor.node)
            depths[id(tensor.node)] = layer_depths[id(tensor.node.layer)] = 0
            first_seen[id(tensor.node.layer)] = -1
    _check_connected(place, calls, inputs)
    layers = list({id(node.layer): node.layer for node in calls}.values())
    layers.sort(key=lambda layer: (-layer_depths[id(layer)], first_seen[id(layer)]))
    name, count = Counter(layer.name for layer in layers).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{place}: {count} layers have the name {name!r}; every name must be unique.")
    return sorted(calls, key=lambda node: -depths[id(node)]), layers


def _walk(inputs: list[SymbolicTensor], outputs: list[SymbolicTensor]) -> tuple[list[Node], dict[int, int]]:
    """Return the calls that the outputs need, each after those it needs, and the number at which a layer came first."""
    given = {id(tensor) for tensor in inputs if not isinstance(tensor.node.layer, InputLayer)}
    calls: list[Node] = []
    first_seen: dict[int, int] = {}
    visited: set[int] = set()
    stack = [iter(outputs)]
    path: list[Node] = []
    while stack:
        tensor = next(stack[-1], None)
        if tensor is None:
            stack.pop()
            if path:
                calls.append(path.pop())
        elif id(tensor) not in given and id(tensor.node) not in visited:
            visited.add(id(tensor.node))
            first_seen.setdefault(id(tensor.node.layer), len(first_seen))
            stack.append(iter(tensor.node.inputs))
            path.append(tensor.node)
    return calls, first_seen


def _check_connected(place: str, calls: list[Node], inputs: list[SymbolicTensor]) -> None:
    given = {id(tensor) for tensor in inputs}
    for node in calls:
        if not node.inputs and not {id(tensor) for tensor in node.outputs} & given:
            known = ", ".join(repr(tensor.name) for tensor in inputs)
            raise ValueError(
                f"{place}: an output depends on the input {node.layer.name!r}, which is not among the inputs ({known})."
            )
