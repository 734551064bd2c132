"""Settings of the process: how many threads a call may use, and the vector width of the kernels."""

import os
from functools import cache
from pathlib import Path

_threads: int | None = None


def available_cores() -> int:
    """Cores that the calling thread may run on now: its affinity, and its container's limit where the system tells."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, container_cores() or cores)


@cache
def container_cores() -> int | None:
    """Whole cores that the control groups of the process grant it, at least 1; None without a limit."""
    return cores_of_groups(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))


def cores_of_groups(mount: Path, membership: Path) -> int | None:
    """Read the limits of a process's control groups, of version 2 or 1, from the group up to the root."""
    places = {mount, mount / "cpu"}
    try:
        for line in membership.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            top = mount if not controllers else mount / "cpu" if "cpu" in controllers.split(",") else None
            if top is not None:
                inner = top / group.lstrip("/")
                places |= {inner, *inner.parents[: len(inner.parts) - len(top.parts)]}
    except (OSError, ValueError):
        pass  # not Linux
    limits = [limit for place in places if (limit := _quota(place)) is not None]
    return max(1, int(min(limits))) if limits else None


def _quota(group: Path) -> float | None:
    """Cores that one control group grants, or None."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / name).read_text() for name in names).split()
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return None


def set_threads(count: int | None) -> None:
    """Limit the threads of every later call that does not say ``threads=`` itself.

    Parameters
    ----------
    count : int or None
        Most threads that a call may use; None (the state at start) uses the cores that the calling thread may run on.

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
