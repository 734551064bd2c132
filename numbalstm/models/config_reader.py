"""Functional models from the configs of Keras 3 and Keras 2."""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from numbalstm import checks
from numbalstm.layers.base import Layer
from numbalstm.layers.core import InputLayer
from numbalstm.layers.registry import LAYERS, deserialize
from numbalstm.layers.symbolic import SymbolicTensor

MODEL_KEYS = {"name", "trainable", "generation", "dtype"}
_LAYOUT_KEYS = {"layers", "input_layers", "output_layers"}
_CONSTANT = "_CONSTANT_VALUE"


class _Reference(NamedTuple):
    """An output of a layer's call, by name and numbers."""

    layer: str
    node: int
    tensor: int


class _Call(NamedTuple):
    """One call of a layer as a config describes it; references stand for tensors."""

    layer: str
    number: int
    args: list
    kwargs: dict


def read(config: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Rebuild the graph that a functional model's config describes.

    Returns
    -------
    inputs, outputs : symbolic tensors, nested as the config says
    options : dict
        The other arguments of the model's constructor.

    Raises
    ------
    ValueError
        When a key is unknown, a layer is not supported, a reference leads nowhere, or the graph runs in a circle.
    """
    where = f"Model {config.get('name')!r}"
    missing = [key for key in sorted(_LAYOUT_KEYS) if key not in config]
    if missing:
        raise ValueError(f"{where}: its config has no {missing[0]!r}.")
    options = {key: value for key, value in config.items() if key not in _LAYOUT_KEYS}
    for key in options:
        if key not in MODEL_KEYS:
            raise checks.unknown(where, "config key", key, MODEL_KEYS | _LAYOUT_KEYS)
    options["trainable"] = options.get("trainable") is not False
    layers, calls, keras2 = _read_layers(where, config["layers"])
    if keras2:
        options.setdefault("generation", "keras2")
    nested = {name for name, layer in layers.items() if _counts_from_one(layer, keras2)}
    tensors = _make_calls(where, layers, calls, nested if keras2 else set())
    ends = [_end_tensors(where, config[key], tensors, nested) for key in ("input_layers", "output_layers")]
    return ends[0], ends[1], options


def _counts_from_one(layer: Layer, keras2: bool) -> bool:
    """Return whether a config counts a layer's calls from 1, since Keras counted a model's own graph as a call."""
    names = ("Model", "Sequential") if keras2 else ("Model",)
    return type(layer).__name__ in names


def _read_layers(where: str, descriptions: Any) -> tuple[dict[str, Layer], list[_Call], bool]:
    """Return the layers by name, their calls, and whether the config is Keras 2's."""
    if not isinstance(descriptions, list):
        raise ValueError(f"{where}: 'layers' must be a list, got {checks.describe(descriptions)}.")
    keras2 = any(
        isinstance(node, list) for description in descriptions for node in _field(description, "inbound_nodes") or ()
    )
    layers: dict[str, Layer] = {}
    calls: list[_Call] = []
    for number, description in enumerate(descriptions):
        layer = _read_layer(where, number, _marked(description) if keras2 else description)
        name = description.get("name", layer.name)
        if name in layers:
            raise ValueError(f"{where}: two layers have the name {name!r}; every name must be unique.")
        layers[name] = layer
        for index, data in enumerate(description.get("inbound_nodes") or []):
            calls.append(_read_call(f"{where}, layer {number} {name!r}", name, index, data))
    return layers, calls, keras2


def _field(description: Any, key: str) -> Any:
    return description.get(key) if isinstance(description, Mapping) else None


def _marked(description: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the description of a Keras 2 layer, in which a layer that heeds generations is told of it."""
    config, cls = _field(description, "config"), LAYERS.get(str(_field(description, "class_name")))
    if cls is None or not isinstance(config, Mapping) or "generation" not in signature(cls.__init__).parameters:
        return description
    return {**description, "config": {"generation": "keras2", **config}}


def _read_layer(where: str, number: int, description: Any) -> Layer:
    try:
        return deserialize(description)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}, layer {number} {_field(description, 'name')!r}: {error}") from error


def _read_call(place: str, name: str, index: int, data: Any) -> _Call:
    if isinstance(data, Mapping):
        args, kwargs = _revived(place, data.get("args", [])), _revived(place, data.get("kwargs", {}))
        if not isinstance(args, (list, tuple)) or not args or not isinstance(kwargs, dict):
            raise ValueError(f"{place}: its call {index} has no arguments.")
        return _Call(name, index, list(args), kwargs)
    if (
        not isinstance(data, list)
        or not data
        or not all(isinstance(item, list) and len(item) in (3, 4) for item in data)
    ):
        raise ValueError(f"{place}: its call {index} is described in an unknown form.")
    inputs = [item[2] if item[0] == _CONSTANT else _reference(place, item[:3]) for item in data]
    kwargs = data[-1][3] if len(data[-1]) == 4 else {}
    if not isinstance(kwargs, dict):
        raise ValueError(f"{place}: its call {index} is described in an unknown form.")
    return _Call(name, index, [inputs if len(inputs) > 1 else inputs[0]], _with_references(kwargs))


def _revived(place: str, value: Any) -> Any:
    """Return an argument of a Keras 3 call with references for its tensors; tuples are what JSON makes lists of."""
    if isinstance(value, (list, tuple)):
        return [_revived(place, item) for item in value]
    if not isinstance(value, Mapping):
        return value
    kind = value.get("class_name")
    if kind is None:
        return {key: _revived(place, item) for key, item in value.items()}
    content = value.get("config", {})
    if kind == "__keras_tensor__" and isinstance(content, Mapping):
        return _reference(place, content.get("keras_history"))
    if kind == "__tuple__":
        return tuple(_revived(place, value.get("items", content)))
    if kind == "__numpy__" and isinstance(content, Mapping) and content.get("dtype") in np.sctypeDict:
        return np.asarray(content.get("value"), dtype=content["dtype"])
    raise ValueError(f"{place}: a call has an argument of type {kind!r}, which is not supported.")


def _reference(place: str, history: Any) -> _Reference:
    if (
        not isinstance(history, (list, tuple))
        or len(history) != 3
        or not isinstance(history[0], str)
        or any(type(number) is not int or number < 0 for number in history[1:])
    ):
        raise ValueError(f"{place}: a tensor must be given as [layer, call, output], got {history!r:.80}.")
    return _Reference(*history)


def _with_references(value: Any) -> Any:
    """Return the keyword arguments of a Keras 2 call with references for ``[layer, call, output]`` lists."""
    if isinstance(value, dict):
        return {key: _with_references(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) == 3 and isinstance(value[0], str) and all(type(number) is int for number in value[1:]):
        return _Reference(*value)
    return [_with_references(item) for item in value]


def _references(call: _Call) -> Iterator[_Reference]:
    yield from _found_references((call.args, call.kwargs))


def _found_references(value: Any) -> Iterator[_Reference]:
    if isinstance(value, _Reference):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _found_references(item)
    elif isinstance(value, dict):
        yield from _found_references(list(value.values()))


def _resolved(value: Any, tensors: Mapping[tuple[str, int], list], nested: set[str]) -> Any:
    """Return an argument with the tensors in place of its references."""
    if isinstance(value, _Reference):
        outputs = tensors[_key(value, nested)]
        if value.tensor >= len(outputs):
            raise ValueError(f"layer {value.layer!r} has {len(outputs)} outputs, so none with number {value.tensor}.")
        return outputs[value.tensor]
    if isinstance(value, (list, tuple)):
        return type(value)([_resolved(item, tensors, nested) for item in value])
    if isinstance(value, dict):
        return {key: _resolved(item, tensors, nested) for key, item in value.items()}
    return value


def _key(reference: _Reference, nested: set[str]) -> tuple[str, int]:
    return reference.layer, reference.node - (reference.layer in nested)


def _make_calls(
    where: str, layers: Mapping[str, Layer], calls: list[_Call], nested: set[str]
) -> dict[tuple[str, int], list[SymbolicTensor]]:
    """Call the layers, each as soon as what it needs is there; return the outputs by layer and call number."""
    tensors = {(name, 0): layer.nodes[0].outputs for name, layer in layers.items() if isinstance(layer, InputLayer)}
    waiting: dict[tuple[str, int], list[_Call]] = defaultdict(list)
    needs: dict[tuple[str, int], int] = {}
    ready: deque[_Call] = deque()
    for call in calls:
        wanted = {_key(reference, nested) for reference in _references(call)}
        if call.number:  # a layer's calls keep their order
            wanted.add((call.layer, call.number - 1))
        for name, _ in wanted:
            if name not in layers:
                raise ValueError(f"{where}: layer {call.layer!r} gets an input from {name!r}, which does not exist.")
        wanted -= tensors.keys()
        needs[call.layer, call.number] = len(wanted)
        for key in wanted:
            waiting[key].append(call)
        if not wanted:
            ready.append(call)
    while ready:
        call = ready.popleft()
        key = call.layer, call.number
        tensors[key] = _make_call(where, layers[call.layer], call, tensors, nested)
        for follower in waiting.pop(key, ()):
            needs[follower.layer, follower.number] -= 1
            if not needs[follower.layer, follower.number]:
                ready.append(follower)
    stuck = [call.layer for call in calls if (call.layer, call.number) not in tensors]
    if stuck:
        raise ValueError(
            f"{where}: the graph runs in a circle or refers to calls that do not exist, at {', '.join(stuck[:5])}."
        )
    return tensors


def _make_call(where: str, layer: Layer, call: _Call, tensors: Mapping, nested: set[str]) -> list[SymbolicTensor]:
    try:
        first, *rest = (_resolved(argument, tensors, nested) for argument in call.args)
        layer(first, *rest, **_resolved(call.kwargs, tensors, nested))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}, layer {call.layer!r}: {error}") from error
    return layer.nodes[-1].outputs


def _end_tensors(where: str, value: Any, tensors: Mapping, nested: set[str]) -> Any:
    """Return the tensors of ``input_layers`` or ``output_layers``, nested as they are."""
    if isinstance(value, dict):
        return {key: _end_tensors(where, item, tensors, nested) for key, item in value.items()}
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where}: inputs and outputs must be given as [layer, call, output], got {value!r:.80}.")
    if len(value) == 3 and isinstance(value[0], str):
        reference = _reference(where, value)
        if _key(reference, nested) not in tensors:
            raise ValueError(f"{where}: an input or output refers to {list(reference)}, which does not exist.")
        return _resolved(reference, tensors, nested)
    return [_end_tensors(where, item, tensors, nested) for item in value]
