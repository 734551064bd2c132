"""Fixtures of the whole suite."""

import hashlib
import os
import shutil
import signal
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
DAY = 24 * 60 * 60


def pytest_configure(config):
    """Keep Numba's cache in a folder named after the sources, and heed Ctrl-C also as a job in the background.

    Numba does not notice a change in a file that a cached function calls into; a new folder for every state of the
    package cannot be stale, and repeated runs of one state stay quick.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    digest = hashlib.sha256()
    for path in sorted((ROOT / "numbalstm").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    folder = ROOT / ".pytest_cache" / "numba" / digest.hexdigest()[:16]
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    for old in folder.parent.glob("*"):
        if old != folder and time.time() - old.stat().st_mtime > DAY:
            shutil.rmtree(old, ignore_errors=True)


@pytest.fixture
def rng(request):
    """A random generator seeded by the test's name: the same numbers in every run, other numbers in every test."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
