"""When a parallel region may run: one at a time, and never where threads are known to be missing."""

import threading
from collections.abc import Callable

import numba

from numbalstm import settings

# Numba's workqueue layer aborts the process on two regions at once, and two would fight for the same cores anyway.
_region = threading.Lock()


def threads(limit: int | None) -> int:
    """Return how many threads a call may use; `limit` is the call's own."""
    return min(limit or settings.get_threads(), numba.get_num_threads())


def run_alone(region: Callable[..., None], *args: object) -> bool:
    """Run a parallel region, or return False at once when another thread of Python is in one."""
    if not _region.acquire(blocking=False):
        return False
    try:
        region(*args)
    finally:
        _region.release()
    return True


class Sharing:
    """Whether to let threads share the units of a batch, for which each has to keep a core to itself.

    On a busy machine they wait for each other at every timestep, so after one such call the next ones go alone.
    """

    CALLS_ALONE = 32

    def __init__(self) -> None:
        self._alone = 0

    def worth_a_try(self) -> bool:
        """Return whether this call may share."""
        if self._alone == 0:
            return True
        self._alone -= 1
        return False

    def rest(self) -> None:
        """Let the next calls go alone."""
        self._alone = self.CALLS_ALONE


sharing = Sharing()
