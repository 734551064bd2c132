"""The sequences of a request as compiled passes with a tape see them: where they lie, and which steps of them count."""

from typing import Any, NamedTuple

import numpy as np

from numbalstm.backends.interface import Request
from numbalstm.backends.normed import Sums
from numbalstm.backends.plan import address


class Share(NamedTuple):
    """The rows start to stop of the batch, longest first, and a segment's tape of them."""

    start: int
    stop: int
    offsets: np.ndarray  # int64 (steps + 1,): rows before each timestep
    times: np.ndarray  # int64 (rows,): the place of each in the processing order of its sequence
    z: np.ndarray  # (tiles, rows, 4, lanes)
    h: np.ndarray  # (stop - start + rows, tiles * lanes): the states before the segment, then those after each timestep
    c: np.ndarray
    beside: Sums | None  # with layer normalisation


class Arrays(NamedTuple):
    """Where the sequences of a batch lie: addresses by row, byte strides of a timestep in processing order."""

    rows: np.ndarray
    step: int
    keep: Any


def plain(x: np.ndarray) -> np.ndarray:
    """The features of a timestep beside each other."""
    return x if x.shape[-1] == 1 or x.strides[-1] == x.itemsize else np.ascontiguousarray(x)


def arrays_at(arrays: Any, order: np.ndarray, backwards: bool) -> Arrays:
    """Where the rows of a batch lie, in the order of the tape."""
    if isinstance(arrays, list):
        arrays = [np.ascontiguousarray(row) for row in arrays]
        step = arrays[0].itemsize * arrays[0].shape[1] if arrays else 0
        first = [address(row) + ((len(row) - 1) * step if backwards else 0) for row in arrays]
        rows = np.array(first, np.int64)
    else:
        step = arrays.strides[1]
        first = address(arrays) + ((arrays.shape[1] - 1) * step if backwards else 0)
        rows = first + np.arange(len(arrays)) * arrays.strides[0]
    return Arrays(np.ascontiguousarray(rows[order]), -step if backwards else step, arrays)


def real_steps(request: Request) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Order of the rows, longest first; their numbers of real steps; and with a mask where these are, (rows, steps)."""
    x, positions = request.x, None
    if isinstance(x, list):
        lengths = np.array([len(row) for row in x], np.int64)
    elif request.mask is None:
        lengths = np.full(len(x), x.shape[1], np.int64)
    else:
        lengths = np.count_nonzero(request.mask, axis=1)
        positions = np.argsort(~_processed(request, request.mask), axis=1, kind="stable")
    order = np.argsort(-lengths, kind="stable")
    return order, lengths[order], None if positions is None else positions[order]


def _processed(request: Request, array: np.ndarray) -> np.ndarray:
    """A view of (B, T, ...) in processing order."""
    return array[:, ::-1] if request.go_backwards else array


def _latest(request: Request) -> np.ndarray:
    """For each step, in processing order, the latest one that counts; -1 where there is none."""
    mask = _processed(request, request.mask)
    return np.maximum.accumulate(np.where(mask, np.arange(mask.shape[1]), -1), axis=1)


def finish_outputs(request: Request, outputs: Any) -> None:
    """Outputs of the masked steps."""
    if request.mask is None:
        return
    if not request.return_sequences:
        outputs[~last_counts(request)[:, 0]] = 0
        return
    latest = _latest(request)
    skipped = latest != np.arange(latest.shape[1])
    for row in np.flatnonzero(skipped.any(axis=1)):
        steps = np.flatnonzero(skipped[row])
        sources = latest[row, steps]
        outputs[row, steps] = 0
        if not request.zero_output_for_mask:
            outputs[row, steps[sources >= 0]] = outputs[row, sources[sources >= 0]]


def last_counts(request: Request) -> np.ndarray:
    """Which rows' last output is that of a real step, (B, 1) bool."""
    if isinstance(request.x, list):
        return np.array([len(row) > 0 for row in request.x], bool)[:, None]
    if request.mask is None:
        return np.ones((len(request.x), 1), bool)
    if request.zero_output_for_mask:
        return _processed(request, request.mask)[:, -1:]
    return request.mask.any(axis=1)[:, None]


def of_real_steps(request: Request, dy: Any) -> Any:
    """The outputs' cotangents with those of repeated outputs added where they were repeated from."""
    if isinstance(dy, list):
        return [np.ascontiguousarray(row) for row in dy]
    if request.mask is None or request.zero_output_for_mask:
        return plain(dy)
    mask, dy = _processed(request, request.mask), dy.copy()
    for step in reversed(range(1, dy.shape[1])):
        repeated = ~mask[:, step]
        dy[repeated, step - 1] += dy[repeated, step]
    return dy


def scaled(x: Any, factors: np.ndarray) -> Any:
    """Sequences times the factors of their rows."""
    if isinstance(x, list):
        return [row * factor for row, factor in zip(x, factors, strict=True)]
    return x * factors[:, None]
