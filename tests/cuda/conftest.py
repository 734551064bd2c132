"""The CUDA kernels without a GPU: compiled for several of them, and run in a simulator."""

from importlib import util

NEEDED = [name for name in ("numba_cuda", "greenlet") if util.find_spec(name) is None]

# these import the tool chain at their head; test_cuda_dispatch.py says that they are left out
collect_ignore_glob = ["test_cuda_kernels*.py"] if NEEDED else []
