"""What a stream and a pool of streams share: the stages of a source, its input type, its weights; snapshots."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from numbalstm import checks, dtypes
from numbalstm.backends.arguments import as_array
from numbalstm.backends.cuda.arrays import on_gpu, on_host, view
from numbalstm.streaming import cuda
from numbalstm.streaming.stages import Source, make


class Snapshot:
    """The states of a stream at one moment; made by `Stream.snapshot` and `StreamPool.snapshot`.

    A snapshot never changes.  It fits every stream of the same layers, types and batch size; a stream of a pool has a
    batch of one.
    """

    __slots__ = ("_arrays",)

    def __init__(self, arrays: Iterable[np.ndarray]) -> None:
        self._arrays = tuple(np.array(on_host(array)) for array in arrays)

    def write(self, place: str, targets: Sequence[np.ndarray]) -> None:
        """Copy the states into arrays; ValueError when they differ in number, shape or type."""
        found = [(array.shape, array.dtype) for array in self._arrays]
        wanted = [(array.shape, array.dtype) for array in targets]
        if found != wanted:
            raise ValueError(
                f"{place}: the snapshot is of another kind of stream: it holds states {_listed(found)}, "
                f"and these are {_listed(wanted)}."
            )
        for target, array in zip(targets, self._arrays, strict=True):
            target[...] = array


class Runner:
    """What a stream and a pool share: the stages of a source, its input type, its weights."""

    def __init__(self, source: Any, rows: int, threads: int | None, device: str = "cpu") -> None:
        where = type(self).__name__
        if not hasattr(source, "stream_source"):
            raise TypeError(
                f"{where}: needs a layer that runs over time, or a model of such layers, got {checks.describe(source)}."
            )
        if threads is not None:
            checks.positive_integer(where, "threads", threads)
        self.source: Source = source.stream_source()
        self.place = f"{where} of {self.source.place}"
        self.dtype = np.dtype(np.float32 if self.source.dtype == "bfloat16" else self.source.dtype)
        self.stages = cuda.make(self.source, rows) if device == "cuda" else make(self.source, rows, threads)
        self.output_shape = self.stages[-1].shape
        self._watch()

    def _watch(self) -> None:
        self.watched = [pair for stage in self.stages for pair in stage.watched]

    def refresh(self) -> None:
        """Use the weights as they are now."""
        if any(owner.parameters is not known for owner, known in self.watched):
            for stage in self.stages:
                if stage.watched:
                    stage.renew()
            self._watch()

    def converted(self, x: Any) -> Any:
        """Return an input as an array of the type in which it should come; one on a GPU has to be of it."""
        if on_gpu(x) and isinstance(self.stages[0], cuda.CudaStage):
            return view(self.place, "the input", x, self.dtype)
        array = as_array(self.place, "the input", x)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{self.place}: the input must hold real numbers, got dtype {array.dtype}.")
        if self.source.dtype == "bfloat16":
            return dtypes.round_bfloat16(array)
        with np.errstate(invalid="ignore", over="ignore"):  # what is no integer is refused below
            converted = array.astype(self.dtype, copy=False)
        if self.dtype.kind in "iu" and not np.array_equal(converted, array):
            raise ValueError(f"{self.place}: the input must hold integers, got other numbers.")
        return converted


def checked(place: str, snapshot: Any) -> Snapshot:
    """Return what was given as a snapshot; TypeError when it is none."""
    if type(snapshot) is not Snapshot:
        raise TypeError(f"{place}: needs a snapshot, got {checks.describe(snapshot)}.")
    return snapshot


def _listed(kinds: Sequence[tuple[tuple[int, ...], np.dtype]]) -> str:
    return ", ".join(f"{shape} {dtype}" for shape, dtype in kinds) or "none"
