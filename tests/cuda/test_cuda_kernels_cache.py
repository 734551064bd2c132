"""Machine code on the disk, compiling ahead, and what is said when the compiler is not there."""

import json
import os
import threading

import numpy as np
import pytest
from numba.core import config
from simulated_driver import Driver

import numbalstm as nl
from numbalstm.backends.cuda import choice, presence, rehearsal, toolchain
from numbalstm.backends.interface import DeviceUnavailableError
from numbalstm.cli import main
from numbalstm.kernels import compilation
from numbalstm.kernels.cuda.moves import make_gather

CAPABILITY = (9, 0)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty cache, and a compiler that makes something at once."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(toolchain, "_counts", {"compiled": 0, "loaded": 0})
    made = lambda kernel, capability: toolchain.Cubin(kernel.name.encode() * 1000, f"_Z{kernel.name}", 30, 8, 0)  # noqa: E731
    monkeypatch.setattr(toolchain, "compiled", made)
    return compilation.folder


@pytest.fixture
def kernel():
    return make_gather("float32", True, False)


def test_a_kernel_is_compiled_once(folder, kernel):
    first = toolchain.built(kernel, CAPABILITY)
    assert toolchain.built(make_gather("float32", True, False), CAPABILITY) == first
    assert toolchain.counts() == (1, 1)
    toolchain.built(make_gather("float32", False, False), CAPABILITY)
    toolchain.built(kernel, (8, 0))
    assert toolchain.counts() == (3, 1)
    assert len(list(folder().glob("cuda-gather-*.cubin"))) == 3


def damaged(path):
    whole = path.read_bytes()
    line, _, code = whole.partition(b"\n")
    facts = json.loads(line)
    yield b""
    yield whole[:-1]
    yield whole[: len(line) // 2]
    yield whole[:-1] + bytes([whole[-1] ^ 1])
    yield b"null\n" + code
    yield b"[1, 2]\n" + code
    yield b"\xff\xfe" + whole
    yield json.dumps(facts | {"more": 1}).encode() + b"\n" + code
    yield json.dumps(facts | {"file": "cuda-step-0.cubin"}).encode() + b"\n" + code


def test_files_that_are_damaged_or_of_another_kernel_are_made_again(folder, kernel):
    first = toolchain.built(kernel, CAPABILITY)
    path = toolchain.path_of(kernel, CAPABILITY)
    good = path.read_bytes()
    count = 0
    for content in damaged(path):
        path.write_bytes(content)
        assert toolchain.built(kernel, CAPABILITY) == first
        assert path.read_bytes() == good
        count += 1
    assert toolchain.counts() == (1 + count, 0)
    toolchain.built(make_gather("float64", True, False), CAPABILITY)
    path.write_bytes(toolchain.path_of(make_gather("float64", True, False), CAPABILITY).read_bytes())
    before = toolchain.counts()
    toolchain.built(kernel, CAPABILITY)
    assert toolchain.counts() == (before[0] + 1, 0)


def test_a_folder_that_cannot_be_used_costs_time_and_no_more(folder, kernel, monkeypatch):
    def refuse(*_):
        raise OSError("read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(compilation, "_write", refuse)
        toolchain.built(kernel, CAPABILITY)
    assert not list(folder().glob("*"))
    toolchain.built(kernel, CAPABILITY)
    if os.name == "posix":
        folder().chmod(0o777)  # others could have written there
        toolchain.built(kernel, CAPABILITY)
        assert toolchain.counts() == (3, 0)
    monkeypatch.setattr(compilation, "folder", lambda: None)
    toolchain.built(kernel, CAPABILITY)
    assert toolchain.counts()[1] == 0


def test_several_at_once(folder, kernel):
    """Readers and writers of one file, some of whom damage it: each gets the right code."""
    expected, wrong = toolchain.built(kernel, CAPABILITY), []
    path = toolchain.path_of(kernel, CAPABILITY)

    def work(number):
        for i in range(60):
            if number == 0 and i % 10 == 0:
                path.unlink(missing_ok=True)
            if toolchain.built(kernel, CAPABILITY) != expected:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [one.name for one in folder().iterdir()] == [path.name]  # no leftovers


# ---- compiling ahead


def test_warming_up_for_a_gpu_that_is_not_here(folder):
    seen = []
    done = nl.warmup(device="cuda", features=5, units=7, batch=3, limits=choice.H100, progress=seen.append)
    assert [step.name.partition(",")[0] for step in done.steps] == [
        f"float32 cuda {what}" for what in ("forward", "masked", "training", "stream")
    ]
    assert done.steps == seen
    assert done.steps[0].action == "compiled"
    assert done.problem is None
    again = nl.warmup(device="cuda", features=5, units=7, batch=3, limits=choice.H100)
    assert {step.action for step in again.steps} == {"loaded"}


def test_kernels_of_sizes():
    for what, names in (("forward", {"gather", "product", "step"}), ("stream", {"product", "step"})):
        assert {kernel.name for kernel in rehearsal.kernels("float64", 2, 3, 4, 5, what, choice.H100)} == names
    names = {k.name for k in rehearsal.kernels("float32", 1, 100, 64, 128, "forward", choice.H100)}
    assert "step" not in names


def test_launches_of_a_call_are_those_of_the_rehearsal(driver, rng):
    known = {k._replace(function=None) for k in rehearsal.kernels("float64", 2, 3, 4, 5, "training", choice.H100)}
    x = rng.normal(size=(2, 3, 4))
    layer = nl.LSTM(5, dtype="float64", device="cuda", return_sequences=True)
    driver.launches.clear()
    _, pull = layer.vjp(x)
    pull(np.ones((2, 3, 5)))
    assert set(driver.launches) <= {kernel.name for kernel in known}


def test_the_command_warms_up(folder, monkeypatch, capsys):
    monkeypatch.setattr(presence, "problem", lambda: "there is no GPU.")
    assert main(["warmup", "--device", "cuda", "--units", "7"]) == 2
    assert 'device="cuda" was asked for, but: there is no GPU.' in capsys.readouterr().err
    with pytest.raises(DeviceUnavailableError):
        nl.warmup(device="cuda")
    with pytest.raises(ValueError, match="warmup: units must be at least 1, got 0"):
        nl.warmup(device="cuda", units=0)


# ---- the real packages


def test_what_is_called_of_the_packages_exists():
    """No driver is needed to see that the names, and the parameters of functions, are there."""
    import cuda.core as core
    from cuda.bindings import driver

    fake = Driver()
    for name in vars(fake.core):
        assert hasattr(core, name), name
    for name in (*vars(fake.bindings), "cuPointerGetAttribute", "CUpointer_attribute", "cuInit", "cuDeviceGetCount"):
        assert hasattr(driver, name), name
    for name in ("set_current", "allocate", "create_stream", "create_graph_builder", "name", "properties", "sync"):
        assert hasattr(core.Device, name), name
    for name in ("multiprocessor_count", "max_shared_memory_per_block_optin"):
        assert hasattr(core._device.DeviceProperties, name), name
    for name in ("wait", "sync", "handle", "record", "__cuda_stream__"):
        assert hasattr(core.Stream, name), name
    assert hasattr(core.Buffer, "set_deallocation_stream")
    assert hasattr(core.Buffer, "handle")
    for name in ("begin_building", "end_building", "complete", "close"):
        assert hasattr(core.graph.GraphBuilder, name), name
    assert hasattr(core.graph.Graph, "launch")
    assert int(core.LEGACY_DEFAULT_STREAM.handle) == 1
    assert int(core.PER_THREAD_DEFAULT_STREAM.handle) == 2
    names = driver.CUfunction_attribute
    assert hasattr(names, "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES")
    assert hasattr(names, "CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED")
    config_of_launch = core.LaunchConfig(grid=3, block=32, shmem_size=0, is_cooperative=False)
    assert config_of_launch.grid == (3, 1, 1)
    assert hasattr(core.utils.StridedMemoryView, "from_dlpack")


def test_the_built_in_copy_of_numba_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(toolchain, "compiler_file", lambda: "/site/numba/cuda/__init__.py")
    with pytest.raises(RuntimeError, match=r"Numba's own copy of numba.cuda .*deprecated.*numba-cuda"):
        toolchain.refuse_built_in_copy()
    monkeypatch.undo()
    toolchain.refuse_built_in_copy()
