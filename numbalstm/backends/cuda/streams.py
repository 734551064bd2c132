"""Streams that a caller names, and the one on which the calls of this thread run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numbalstm import checks
from numbalstm.backends.cuda.arrays import LEGACY_STREAM

_here = threading.local()


class Named:
    """A stream of another library by its handle, in the form that cuda.core takes."""

    def __init__(self, handle: int, owner: Any) -> None:
        self.handle, self.owner = handle, owner

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


def settled(where: str, stream: Any) -> Named | None:
    """Return what a caller gave as ``stream=``; None stays None.

    Raises
    ------
    TypeError
        When it is no handle, has no ``__cuda_stream__``, ``cuda_stream`` (PyTorch) or ``ptr`` (CuPy).
    """
    if stream is None or isinstance(stream, Named):
        return stream
    handle = stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        handle = (protocol() if callable(protocol) else protocol)[1]
    elif not isinstance(stream, int):
        handle = getattr(stream, "cuda_stream", getattr(stream, "ptr", None))
    if not isinstance(handle, int) or isinstance(handle, bool) or handle < 0:
        raise TypeError(
            f"{where}: stream must be the handle of a CUDA stream, or a stream of CuPy, PyTorch or cuda.core, "
            f"got {checks.describe(stream)}."
        )
    return Named(handle or LEGACY_STREAM, stream)  # the number 0 names the default stream too


def current() -> Named | None:
    """Return the stream that `on` set for this thread, or None."""
    return getattr(_here, "stream", None)


@contextmanager
def on(stream: Named) -> Iterator[None]:
    """Let calls of this thread that name no stream run on this one."""
    before = current()
    _here.stream = stream
    try:
        yield
    finally:
        _here.stream = before
