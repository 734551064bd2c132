"""Targets and their weights, one for each output of a model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.backends.arguments import as_array


def in_order(model: Any, role: str, given: Any) -> list[np.ndarray | None]:
    """Return one array or None for each output.

    Parameters
    ----------
    model : BaseModel
    role : {"y", "sample_weight"}
        For messages.  One weight for each sample serves all outputs.
    given : array, list of arrays, dict by output name, or None

    Raises
    ------
    TypeError
        When an array holds no real numbers.
    ValueError
        For an unknown name or a wrong number of arrays.
    """
    names = model.output_names
    if given is None:
        return [None] * len(names)
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise checks.unknown(model.place, f"output in {role}", name, names)
        items = [given.get(name) for name in names]
    elif len(names) == 1:
        single = isinstance(given, (list, tuple)) and len(given) == 1 and hasattr(given[0], "shape")
        items = [given[0] if single else given]
    elif isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise ValueError(
                f"{model.place}: {role} must hold {len(names)} arrays ({', '.join(names)}), got {len(given)}."
            )
        items = list(given)
    elif role == "sample_weight" and _is_samplewise(np.shape(given)):
        items = [given] * len(names)
    else:
        raise ValueError(
            f"{model.place}: {role} must be a list or dict of {len(names)} arrays ({', '.join(names)}), "
            f"got {checks.describe(given)}."
        )
    return [
        None if item is None else _array(model.place, f"{role} for {name!r}", item)
        for name, item in zip(names, items, strict=True)
    ]


def _array(place: str, name: str, given: Any) -> np.ndarray:
    array = as_array(place, name, given)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{place}: {name} must be an array of real numbers, got dtype {array.dtype}.")
    return array


def _is_samplewise(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def class_weights(model: Any, targets: list[np.ndarray | None], weights: Any) -> list[np.ndarray | None]:
    """Return the weight of each sample by its class, for a model with one output; classes not named weigh 1.

    Raises
    ------
    TypeError, ValueError
        When there are several outputs or no targets, or `weights` is no dict of numbers by class.
    """
    if not isinstance(weights, Mapping):
        raise TypeError(f"{model.place}: class_weight must be a dict by class, got {checks.describe(weights)}.")
    if len(targets) > 1 or targets[0] is None:
        raise ValueError(f"{model.place}: class_weight needs one output with targets; use sample_weight.")
    labels = _labels(targets[0], model.outputs[0].shape)
    found = np.ones(labels.shape)
    for label, weight in weights.items():
        label = checks.integer(model.place, "a class in class_weight", label)
        found[labels == label] = checks.number(model.place, f"class_weight[{label}]", weight, minimum=0.0)
    return [found]


def _labels(targets: np.ndarray, output: tuple[int | None, ...]) -> np.ndarray:
    """Return class numbers from such, from a last axis of size 1, or from one-hot vectors."""
    if targets.ndim > 1 and targets.shape[-1] == 1:
        targets = targets[..., 0]
    elif targets.ndim == len(output) and targets.ndim > 1:
        return targets.argmax(axis=-1)
    return np.round(targets).astype(np.int64)
