"""The threading layers of Numba that this machine has."""

import subprocess
import sys

NAMES = ("tbb", "omp", "workqueue")


def available(name):
    """Return whether Numba can start threads with a layer."""
    code = f"import numba; numba.config.THREADING_LAYER = {name!r}; numba.set_num_threads(1)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


LAYERS = [name for name in NAMES if available(name)]
