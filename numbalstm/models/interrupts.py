"""Ctrl-C during a long computation: noted, and heeded where stopping leaves everything whole."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Within this context the first Ctrl-C only sets `pending`; the second one interrupts as always.

    Outside the main thread, and where somebody else handles the signal, nothing is changed.
    """

    def __init__(self) -> None:
        self.pending = False
        self._previous: object = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            raise KeyboardInterrupt
        self.pending = True
