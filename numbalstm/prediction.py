"""A model over the arrays of a file, block by block, so that neither input nor output has to fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from numbalstm import datafiles
from numbalstm.layers.symbolic import leaves

BATCH_SIZE = 256

Progress = Callable[[int, int], None]


def predict_file(
    model: Any,
    source: Path,
    target: Path,
    *,
    batch_size: int | None = None,
    timesteps: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, tuple[int, ...]]:
    """Run a model on every sequence of `source` and write what it answers to `target`.

    Parameters
    ----------
    model : Model or Sequential
    source, target : Path
        Files that end in .npy, .npz or .csv.  From .npy to .npy both are mapped and used block by block.
    batch_size : int, optional
        Sequences in a block; None: as many as the model's input says, or else 256.
    timesteps : int, optional
        Lines of a .csv file that make one sequence; None: as many as the model's input says, or else all.
    force : bool, default False
        Replace `target` if it exists.
    progress : callable(done, total), optional
        Called after each block with the number of sequences.

    Returns
    -------
    dict
        Shape of each written array by the name of the model's output.

    Raises
    ------
    OSError
        When a file cannot be read or written, or `target` exists.
    ValueError
        When the arrays do not suit the model or the format of `target`.
    """
    suffix = datafiles.check_suffix(target)
    names = list(model.output_names)
    if len(names) > 1 and suffix != ".npz":
        raise ValueError(
            f"{target}: the model has {len(names)} outputs ({', '.join(names)}), write them to a .npz file."
        )
    inputs = _match(model, source, timesteps)
    with datafiles.replacing(target, force) as unfinished:
        store = _Store(len(inputs[0]), unfinished if suffix == ".npy" else None)
        for start, outputs in _blocks(model, inputs, batch_size):
            store.put(start, outputs)
            if progress is not None:
                progress(start + len(outputs[0]), store.rows)
        shapes = [array.shape for array in store.arrays]
        if suffix == ".npz":
            with unfinished.open("wb") as file:
                np.savez(file, **dict(zip(names, store.arrays, strict=True)))
        elif suffix == ".csv":
            datafiles.write_csv(unfinished, store.arrays[0])
        del store  # unmaps the file
    return dict(zip(names, shapes, strict=True))


class _Store:
    """The arrays of all answers; made when the first block shows their shapes and dtypes."""

    def __init__(self, rows: int, path: Path | None) -> None:
        self.rows = rows
        self.path = path
        self.arrays: list[np.ndarray] = []

    def put(self, start: int, outputs: list[np.ndarray]) -> None:
        self.arrays = self.arrays or [self._make(block) for block in outputs]
        for array, block in zip(self.arrays, outputs, strict=True):
            array[start : start + len(block)] = block

    def _make(self, block: np.ndarray) -> np.ndarray:
        shape = (self.rows, *block.shape[1:])
        if self.path is None:
            return np.empty(shape, block.dtype)
        return np.lib.format.open_memmap(self.path, "w+", block.dtype, shape)


def _blocks(model: Any, inputs: list[np.ndarray], batch_size: int | None) -> Iterator[tuple[int, list[np.ndarray]]]:
    batch_size = batch_size or model.inputs[0].shape[0] or BATCH_SIZE
    for start in range(0, max(len(inputs[0]), 1), batch_size):
        block = [array[start : start + batch_size] for array in inputs]
        outputs = model.predict(block if len(block) > 1 else block[0], batch_size=batch_size)
        yield start, list(leaves(outputs))


def _match(model: Any, source: Path, timesteps: int | None) -> list[np.ndarray]:
    """Read the arrays and bring them into the order of the model's inputs."""
    names = list(model.input_names)
    arrays = datafiles.read(source)
    if timesteps is not None and source.suffix.lower() != ".csv":
        raise ValueError(f"{source}: --timesteps is for .csv files; an array says its own number.")
    if isinstance(arrays, dict):
        if len(names) == len(arrays) == 1:
            return list(arrays.values())
        for name in names:
            if name not in arrays:
                held = ", ".join(arrays)
                raise ValueError(f"{source}: no array named as the model's input {name!r}; the file holds {held}.")
        inputs = [arrays[name] for name in names]
    else:
        inputs = [arrays]
        if len(names) > 1:
            raise ValueError(f"{source}: the model has {len(names)} inputs, give a .npz file with {', '.join(names)}.")
        if source.suffix.lower() == ".csv":
            inputs = [_sequences(source, arrays, model.inputs[0].shape, timesteps)]
    for name, array in zip(names, inputs, strict=True):
        if array.ndim == 0 or array.shape[:1] != inputs[0].shape[:1]:
            raise ValueError(
                f"{source}: input {name!r} has shape {array.shape}; all need the same number of sequences."
            )
    return inputs


def _sequences(source: Path, table: np.ndarray, shape: tuple, timesteps: int | None) -> np.ndarray:
    """Cut a table into sequences for a model that reads (batch, time, features); other models take a line a sample."""
    if len(shape) != 3:
        if timesteps is not None:
            raise ValueError(f"{source}: --timesteps does not apply, the model's input has shape {shape}.")
        return table
    steps = timesteps or shape[1] or len(table)
    if len(table) % steps:
        raise ValueError(f"{source}: {len(table)} lines do not make whole sequences of {steps} timesteps.")
    return table.reshape(-1, steps, table.shape[1])
