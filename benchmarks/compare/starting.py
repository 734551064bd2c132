"""How long a fresh process takes to its first result, with and without compiled code on disk."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PACKAGES = Path(importlib.util.find_spec("numbalstm").origin).parents[1]
FIRST_CALL = """
import numpy as np
import numbalstm as nl
y = nl.LSTM(128, return_sequences=True)(np.ones((8, 100, 64), np.float32))
assert y.shape == (8, 100, 128) and np.isfinite(y).all()
"""


def seconds(code, cache):
    """Return the seconds that a fresh interpreter takes to run some code, its compiled code kept in `cache`."""
    paths = os.pathsep.join(path for path in (str(PACKAGES), os.environ.get("PYTHONPATH")) if path)
    variables = os.environ | {"NUMBA_CACHE_DIR": cache, "PYTHONPATH": paths}
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=variables, check=True)
    return time.perf_counter() - begin


def starts(repeats=7):
    """Return seconds to the first result with an empty cache and with a full one, and seconds to import."""
    with tempfile.TemporaryDirectory() as cache:
        cold = seconds(FIRST_CALL, cache)
        warm = [seconds(FIRST_CALL, cache) for _ in range(repeats)]
        imported = [seconds("import numbalstm", cache) for _ in range(repeats)]
    return cold, float(np.median(warm)), float(np.median(imported))
