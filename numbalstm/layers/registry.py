"""Names of layers, and layers from the configs that name them."""

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from numbalstm import checks

LAYERS: dict[str, type] = {}
"""Every class that a config may name, by class name; `register_layer` fills it."""

OPERATIONS: dict[str, type] = {}
"""The array functions that a Keras 3 graph may name, by class name; `register_operation` fills it."""

_FRAMEWORKS = ("keras", "tf_keras", "tensorflow", "numbalstm")
_counts: dict[str, int] = {}
_counts_lock = threading.Lock()


def register_layer(*aliases: str) -> Callable[[type], type]:
    """Return a class decorator that makes a class known to `deserialize`, under its own name and `aliases`."""

    def register(cls: type) -> type:
        LAYERS.update((name, cls) for name in (cls.__name__, *aliases))
        return cls

    return register


def register_operation(name: str | None = None) -> Callable[[type], type]:
    """Return a class decorator that makes an array function known to `deserialize`; None is the class's own name."""

    def register(cls: type) -> type:
        cls.operation_name = name or cls.__name__
        OPERATIONS[cls.operation_name] = cls
        return cls

    return register


def deserialize(config: Mapping[str, Any]) -> Any:
    """Make a layer from its Keras 2 or Keras 3 description.

    Parameters
    ----------
    config : mapping
        ``{"class_name": ..., "config": {...}}``, in Keras 3 with ``module``, ``registered_name`` and ``build_config``
        too.  The layer is built when there is a ``build_config``; that takes no memory for weights yet.

    Returns
    -------
    Layer

    Raises
    ------
    ValueError
        For a class that is not supported, naming it; nothing is ever imported by name.
    """
    cls = find_class(config)
    name = config["class_name"]
    if not isinstance(config.get("config"), Mapping) and not (name == "Sequential" and "config" in config):
        raise ValueError(f"{name}: its 'config' must be a dict, got {checks.describe(config.get('config'))}.")
    layer = cls.from_config(config["config"])
    shape = _build_shape(config.get("build_config"))
    if shape is not None and not layer.built:
        layer.build(shape)
    return layer


def find_class(config: Mapping[str, Any]) -> type:
    """Return the class that a layer's description names, or raise ValueError as `deserialize` does."""
    if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
        raise ValueError(f"A layer config must be a dict with 'class_name', got {checks.describe(config)}.")
    name, module = config["class_name"], config.get("module")
    registered = config.get("registered_name")
    if "Lambda" in name:
        raise ValueError(f"{name} layer: is refused, since it runs code that the model file brings along.")
    foreign = isinstance(module, str) and module.partition(".")[0] not in _FRAMEWORKS
    if foreign or (isinstance(registered, str) and ">" in registered) or ">" in name:
        raise ValueError(f"{registered or name}: custom classes are refused. Supported: {', '.join(sorted(LAYERS))}.")
    known = OPERATIONS if _is_operation(config) else LAYERS
    if name not in known:
        raise checks.unknown("Layer config", "layer class", name, known)
    return known[name]


def _is_operation(config: Mapping[str, Any]) -> bool:
    """Return whether a description is an array function's; Keras 3's HDF5 files tell it by the few settings alone."""
    module = config.get("module")
    if isinstance(module, str):
        return ".ops" in module
    settings, cls = config.get("config"), OPERATIONS.get(config["class_name"])
    return cls is not None and isinstance(settings, Mapping) and set(settings) == {"name", *cls.options}


def unique_name(class_name: str) -> str:
    """Return the class name in snake case, with a number from its second use on: ``lstm``, ``lstm_1``, ..."""
    words = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", class_name)).lower()
    with _counts_lock:
        count = _counts[words] = _counts.get(words, -1) + 1
    return f"{words}_{count}" if count else words


def reset_names() -> None:
    """Start the numbers of `unique_name` again."""
    with _counts_lock:
        _counts.clear()


def _build_shape(build_config: Any) -> Any:
    """Return the input shape in a Keras 3 ``build_config``; None where there is none."""
    if not isinstance(build_config, Mapping):
        return None
    shape = build_config.get("input_shape")
    if shape is None and isinstance(build_config.get("shapes_dict"), Mapping):
        shape = next(iter(build_config["shapes_dict"].values()), None)
    return _tuples(shape)


def _tuples(shape: Any) -> Any:
    """Return a shape, or nested lists of shapes, read from JSON, with each shape a tuple."""
    if isinstance(shape, Mapping):
        return {key: _tuples(item) for key, item in shape.items()}
    if not isinstance(shape, (list, tuple)):
        return None
    if any(isinstance(item, (list, tuple, Mapping)) for item in shape):
        return [_tuples(item) for item in shape]
    if not all(size is None or type(size) is int for size in shape):
        raise ValueError(f"build_config: a shape must hold integers and null, got {list(shape)}.")
    return tuple(shape)
