"""Settings of the process: how many threads a call may use, and the vector width of the kernels."""

import os
from functools import cache

_threads: int | None = None


@cache
def available_cores() -> int:
    """Cores that this process may run on: its affinity, and its container's limit where the system tells it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as limit:
            quota, period = limit.read().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2 here
    return cores


def set_threads(count: int | None) -> None:
    """Limit the threads of every later call that does not say ``threads=`` itself.

    Parameters
    ----------
    count : int or None
        Most threads that a call may use; None (the state at start) uses the cores that the process may run on.

    Raises
    ------
    TypeError, ValueError
        When `count` is not a positive integer.

    Notes
    -----
    Results do not depend on it, to the bit. Numba's own limit (``NUMBA_NUM_THREADS``) holds too.
    """
    from numbalstm import checks

    global _threads
    _threads = None if count is None else checks.positive_integer("set_threads", "count", count)


def get_threads() -> int:
    """Return the most threads that a call may use (int >= 1)."""
    return _threads or available_cores()


def simd_bytes() -> int | None:
    """Vector width forced by the environment variable ``NUMBALSTM_SIMD`` (16, 32 or 64 bytes), or None.

    Raises
    ------
    ValueError
        When the variable holds anything else.
    """
    value = os.environ.get("NUMBALSTM_SIMD")
    if value is None:
        return None
    if value not in ("16", "32", "64"):
        raise ValueError(f"NUMBALSTM_SIMD must be 16, 32 or 64 (bytes of a vector), got {value!r}.")
    return int(value)
