"""What numbalstm finds on this machine: for `numbalstm doctor` and for the report of a problem."""

from __future__ import annotations

import os
import platform
import tempfile
from importlib import import_module, metadata
from pathlib import Path

import numpy as np

import numbalstm
from numbalstm import settings

PACKAGES = ("numpy", "numba", "llvmlite", "matplotlib", "rich")
EXTENSIONS = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512vl", "avx512dq", "neon", "sve")
THREADING_LAYERS = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}


def examine() -> dict[str, dict[str, str]]:
    """Collect facts by section, each a dict of name to text."""
    return {
        "Versions": _versions(),
        "CPU": _cpu(),
        "Threads": _threads(),
        "GPU": _gpu(),
        "Compiled code": _compiled_code(),
    }


def _versions() -> dict[str, str]:
    found = {"numbalstm": numbalstm.__version__, "Python": f"{platform.python_version()} on {platform.platform()}"}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _cpu() -> dict[str, str]:
    from llvmlite import binding

    from numbalstm.backends import hardware

    found = {"processor": binding.get_host_cpu_name()}
    found["extensions"] = ", ".join(name for name in EXTENSIONS if name in hardware.features()) or "none known"
    forced = "" if settings.simd_bytes() is None else ", forced by NUMBALSTM_SIMD"
    found["vectors"] = f"{hardware.vector_bytes()} bytes{forced}"
    for dtype in ("float32", "float64"):
        tile = hardware.tile(np.dtype(dtype), False)
        found[f"tile, {dtype}"] = f"{tile.rows} rows × 4 gates × {tile.lanes} units"
    return found


def _threads() -> dict[str, str]:
    from numba import config

    layers = [name for name, module in THREADING_LAYERS.items() if _imports(f"numba.np.ufunc.{module}")]
    return {
        "cores": f"{settings.available_cores()} of {os.cpu_count()} for this process",
        "at most": f"{settings.get_threads()} threads a call (Numba allows {config.NUMBA_NUM_THREADS})",
        "threading layers": f"{', '.join(layers)} (asked for: {config.THREADING_LAYER})",
    }


def _imports(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _gpu() -> dict[str, str]:
    from numbalstm.backends.cuda import dispatch

    return dispatch.describe()


def _compiled_code() -> dict[str, str]:
    from numbalstm.kernels.cpu.forward import forward_jobs

    folder = Path(forward_jobs.stats.cache_path)
    files = [path.stat().st_size for path in folder.glob("*.nb[ic]")]
    return {
        "cache": str(folder),
        "writable": "yes" if _writable(folder) else "no: every process compiles anew; set NUMBA_CACHE_DIR",
        "holds": f"{len(files)} files, {sum(files) / 1e6:.1f} MB",
    }


def _writable(folder: Path) -> bool:
    """Return whether a file can be made in the folder, or in the nearest folder above it that exists."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False
