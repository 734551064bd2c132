"""The limits of the machine, measured by limits.c, and what they say about a case."""

import json
import math
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("limits.c")


def program():
    """Compile limits.c once and return the path, or None without gcc or where it does not compile."""
    found = Path(tempfile.gettempdir()) / f"numbalstm-limits-{os.getuid()}-{SOURCE.stat().st_mtime_ns}"
    gcc = shutil.which("gcc")
    if not found.exists() and gcc:
        flags = ("-O3", "-march=native", "-ffp-contract=fast", "-pthread")
        subprocess.run([gcc, *flags, str(SOURCE), "-o", str(found)], capture_output=True, check=False)
    return found if found.exists() else None


def _run(*arguments):
    if (path := program()) is None or (os.cpu_count() or 1) < 2:
        return None
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=120, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def barrier_now():
    """Return the nanoseconds that a barrier between two cores costs at this moment, or None where it cannot be told."""
    probe = _run("quick")
    return probe and probe["barrier_ns"]


def near(limits):
    """Return the nanoseconds below which a barrier says that the host has the two cores close together."""
    return 2.5 * limits["barrier_ns"] if limits else 0


def _best(values):
    """Merge runs: the highest rate, the lowest cost."""
    if isinstance(values[0], dict):
        return {key: _best([value[key] for value in values]) for key in values[0]}
    return max(values)


def measure(runs=3):
    """Return the best of some runs of limits.c, or None where it cannot be compiled."""
    results = [result for _ in range(runs) if (result := _run())]
    if not results:
        return None
    return _best(results) | {"barrier_ns": min(result["barrier_ns"] for result in results)}


def bandwidth(limits, size, cores):
    """Return bytes a second at which `cores` cores together read a block of `size` bytes over and over."""
    points = sorted((int(kilobytes) * 1024, rate) for kilobytes, rate in limits[f"read_gbs_{cores}"].items())
    sizes, rates = zip(*points, strict=True)
    return float(np.interp(math.log(max(size, 1)), np.log(sizes), rates)) * 1e9


def _sizes(case):
    """Give for each layer and direction: flops, bytes read at every step, how many steps, bytes that pass once."""
    batch, time, units, directions = case.batch, case.time, case.units, 1 + case.bidirectional
    for layer in range(case.layers):
        features = directions * units if layer else case.features
        flops = 8 * batch * time * units * (features + units)
        recurrent, kernel = 16 * units * units, 16 * units * features
        for _ in range(directions):
            if case.mode == "stream":
                yield flops, recurrent + kernel, 1, 0
            else:
                yield flops, recurrent, time, kernel + 4 * batch * time * (features + units)


def floor(case, limits, cores):
    """Return seconds that no float32 implementation can beat on these cores.

    The longer of the arithmetic at the measured rate and the reading: the recurrent weights at every step from the
    cache level that holds them, everything else once. Two cores share the batch or the units, whichever is quicker.
    """
    single = shared = 0.0
    for flops, each_step, steps, once in _sizes(case):

        def seconds(cores, copies, flops=flops, each_step=each_step, steps=steps, once=once):
            reading = steps * each_step * copies / bandwidth(limits, each_step * copies, cores)
            reading += once / bandwidth(limits, once + each_step, cores)
            return max(flops / (limits[f"gflops_{cores}"] * 1e9), reading)

        alone = seconds(1, 1)
        single += alone
        if cores == 2:
            by_units = seconds(2, 1) + steps * limits["barrier_ns"] * 1e-9
            shared += min(alone, by_units, seconds(2, 2) if case.batch > 1 else alone)
    if cores == 1:
        return single
    return min(shared, single / 2) if case.bidirectional else shared


def intensity(case):
    """Return flops per byte that has to be read."""
    sizes = list(_sizes(case))
    return case.flops / sum(each_step * steps + once for _, each_step, steps, once in sizes)
