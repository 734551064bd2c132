"""Every kernel at the sizes it is made for, compiled: nothing spills, and the instructions are there."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numba.cuda.cudadrv import nvrtc

from numbalstm.backends.cuda import choice, toolchain
from numbalstm.backends.cuda.tile_sizes import tiles
from numbalstm.kernels import compilation
from numbalstm.kernels.cuda.cluster import make_cluster
from numbalstm.kernels.cuda.cluster_backward import make_cluster_backward
from numbalstm.kernels.cuda.cluster_simt import make_cluster_simt
from numbalstm.kernels.cuda.dot import make_product
from numbalstm.kernels.cuda.elementwise import make_elementwise, make_mask
from numbalstm.kernels.cuda.gemm import MODES, make_gemm
from numbalstm.kernels.cuda.grid import make_grid
from numbalstm.kernels.cuda.grid_backward import make_grid_backward
from numbalstm.kernels.cuda.moves import THREADS, make_column_sums, make_gather, make_scatter
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.step import make_project, make_step
from numbalstm.kernels.cuda.step_backward import make_project_backward, make_step_backward
from numbalstm.kernels.cuda.step_rows import make_normalise, make_recurrent, make_row_step
from numbalstm.kernels.cuda.step_rows_backward import make_normalise_backward, make_row_backward
from numbalstm.kernels.cuda.tiles_backward import make_tiles_backward
from numbalstm.kernels.cuda.tiles_forward import make_tiles

AMPERE, HOPPER, NEWEST = (8, 0), (9, 0), nvrtc.get_supported_ccs()[-1]
LARGEST_STACK = 64  # bytes

FULL = Options(
    "float32", ("hard_sigmoid", "sigmoid", "gelu", "mish", "tanh"), peephole=True, coupled=True, gate_clip=3.0,
    cell_clip=2.0, factors=4, masked=True, zoneout=(True, True), record=True,
)  # fmt: skip
PROJECTED = FULL._replace(projection=True, projection_clip=1.0)
PLAIN = Options("float32")
MASKED = Options("float32", masked=True, record=True)
ROWS = FULL._replace(
    activations=("sigmoid", ("HardSigmoid", 0.3, 0.4), "softmax", "sparsemax", "log_softmax"),
    coupled=False,
    epsilon=1e-5,
)


ONE_FACTOR = FULL._replace(factors=1)
CLUSTERS = [  # capability, batch, units, mode, options
    (HOPPER, 33, 256, "tf32", PLAIN), (HOPPER, 9, 512, "bf16", PLAIN), (HOPPER, 1, 128, "fp32", PLAIN),
    (HOPPER, 32, 256, "fp32-fast", PLAIN), (HOPPER, 256, 256, "fp32", FULL),
    (NEWEST, 33, 256, "tf32", ONE_FACTOR), (NEWEST, 9, 256, "bf16", ONE_FACTOR), (NEWEST, 256, 256, "fp32", MASKED),
]  # fmt: skip


def step_kernels(element):
    full, projected, plain = (options._replace(element=element) for options in (FULL, PROJECTED, PLAIN))
    yield from (make_step(plain), make_step(full), make_project(projected), make_project_backward(projected))
    yield from (make_step_backward(plain), make_step_backward(full), make_step_backward(projected))
    yield from (make_product(element), make_gather(element, True, True), make_scatter(element, True, True))
    yield make_column_sums(element, 4)
    yield from (make_elementwise(element, "mean"), make_elementwise(element, "quotient", 2.0), make_mask())


def row_kernels(element):
    options = ROWS._replace(element=element)
    yield from (make_recurrent(options), make_row_step(options, THREADS), make_row_backward(options, THREADS))
    yield from (make_normalise(element, 1e-5, True, THREADS), make_normalise_backward(element, THREADS))


def grid_kernels():
    for options, size, rows in ((PLAIN, 1024, 1), (MASKED, 1024, 8), (PLAIN, 512, 4), (PLAIN, 128, 1)):
        yield make_grid(options, size, rows)
    yield make_grid(FULL._replace(factors=0, zoneout=(False, False)), 1024, 8)
    yield make_grid(PLAIN, 1024, 8, fast=True)


def backward_kernels():
    for options, rows in ((PLAIN, 1), (MASKED, 8), (FULL._replace(factors=0, zoneout=(False, False)), 8)):
        yield make_grid_backward(options, 1024, rows)


def opcodes(cubin, tmp_path):
    """Return how often each instruction stands in machine code."""
    program = next(
        (str(path) for base in sys.path for path in Path(base).glob("nvidia/cu*/bin/nvdisasm")),
        shutil.which("nvdisasm"),
    )
    if program is None:
        pytest.skip("nvdisasm is not installed (package nvidia-cuda-nvdisasm)")
    path = tmp_path / "kernel.cubin"
    path.write_bytes(cubin.code)
    text = subprocess.run([program, path], capture_output=True, text=True, check=True).stdout
    return Counter(re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", text))


def count(found, start):
    return sum(number for name, number in found.items() if name.startswith(start))


def in_double(found):
    return [name for name in found if name.startswith(("DADD", "DMUL", "DFMA"))]


def assert_fits(kernel, capability):
    cubin = toolchain.compiled(kernel, capability)
    assert cubin.spilled == 0, kernel.name
    assert cubin.stack <= LARGEST_STACK, kernel.name
    assert 0 < cubin.registers <= min(255, 65536 // kernel.threads), kernel.name
    return cubin


@pytest.mark.parametrize("capability", [AMPERE, HOPPER, NEWEST], ids=str)
def test_step_kernels(capability, tmp_path):
    for kernel in step_kernels("float32"):
        assert_fits(kernel, capability)
    for kernel in row_kernels("float32"):
        assert not in_double(opcodes(assert_fits(kernel, capability), tmp_path)), kernel.name


def test_step_kernels_in_double():
    for kernel in (*step_kernels("float64"), *row_kernels("float64")):
        assert_fits(kernel, HOPPER)


def test_float32_is_computed_as_such(tmp_path):
    for kernel in (make_step(FULL), make_step_backward(FULL)):
        found = opcodes(toolchain.compiled(kernel, HOPPER), tmp_path)
        assert not in_double(found), kernel.name


@pytest.mark.parametrize("capability", [AMPERE, HOPPER, NEWEST], ids=str)
def test_grid_kernels(capability, tmp_path):
    for kernel in grid_kernels():
        found = opcodes(assert_fits(kernel, capability), tmp_path)
        size, rows = kernel.constants[-4:-2]
        assert count(found, "FFMA") >= rows * 4 * size // 32  # every product of a lane stands in the code
        assert count(found, "LDS.128") == rows * size // 128
        assert count(found, "LDG.E.128") >= 4 * size // 128
        # the exchange: two words in one 16-byte load that other multiprocessors' stores reach
        assert any(name.startswith("LDG.E.128.STRONG") for name in found), found


@pytest.mark.parametrize("capability", [AMPERE, HOPPER, NEWEST], ids=str)
def test_backward_grid_kernels(capability, tmp_path):
    for kernel in backward_kernels():
        found = opcodes(assert_fits(kernel, capability), tmp_path)
        assert count(found, "FFMA") >= 4 * 32
        assert count(found, "LDS.128") >= 8
        assert count(found, "STG.E.128") >= 1
        assert count(found, "LDG.E.128") >= 1


@pytest.mark.parametrize(("capability", "batch", "units", "mode", "options"), CLUSTERS)
def test_cluster_kernels(capability, batch, units, mode, options, tmp_path):
    shape = choice.cluster_shape(batch, units, mode, choice.H100, options.factors)
    tensor = mode in ("tf32", "bf16")
    forward = make_cluster(options, shape, mode) if tensor else make_cluster_simt(options, shape, mode == "fp32-fast")
    backward = make_cluster_backward(options, shape, mode if tensor else "fp32")
    weights = 4 * units * shape.block_units // 256  # of a thread; as many words of two bfloat16 hold twice the units
    for kernel in (forward, backward):
        found = opcodes(assert_fits(kernel, capability), tmp_path)
        if tensor:
            products = weights // (8 if mode == "bf16" else 4)
            assert count(found, "HMMA.16816.F32.BF16" if mode == "bf16" else "HMMA.1688.F32.TF32") == products
            assert count(found, "LDG.E.128") >= products  # fragments as they are loaded
        else:
            assert count(found, "FFMA") >= weights
            assert count(found, "LDS.128") >= (weights // 4 if kernel is backward else 1)
            assert count(found, "LDG.E.128") >= (1 if kernel is backward else weights // 4)
        assert count(found, "STAS") >= 1  # stores that count their bytes
        assert count(found, "SYNCS") >= 4  # barriers that count them
        assert count(found, "UCGABAR") >= 4  # barriers of the cluster, two halves each
    assert count(found, "STG.E.128") >= 1


TILED = FULL._replace(factors=1)
A100 = choice.Limits(AMPERE, 108, 166_912)
TILES = [  # device, capability, batch, units, mode, options
    (limits, capability, *case)
    for limits, capability in ((A100, AMPERE), (choice.H100, HOPPER), (choice.H100, NEWEST))
    for case in (
        (32, 256, "tf32", PLAIN), (64, 512, "fp32", MASKED), (64, 1024, "tf32", TILED), (64, 1024, "bf16", MASKED),
        (256, 1024, "fp32", TILED), (256, 1024, "bf16", PLAIN),
    )
]  # fmt: skip
TILES.append((choice.H100, HOPPER, 64, 1024, "fp32-fast", MASKED))


@pytest.mark.parametrize(("limits", "capability", "batch", "units", "mode", "options"), TILES)
def test_tile_kernels(limits, capability, batch, units, mode, options, tmp_path):
    for backward, make in ((False, make_tiles), (True, make_tiles_backward)):
        tiling = tiles(batch, units, mode, limits.multiprocessors, limits.shared_bytes, backward).tiling
        kernel = make(options, tiling, mode)
        assert kernel.shared <= limits.shared_bytes
        found = opcodes(assert_fits(kernel, capability), tmp_path)
        copies = [name for name in found if name.startswith("LDGSTS")]
        assert copies, "asynchronous copies"
        assert all(".128" in name for name in copies), copies
        sums = tiling.warp_rows * tiling.warp_columns // 32
        assert count(found, "LDS.128") >= (sums // 4 if mode in ("tf32", "bf16") else sums // 8)
        if mode in ("tf32", "bf16"):
            instruction = "HMMA.16816.F32.BF16" if mode == "bf16" else "HMMA.1688.F32.TF32"
            assert count(found, instruction) >= 2 * sums // 4
        else:
            assert count(found, "FFMA") >= 4 * sums
        # the barrier between steps: stores are out before the counter grows, old lines are dropped behind it
        for name in ("MEMBAR", "RED", "LDG.E.STRONG.GPU", "CCTL.IVALL"):
            assert count(found, name) >= 1, name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("capability", [AMPERE, HOPPER, NEWEST], ids=str)
def test_products(capability, mode, tmp_path):
    for a_k_fast, b_k_fast in ((True, True), (True, False), (False, False)):
        kernel = make_gemm(mode, a_k_fast, True, b_k_fast, True)
        found = opcodes(assert_fits(kernel, capability), tmp_path)
        copies = [name for name in found if name.startswith("LDGSTS")]
        assert copies, "asynchronous copies"
        assert all(".128" in name for name in copies), copies
        if mode == "fp32":
            assert count(found, "LDS.128") >= 16
            assert count(found, "FFMA") >= 256
        else:
            assert count(found, "HMMA.1688.F32.TF32" if mode == "tf32" else "HMMA.16816.F32.BF16") >= 16


def test_machine_code_is_kept_and_damage_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "folder", lambda: tmp_path / "caches" / "version")
    kernel = make_gather("float32", False, False)
    made = toolchain.built(kernel, HOPPER)
    path = toolchain.path_of(kernel, HOPPER)
    assert b"pickle" not in path.read_bytes()
    monkeypatch.setattr(toolchain, "compiled", lambda *what: pytest.fail("compiled again"))
    assert toolchain.built(kernel, HOPPER) == made
    assert toolchain.path_of(kernel, AMPERE) != path
    assert toolchain.path_of(make_gather("float32", True, False), HOPPER) != path
    for damage in (lambda data: data[:-1], lambda data: b"{}" + data[2:], lambda data: b"\xff\xfe", lambda data: b""):
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        assert toolchain._read(path) is None
        path.write_bytes(whole)
    path.parent.chmod(0o777)
    assert toolchain._read(path) is None  # anybody could have put it there


def test_the_name_that_numpy_took_away_is_there_while_compiling_only(monkeypatch):
    newer = SimpleNamespace(vstack=np.vstack)
    monkeypatch.setattr(toolchain, "np", newer)
    with toolchain.old_numpy_names():
        assert newer.row_stack is np.vstack
    assert not hasattr(newer, "row_stack")
    newer.row_stack = kept = object()
    with toolchain.old_numpy_names():
        pass
    assert newer.row_stack is kept
