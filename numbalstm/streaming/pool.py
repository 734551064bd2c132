"""A pool of streams that join and leave at any time."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.streaming.runner import Runner, Snapshot, checked


class StreamPool(Runner):
    """Many independent streams of one layer or model, which join and leave at any time.

    Those that have input advance together, in one batch; every stream's outputs have the bits that it would have alone.

    Parameters
    ----------
    source : layer or model
        As for `Stream`.
    capacity : int
        Most streams at a time; memory is taken for all of them at once.
    threads : int, optional
        Most threads to use.  None: `numbalstm.set_threads`, as it is now.

    Raises
    ------
    TypeError, ValueError
        As for `Stream`.

    Notes
    -----
    Weights that change act from the next step on.  A pool belongs to one thread at a time.
    """

    def __init__(self, source: Any, capacity: int, *, threads: int | None = None) -> None:
        self.capacity = checks.positive_integer("StreamPool", "capacity", capacity)
        super().__init__(source, self.capacity, threads)
        self._tables = [stage.tables(self.capacity) for stage in self.stages]
        self._free = list(reversed(range(self.capacity)))
        self._rows: dict[int, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, stream: object) -> bool:
        return stream in self._rows

    @property
    def ids(self) -> list[int]:
        """The streams that are there, in the order in which they joined."""
        return list(self._rows)

    def join(self) -> int:
        """Start a stream with states of zero.

        Returns
        -------
        int
            Its id, which no other stream of the pool has had or will have.

        Raises
        ------
        RuntimeError
            When the pool is full.
        """
        if not self._free:
            raise RuntimeError(f"{self.place}: is full: all {self.capacity} streams are taken. Let one leave first.")
        row, stream = self._free.pop(), self._next
        self._next += 1
        self._rows[stream] = row
        self._clear(row)
        return stream

    def leave(self, stream: int) -> None:
        """End a stream; its place is free for another.

        Parameters
        ----------
        stream : int
            An id from `join`.

        Raises
        ------
        ValueError
            When there is no such stream.
        """
        self._free.append(self._row(stream))
        del self._rows[stream]

    def step(self, ids: Any, x: Any = None) -> np.ndarray:
        """Advance some streams by one step; the others stay as they are.

        Parameters
        ----------
        ids : sequence of int, or mapping from id to array_like (features,)
            Each stream at most once.
        x : array_like (len(ids), features)
            The inputs in the order of `ids`; left out with a mapping.

        Returns
        -------
        array (len(ids), units)
            A new array, in the order of `ids`.

        Raises
        ------
        ValueError
            When an id is unknown or comes twice, or a shape does not fit; no stream has advanced then.
        TypeError
            When the input holds no real numbers, or is missing.
        """
        if isinstance(ids, Mapping):
            if x is not None:
                raise TypeError(f"{self.place}: x must be left out with a mapping.")
            ids, x = list(ids), list(ids.values())
            x = self._stacked(ids, x)
        elif x is None:
            raise TypeError(f"{self.place}: needs the inputs x beside the ids, or a mapping from id to input.")
        rows = self._rows_of(ids)
        x = self.converted(x)
        checks.shape(self.place, "x", x, (len(rows), *self.source.shape))
        if len(rows) == 0:
            return np.empty((0, *self.output_shape), self.stages[-1].dtype)
        self.refresh()
        for stage, tables in zip(self.stages, self._tables, strict=True):
            x = stage.step_rows(x, rows, tables)
        return np.array(x)

    def reset(self, stream: int) -> None:
        """Set the states of one stream to zero.

        Parameters
        ----------
        stream : int
        """
        self._clear(self._row(stream))

    def snapshot(self, stream: int) -> Snapshot:
        """Return a copy of one stream's states; it fits a `Stream` with a batch of 1 too.

        Parameters
        ----------
        stream : int
        """
        return Snapshot(self._states(self._row(stream)))

    def restore(self, stream: int, snapshot: Snapshot) -> None:
        """Let one stream go on from the states of a snapshot.

        Parameters
        ----------
        stream : int
        snapshot : Snapshot

        Raises
        ------
        TypeError, ValueError
            When it is no snapshot, does not fit, or there is no such stream.
        """
        checked(self.place, snapshot).write(self.place, self._states(self._row(stream)))

    def _states(self, row: int) -> list[np.ndarray]:
        """Return the states of one row, each (1, units); views."""
        return [
            table[row : row + 1, :width]
            for stage, tables in zip(self.stages, self._tables, strict=True)
            for table, width in zip(tables, stage.widths, strict=True)
        ]

    def _clear(self, row: int) -> None:
        for tables in self._tables:
            for table in tables:
                table[row] = 0

    def _row(self, stream: Any) -> int:
        try:
            return self._rows[stream]
        except (KeyError, TypeError):
            raise ValueError(f"{self.place}: has no stream {checks.describe(stream)}.") from None

    def _rows_of(self, ids: Any) -> np.ndarray:
        """Return the rows of some streams, each of which comes once."""
        ids = ids.tolist() if isinstance(ids, np.ndarray) else ids
        if not isinstance(ids, (list, tuple, range)):
            raise TypeError(f"{self.place}: ids must be a list of ids, got {checks.describe(ids)}.")
        try:
            rows = [self._rows[stream] for stream in ids]
        except (KeyError, TypeError):
            rows = [self._row(stream) for stream in ids]
        if len(set(rows)) < len(rows):
            twice = next(stream for stream in ids if ids.count(stream) > 1)
            raise ValueError(f"{self.place}: stream {twice} comes twice among the ids.")
        return np.array(rows, np.intp)

    def _stacked(self, ids: list[Any], inputs: list[Any]) -> np.ndarray:
        """Return the inputs of a mapping as one array."""
        arrays = [self.converted(x_t) for x_t in inputs]
        for stream, array in zip(ids, arrays, strict=True):
            checks.shape(self.place, f"the input of stream {stream}", array, self.source.shape)
        return np.stack(arrays) if arrays else np.empty((0, *self.source.shape), self.dtype)

    def __repr__(self) -> str:
        return f"<{self.place}, {len(self)} of {self.capacity} streams>"
