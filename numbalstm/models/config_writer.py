"""Functional models to configs in the form of Keras 3."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numbalstm import dtypes
from numbalstm.layers.base import Layer, Node
from numbalstm.layers.operations import Operation
from numbalstm.layers.symbolic import SymbolicTensor, map_leaves


def get_config(model: Any) -> dict[str, Any]:
    """Return a functional model's config in the form of Keras 3."""
    graph = model.graph
    inside = {id(node) for node in graph.nodes}
    calls = {id(layer): [node for node in layer.nodes if id(node) in inside] for layer in graph.layers}
    numbers = {id(node): number for nodes in calls.values() for number, node in enumerate(nodes)}

    def end(tensor: SymbolicTensor) -> list:
        # Keras counts a nested functional model's own graph as its first call, here but not in the calls.
        offset = type(tensor.node.layer).__name__ == "Model"
        return [tensor.name, numbers[id(tensor.node)] + offset, tensor.index]

    config: dict[str, Any] = {"name": model.name, "trainable": model.trainable, "layers": []}
    for layer in graph.layers:
        nodes = [_call(node, numbers) for node in calls[id(layer)] if node.args]
        config["layers"].append(serialize(layer) | {"name": layer.name, "inbound_nodes": nodes})
    config["input_layers"] = map_leaves(end, model.input)
    config["output_layers"] = map_leaves(end, model.output)
    return of_generation(config, model.generation)


def of_generation(config: dict[str, Any], generation: str) -> dict[str, Any]:
    """Return a model's config with its generation, and with dtypes as that writes them, where it is not Keras 3."""
    return config if generation == "keras3" else _with_dtype_names(config) | {"generation": generation}


def _with_dtype_names(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)([_with_dtype_names(item) for item in value])
    if not isinstance(value, Mapping):
        return value
    if value.get("class_name") == "DTypePolicy":
        return dtypes.serialize(dtypes.policy(value), "keras2")
    return {key: _with_dtype_names(item) for key, item in value.items()}


def serialize(layer: Layer) -> dict[str, Any]:
    """Return a layer's description: its class, config and build shape."""
    name = type(layer).__name__
    description: dict[str, Any] = {"module": "keras.layers", "class_name": name, "config": layer.get_config()}
    description["registered_name"] = None
    if isinstance(layer, Operation):
        description |= {"module": "keras.src.ops.numpy", "class_name": layer.operation_name}
    elif name in ("Model", "Sequential"):
        class_name, module = {"Model": ("Functional", "keras.src.models.functional")}.get(name, (name, "keras"))
        description |= {"module": module, "class_name": class_name}
    elif layer.build_shape is not None:
        description["build_config"] = {"input_shape": layer.build_shape}
    return description


def _call(node: Node, numbers: Mapping[int, int]) -> dict[str, Any]:
    return {"args": [_written(arg, numbers) for arg in node.args], "kwargs": _written(node.kwargs, numbers)}


def _written(value: Any, numbers: Mapping[int, int]) -> Any:
    """Return a call's argument as plain values."""
    if isinstance(value, SymbolicTensor):
        config = {"shape": value.shape, "dtype": value.dtype}
        config["keras_history"] = [value.name, numbers[id(value.node)], value.index]
        return {"class_name": "__keras_tensor__", "config": config}
    if isinstance(value, tuple):
        return {"class_name": "__tuple__", "items": [_written(item, numbers) for item in value]}
    if isinstance(value, list):
        return [_written(item, numbers) for item in value]
    if isinstance(value, Mapping):
        return {key: _written(item, numbers) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return {"class_name": "__numpy__", "config": {"value": value.tolist(), "dtype": str(value.dtype)}}
    return value
