"""The JSON description of a Keras model: parsed within limits and searched for what is refused, before a build."""

import json
import re
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any

from numbalstm.io.errors import ModelFileError
from numbalstm.layers import LAYERS
from numbalstm.layers.registry import find_class
from numbalstm.models import Model, Sequential

MAX_CONFIG_BYTES = 1 << 24
MAX_JSON_DEPTH = 100
MAX_BATCH = 1_000_000
MODELS = {"Sequential": Sequential, "Functional": Model, "Model": Model}
"""The classes that a whole file may describe."""

_BATCH_SHAPES = ("batch_shape", "batch_input_shape", "input_shape")
_KERAS_MODULES = ("keras", "tf_keras", "tensorflow", "builtins")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def parse(data: bytes | str, where: str) -> dict[str, Any]:
    """Return a JSON object.

    Parameters
    ----------
    data : bytes or str
        UTF-8.
    where : str
        File and place, which open the messages.

    Raises
    ------
    ModelFileError
        When it is too long or too deeply nested, is no UTF-8 or no JSON object, names a key twice, or holds NaN or
        Infinity, which JSON does not have.
    """
    if len(data) > MAX_CONFIG_BYTES:
        raise ModelFileError(f"{where}: has {len(data)} bytes, more than the {MAX_CONFIG_BYTES} allowed.")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        _check_depth(text, where)
        parsed = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except ModelFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{where}: is no valid JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise ModelFileError(f"{where}: must be a JSON object, got a {type(parsed).__name__}.")
    return parsed


def check_model(config: Mapping[str, Any], where: str) -> None:
    """Refuse a model description that numbalstm cannot build, naming every reason at once.

    Parameters
    ----------
    config : mapping
        ``{"class_name": "Sequential" | "Functional" | "Model", "config": {"layers": [...]}, ...}`` of Keras 2 or 3.
    where : str
        File and place, which open the messages.

    Raises
    ------
    ModelFileError
        For layers of an unsupported type, Lambda layers, and custom layers, activations and other objects, each with
        its place in the model; for a description of any other form.
    """
    if config.get("class_name") not in MODELS:
        raise ModelFileError(
            f"{where}: describes a {_shown(config.get('class_name'))}; only {', '.join(MODELS)} are read "
            "(a subclassed model carries its structure in Python code, not in the file)."
        )
    problems = [*_model_problems(config, ""), *_batch_problems(config)]
    if problems:
        listed = problems[0] if len(problems) == 1 else "\n  ".join(["not supported:", *problems])
        supported = sorted({cls.__name__ for cls in LAYERS.values()})
        raise ModelFileError(f"{where}: {listed}\nSupported layers: {', '.join(supported)}.")


def mark_keras2(config: Any) -> Any:
    """Return a description in which every layer says that Keras 2's rules hold, since names alone do not tell.

    Layers that know generations get ``generation="keras2"``; elsewhere "hard_sigmoid" is written as the one of Keras 2.
    """
    if isinstance(config, list):
        return [mark_keras2(item) for item in config]
    if not isinstance(config, dict):
        return config
    marked = {key: mark_keras2(value) for key, value in config.items()}
    cls, inner = LAYERS.get(str(marked.get("class_name"))), marked.get("config")
    if cls is not None and isinstance(inner, dict):
        if "generation" in signature(cls.__init__).parameters:
            inner.setdefault("generation", "keras2")
        elif inner.get("activation") == "hard_sigmoid":
            inner["activation"] = "hard_sigmoid_keras2"
    return marked


def _batch_problems(value: Any) -> Iterator[str]:
    """Yield the fixed batch sizes for which no stateful layer may take memory: no stored weight vouches for them."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        first = item[0] if isinstance(item, list) and item else None
        if key in _BATCH_SHAPES and isinstance(first, int) and first > MAX_BATCH:
            yield f"{key} fixes a batch of {first}; at most {MAX_BATCH} are allowed."
        yield from _batch_problems(item)


def _model_problems(config: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield what is refused in a model and in the layers inside it."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    title = f"{config['class_name']} {_shown(inner.get('name') if isinstance(inner, dict) else None)}{place}"
    if not isinstance(layers, list):
        yield f"{title} has no list of layers."
        return
    for index, layer in enumerate(layers):
        yield from _layer_problems(layer, f"layer {index}", f" of {title}")


def _layer_problems(layer: Any, role: str, place: str) -> Iterator[str]:
    """Yield what is refused in one layer's description; `role` and `place` say where it stands."""
    if not isinstance(layer, dict) or not isinstance(layer.get("class_name"), str):
        yield f"{role}{place} is no layer description."
        return
    config = layer.get("config")
    name = config.get("name") if isinstance(config, dict) else layer.get("name")
    title = f"{role} {_shown(name)}{place}"
    if layer["class_name"] in MODELS and not _is_custom(layer):
        yield from _model_problems(layer, f", {title}")
        return
    problem = _refusal(layer)
    if problem:
        yield f"{title} {problem}"
    elif not isinstance(config, dict):
        yield f"{title} has no 'config' object."
    else:
        for key, value in config.items():
            yield from _value_problems(value, key, f" of {title}")


def _value_problems(value: Any, key: str, place: str) -> Iterator[str]:
    """Yield what is refused inside one entry of a layer's config."""
    if key in ("layer", "backward_layer", "cell") and isinstance(value, dict):
        yield from _layer_problems(value, key, place)
    elif key == "cells" and isinstance(value, list):
        for index, cell in enumerate(value):
            yield from _layer_problems(cell, f"cell {index}", place)
    else:
        for found in _objects(value):
            if _is_custom(found) or found["class_name"] in ("function", "__lambda__"):
                custom = found.get("registered_name") or found["class_name"]
                named = found["config"] if isinstance(found.get("config"), str) else custom
                yield f"{key}{place} is the custom object {_shown(named)}, which would need code from outside the file."


def _refusal(layer: Mapping[str, Any]) -> str:
    """Return why a layer's class is refused; "" for a supported one."""
    name = layer["class_name"]
    if "Lambda" in name:
        return f"is a {name}, which holds Python code; code in model files is never run."
    if _is_custom(layer):
        return f"is the custom layer {_shown(layer.get('registered_name') or name)}; only Keras's own layers are read."
    try:
        find_class(layer)
    except ValueError:
        if ".ops" in str(layer.get("module")):
            return f"is the array function {name[:80]}, no layer, which numbalstm does not support."
        return f"is a {name[:80]}, which numbalstm does not support."
    return ""


def _is_custom(item: Mapping[str, Any]) -> bool:
    """Return whether a serialized object was registered by its author, or comes from a module outside Keras."""
    registered, module = item.get("registered_name"), item.get("module")
    outside = isinstance(module, str) and module.partition(".")[0] not in _KERAS_MODULES
    return outside or ">" in str(registered) or ">" in str(item["class_name"])


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the serialized objects (dicts with a class name) inside a value."""
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _check_depth(text: str, where: str) -> None:
    depth = 0
    for match in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_JSON_DEPTH:
            raise ModelFileError(f"{where}: is nested deeper than {MAX_JSON_DEPTH} levels.")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return found


def _shown(value: Any) -> str:
    """Return a value from the file as short text for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
