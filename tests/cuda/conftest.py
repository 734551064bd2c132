"""The CUDA kernels without a GPU: compiled for several of them, and run in a simulator."""

from importlib import util

import pytest

NEEDED = [name for name in ("numba_cuda", "greenlet") if util.find_spec(name) is None]

# these import the tool chain at their head; test_cuda_dispatch.py says that they are left out
collect_ignore_glob = ["test_cuda_kernels*.py"] if NEEDED else []


@pytest.fixture
def driver(monkeypatch):
    """A simulated GPU in the place of the real one, in a state of its own; at the end nothing was out of order."""
    from simulated_driver import Driver

    from numbalstm.backends import compiled_tape, cpu, reference, reference_backward
    from numbalstm.backends.cuda import arrays, device, presence, toolchain
    from numbalstm.kernels.cuda.dot import Tile

    found = Driver()
    monkeypatch.setattr(device, "_core", lambda: found.core)
    monkeypatch.setattr(device, "_driver", lambda: found.bindings)
    monkeypatch.setattr(arrays, "_driver", lambda: found.bindings)
    monkeypatch.setattr(arrays, "_device_of", lambda pointer: 0)
    monkeypatch.setattr(presence, "problem", lambda: None)
    monkeypatch.setattr(presence, "capability", lambda number: (8, 0))  # clusters take long to simulate
    built = lambda kernel, capability: toolchain.Cubin(kernel, "entry", 0, 0, 0)  # noqa: E731
    monkeypatch.setattr(toolchain, "built", built)
    monkeypatch.setattr(device.Device, "tile", Tile(4, 4, 4))
    monkeypatch.setattr(device.Device, "threads", 32)
    monkeypatch.setattr(device.Device, "warps", 1)
    for backend in (cpu, compiled_tape):  # what is expected needs no compiler
        monkeypatch.setattr(backend, "forward", reference.forward)
    monkeypatch.setattr(compiled_tape, "record", reference_backward.record)
    device.card.cache_clear()
    yield found
    device.card.cache_clear()
    assert not found.problems, found.problems
