"""When a parallel region may run: one at a time, and never where threads are known to be missing."""

import os
import threading
import time
from typing import Any

import numba
from numba.core.compiler_lock import global_compiler_lock

from numbalstm import settings
from numbalstm.kernels.launch import code_of, launch
from numbalstm.kernels.simd import Tile

# A forked child of a parent with threads of OpenMP is ended at its first region; with those of TBB it may hang there.
UNSAFE_AFTER_FORK = ("omp", "tbb")
FORK_PATIENCE = 1.0  # seconds that a fork waits for a region of another thread to end


class _Process:
    """What this process may do with threads; a forked child begins anew."""

    def __init__(self) -> None:
        # Numba's workqueue layer aborts the process on two regions at once, and two would fight for the same cores.
        self.region = threading.Lock()
        self.alone = False  # only the calling thread can be relied on
        self.fork = threading.local()

    def before_fork(self) -> None:
        """Let no other thread be in a region, or compile: a child would wait for their locks for ever."""
        self.fork.quiet = self.region.acquire(timeout=FORK_PATIENCE)
        global_compiler_lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let the other threads go on."""
        global_compiler_lock.release()
        if self.fork.quiet:
            self.region.release()

    def after_fork_in_child(self) -> None:
        """The threads are gone, and a region that still ran will never end."""
        global_compiler_lock.release()
        layer = _launched_layer()
        if layer is not None and (layer in UNSAFE_AFTER_FORK or not self.fork.quiet):
            self.alone = True
        self.region = threading.Lock()


def _launched_layer() -> str | None:
    """Numba's threading layer, or None as long as it has started no threads."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_process.before_fork,
        after_in_parent=_process.after_fork_in_parent,
        after_in_child=_process.after_fork_in_child,
    )


def threads(limit: int | None) -> int:
    """Return how many threads a call may use; `limit` is the call's own."""
    wanted = limit or settings.get_threads()
    if wanted == 1 or _process.alone:
        return 1
    # asking Numba would start its threads, which small work never needs and a later fork may suffer from
    allowed = numba.config.NUMBA_NUM_THREADS if _launched_layer() is None else numba.get_num_threads()
    return min(wanted, allowed)


def run_alone(entry: Any, tile: Tile, jobs: int, x: int, y: int, count: int) -> bool:
    """Run jobs of an entry point, one a thread; or return False at once when another thread of Python is doing so."""
    address = code_of(entry, tile).address
    lock = _process.region
    if _process.alone or not lock.acquire(blocking=False):
        return False
    try:
        launch(address, jobs, x, y, count)
    finally:
        lock.release()
    return True


class Sharing:
    """Whether to let threads share the units of a batch, for which each has to keep a core to itself.

    On a busy machine they wait for each other at every timestep, so after one such call those that follow go alone.
    """

    PAUSE = 0.05  # seconds: many small calls, and no large one

    def __init__(self) -> None:
        self._alone_until = 0.0

    def worth_a_try(self) -> bool:
        """Return whether this call may share."""
        return time.monotonic() >= self._alone_until

    def rest(self) -> None:
        """Let the next calls go alone."""
        self._alone_until = time.monotonic() + self.PAUSE


sharing = Sharing()
