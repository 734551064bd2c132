"""Ratios of times that are measured in turns, in one process, and the records that they become."""

import time
from collections.abc import Callable

import numpy as np

BUDGET = 0.5  # seconds for each pair of calls


def row(what, value, unit="x", at_most=None, at_least=None):
    """Return one figure with its target; neither bound: for information."""
    bounds = {"at_most": at_most, "at_least": at_least}
    return {"what": what, "value": value, "unit": unit} | {k: v for k, v in bounds.items() if v is not None}


def in_turns(*calls: Callable[[], object]) -> np.ndarray:
    """Return times of calls that take turns, in seconds: (calls, turns)."""
    blocks = []
    for call in calls:
        call()
        begin = time.perf_counter()
        call()
        blocks.append(max(1, int(0.002 / (time.perf_counter() - begin))))
    times, until = [[] for _ in calls], time.perf_counter() + BUDGET * len(calls) / 2
    while time.perf_counter() < until or len(times[0]) < 3:
        for call, block, taken in zip(calls, blocks, times, strict=True):
            begin = time.perf_counter()
            for _ in range(block):
                call()
            taken.append((time.perf_counter() - begin) / block)
    return np.array(times)


def ratio(call, other):
    """Return the time of a call over that of another: the median of their turns' ratios."""
    first, second = in_turns(call, other)
    return float(np.median(first / second))


def brief(size):
    """Return (batch, time, features, units) as the other tables write it."""
    return str(size).replace(" ", "")


def plural(count):
    """Return "1 thread", "2 threads"."""
    return f"{count} thread{'s' if count > 1 else ''}"
