"""Stored arrays onto a model's weights: the layouts of Keras 3 (by place) and of Keras 2 (by order)."""

import re
from collections.abc import Iterator
from typing import Any

from numbalstm.io.errors import ModelFileError
from numbalstm.io.hdf5 import Hdf5File, StoredArray
from numbalstm.layers.weights import WeightHolder
from numbalstm.parameters import Weight

Assignment = tuple[WeightHolder, Weight, StoredArray]

_EARLY_LAYERS = "_layer_checkpoint_dependencies"  # the name of "layers" in files of TensorFlow 2.12


def load(model: Any, file: Hdf5File, group: str = "") -> None:
    """Give every weight of a built model its stored value, or change nothing.

    Parameters
    ----------
    model : Sequential or Model
    file : Hdf5File
    group : str, default ""
        Path of the group that holds the weights; "" is the root.

    Raises
    ------
    ModelFileError
        When an array is missing, left over, or of another shape than its weight; no array has been read then.
    """
    by_order = file.names(group, "layer_names") is not None
    found = list(_by_order(model, file, group) if by_order else _by_place(model, file))
    for layer, weight, array in found:
        if array.shape != tuple(weight.shape):
            raise ModelFileError(
                f"{file.where(array.path)}: has shape {array.shape}, but weight {weight.name!r} of {layer.place} "
                f"needs {tuple(weight.shape)}."
            )
    total = sum({array.path: array.nbytes for _, _, array in found}.values())
    if total > file.size:
        raise ModelFileError(f"{file.label}: declares {total} bytes of weights in a file of {file.size}.")
    values = {id(weight): array for _, weight, array in found}
    missing = [(layer, weight) for layer, weight in model.owned_weights() if id(weight) not in values]
    if missing:
        named = _listed(f"{weight.name!r} of {layer.place}" for layer, weight in missing)
        raise ModelFileError(f"{file.label}: the Keras layout has no place for {named}.")
    model.set_weights([values[id(weight)].read() for weight in model.weights])


def _by_place(model: Any, file: Hdf5File) -> Iterator[Assignment]:
    """Pair weights and arrays in the layout of Keras 3's saving_lib, whose paths say the place in the model.

    A path joins attribute names and, in lists of layers, class names in snake case, numbered from the second on; the
    layers' own names play no part, so that one model's weights fit another of the same structure.
    """
    roots = [name for name in ("layers", _EARLY_LAYERS, "vars") if file.has(name)]
    if not roots:
        raise ModelFileError(f"{file.label}: holds no Keras weights: neither 'layers' nor the attribute 'layer_names'.")
    stored = {path.replace(_EARLY_LAYERS, "layers"): path for root in roots for path in file.dataset_paths(root)}
    for layer, weight, path in _places(model, "", set()):
        if path not in stored:
            raise ModelFileError(f"{file.where(path)}: is missing; it is the {weight.name!r} of {layer.place}.")
        yield layer, weight, file.dataset(stored.pop(path))
    unused = [path for path in stored.values() if "seed_generator" not in path]
    if unused:
        raise ModelFileError(f"{file.label}: holds weights that the model has no layer for: {', '.join(unused[:10])}.")


def _places(layer: Any, path: str, seen: set[int]) -> Iterator[tuple[WeightHolder, Weight, str]]:
    """Yield each weight with its path; a layer used in several places is stored at the first."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    own = [weight for owner, weight in layer.owned_weights() if owner is layer]
    own.sort(key=lambda weight: not weight.trainable)
    folder = [path] if path else []
    if type(layer).__name__ == "LSTM":
        folder.append("cell")  # Keras's LSTM is an RNN around a cell, which holds the weights
    for index, weight in enumerate(own):
        yield layer, weight, "/".join([*folder, "vars", str(index)])
    for name, inner in _children(layer):
        yield from _places(inner, f"{path}/{name}" if path else name, seen)


def _children(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the layers inside a layer with their relative paths, in the order in which Keras visits them."""
    for attribute in ("layers", "cells"):
        counts: dict[str, int] = {}
        for inner in getattr(layer, attribute, ()):
            name = _snake_case("Functional" if type(inner).__name__ == "Model" else type(inner).__name__)
            counts[name] = counts.get(name, -1) + 1
            yield f"{attribute}/{name}_{counts[name]}" if counts[name] else f"{attribute}/{name}", inner
    for attribute in ("backward_layer", "cell", "forward_layer", "layer"):
        inner = getattr(layer, attribute, None)
        if isinstance(inner, WeightHolder):
            yield attribute, inner


def _by_order(model: Any, file: Hdf5File, group: str) -> Iterator[Assignment]:
    """Pair weights and arrays in the layout of Keras 2: layers with weights in the model's order, names free.

    Within a layer the trainable weights come first, also across the layers of a nested model.
    """
    prefix = f"{group}/" if group else ""
    saved = [(name, _weight_paths(file, prefix + name)) for name in file.names(group, "layer_names") or ()]
    saved = [(name, paths) for name, paths in saved if paths]
    wanted = [(layer, [*layer.trainable_weights, *layer.non_trainable_weights]) for layer in model.layers]
    wanted = [(layer, weights) for layer, weights in wanted if weights]
    if len(saved) != len(wanted):
        raise ModelFileError(
            f"{file.where(group)}: holds {len(saved)} layers with weights ({_listed(name for name, _ in saved)}), "
            f"but the model has {len(wanted)} ({_listed(layer.name for layer, _ in wanted)})."
        )
    for (name, paths), (layer, weights) in zip(saved, wanted, strict=True):
        if len(paths) != len(weights):
            raise ModelFileError(
                f"{file.where(prefix + name)}: holds {len(paths)} weights, but {layer.place} has {len(weights)}."
            )
        owners = {id(weight): owner for owner, weight in layer.owned_weights()}
        for path, weight in zip(paths, weights, strict=True):
            yield owners[id(weight)], weight, file.dataset(path)
    top = f"{prefix}top_level_model_weights"
    if file.has(top) and _weight_paths(file, top):
        raise ModelFileError(f"{file.where(top)}: holds weights outside of any layer, which only custom models have.")


def _weight_paths(file: Hdf5File, group: str) -> list[str]:
    return [f"{group}/{name}" for name in file.names(group, "weight_names") or ()]


def _snake_case(name: str) -> str:
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def _listed(names: Iterator[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:10]) + (", ..." if len(shown) > 10 else "")
