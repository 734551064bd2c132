"""Outputs for many samples, block by block."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.backends.arguments import as_array
from numbalstm.layers.symbolic import leaves
from numbalstm.models import batches
from numbalstm.models.inputs import in_order


def predict(
    model: Any,
    x: Any,
    batch_size: int | None,
    verbose: int | str,
    progress: Callable[[int, int], None] | None,
    out: Any,
) -> Any:
    """Compute a model's outputs, see `numbalstm.models.model.BaseModel.predict`."""
    batches.build(model, x, batch_size or batches.DEFAULT_BATCH)
    names = model.input_names
    given = in_order(model.place, x, model.inputs, names)
    arrays = [as_array(model.place, f"input {name!r}", item) for name, item in zip(names, given, strict=True)]
    total = _samples(model, arrays)
    _check_outputs(model)
    size = batches.batch_size(model, batch_size, total)
    verbose = checks.one_of(model.place, "verbose", verbose, ("auto", 0, 1, 2, False, True))
    verbose = sys.stderr.isatty() if verbose == "auto" else verbose
    results = None if out is None else _given(model, out, total)
    # No samples make one empty block, which tells the outputs' shapes.
    for start in range(0, max(total, 1), size):
        block = [array[start : start + size] for array in arrays]
        parts = list(leaves(model.call(block, training=False)))
        if results is None:
            results = [np.empty((total, *part.shape[1:]), part.dtype) for part in parts]
        for name, result, part in zip(model.output_names, results, parts, strict=True):
            _store(model, name, result[start : start + size], part)
        done = min(start + size, total)
        if progress is not None:
            progress(done, total)
        if verbose == 1 or (verbose == 2 and done == total):
            sys.stderr.write(f"\r{done}/{total}" + ("\n" if done == total else ""))
    return model._nested(results) if out is None else out


def _samples(model: Any, arrays: list[np.ndarray]) -> int:
    """Return the number of samples that all inputs have."""
    if any(array.ndim == 0 for array in arrays):
        raise ValueError(f"{model.place}: predict needs arrays with samples along the first axis, got a single number.")
    counts = [len(array) for array in arrays]
    if len(set(counts)) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in zip(model.input_names, counts, strict=True))
        raise ValueError(f"{model.place}: all inputs must have one number of samples, got {listed}.")
    return counts[0]


def _check_outputs(model: Any) -> None:
    """Refuse an output whose first axis is no batch, such as the states of a stack, since blocks are joined there."""
    if any(tensor.shape[0] is not None for tensor in model.inputs):
        return
    for name, tensor in zip(model.output_names, model.outputs, strict=True):
        if tensor.shape and tensor.shape[0] is not None:
            raise ValueError(
                f"{model.place}: predict joins blocks of samples along the first axis, but output {name!r} has shape "
                f"{tensor.shape}. Call the model instead."
            )


def _given(model: Any, out: Any, total: int) -> list[np.ndarray]:
    """Return the arrays that the caller gave for the outputs, flat."""
    arrays = list(leaves(out))
    if len(arrays) != len(model.outputs):
        raise ValueError(f"{model.place}: out must hold {len(model.outputs)} arrays, got {len(arrays)}.")
    for name, array in zip(model.output_names, arrays, strict=True):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{model.place}: out for {name!r} must be an array, got {checks.describe(array)}.")
        if array.ndim == 0 or len(array) != total:
            raise ValueError(f"{model.place}: out for {name!r} must have {total} samples, got shape {array.shape}.")
    return arrays


def _store(model: Any, name: str, place: np.ndarray, part: np.ndarray) -> None:
    if place.shape != part.shape or not np.can_cast(part.dtype, place.dtype, "same_kind"):
        raise ValueError(
            f"{model.place}: out for {name!r} must take blocks of shape {part.shape} and dtype {part.dtype}, "
            f"got {place.shape} and {place.dtype}."
        )
    place[...] = part
