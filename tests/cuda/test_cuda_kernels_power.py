"""Does the simulator notice? Kernels with a planted bug have to fail in at least one schedule."""

import types

import numpy as np
import pytest
from simulated_device import NO_CLUSTERS, SimulatedDevice, product_by_numpy
from simulated_requests import differences, make_request
from support.cases import make_parameters, make_state
from warp_simulator import Deadlock

from numbalstm.backends.cuda import choice, clusters, grids, mode, products
from numbalstm.kernels.cuda import cluster, cluster_backward, cluster_simt, gemm, grid, grid_backward

pytestmark = pytest.mark.slow

GRID_BUGS = {
    "exchange in one slot": [
        ("P.address(exchange, then + row", "P.address(exchange, row"),
        ("at + 2 * i))", "2 * i))"),
    ],
    "h overwritten while it is read": [("then = row_words - now", "then = now")],
    "no barrier after receiving": [
        ("trouble, tid, batch, units)\n            cuda.syncthreads()", "trouble, tid, batch, units)")
    ],
    "one tag of two checked": [("P.tag_step(pair[0]) != tag or P.tag_step(pair[1])", "P.tag_step(pair[0])")],
    "tag of another step": [("uint32(tag + t + 1)", "uint32(tag + 1 + (t & 1))")],
    "halves given the wrong way": [("upper = (lane & bit) != 0", "upper = (lane & bit) == 0")],
    "a gate twice": [("cuda.shfl_sync(ALL, value, lead + 3 * spread)", "cuda.shfl_sync(ALL, value, lead)")],
}
BACKWARD_BUGS = {
    "no barrier before the parts": [
        ("place + 3] = z_g, z_o\n            cuda.syncthreads()", "place + 3] = z_g, z_o"),
    ],
    "parts in one slot": [("slot = (step & 1) * blocks", "slot = 0 * blocks")],
    "tag not checked": [("while P.tag_step(word) != tag:", "while False:")],
    "last block forgotten": [("if block < blocks:", "if block < blocks - 1:")],
}
WAITING = {
    "wrong parity": [("uint32((t >> 1) & 1)", "uint32(((t >> 1) & 1) ^ 1)")],
    "barriers not ready": [("        start_cluster(bars, tid)\n", "")],
    "more bytes expected": [("uint32(expected)", "uint32(expected + 4)")],
    "one buffer": [("then = buffer - now", "then = now")],
}
CLUSTER_BUGS = WAITING | {"columns exchanged": [("z_f += r0 if low else d1", "z_f += d1 if low else r0")]}
SIMT_BUGS = WAITING | {
    "nobody waits": [("                await_bytes(", "                pass  # (")],
    "a block forgotten": [("if block < blocks:", "if block < blocks - 1:")],
    "the other rows": [("now + p * together", "now + (passes - 1 - p) * together")],
}
CLUSTER_BACKWARD_BUGS = {
    "wrong parity": [("uint32((step >> 1) & 1)", "uint32(((step >> 1) & 1) ^ 1)")],
    "no barrier before the parts": [("            cuda.syncthreads()\n", "")],
    "one buffer of parts": [("slot * arriving, bars", "0, bars"), ("slots[(step & 1) * arriving + s", "slots[s")],
    "one buffer of dz": [("slot * buffer, inner", "0, inner"), ("shared, slot * buffer, slots", "shared, 0, slots")],
    "wrong slot": [("(rank * groups + group) * rows", "(rank * groups) * rows")],
    "a source forgotten": [("for s in range(sources):", "for s in range(sources - 1):")],
}
GEMM_BUGS = {
    "piece read before it is there": [
        ("            P.cp_async_wait0()\n            cuda.syncthreads()", "            pass")
    ],
    "fragment of the wrong row": [
        ("lower = a_at + m * 16 * a_row, a_at + (m * 16 + 8)", "lower = a_at + m * 16 * a_row, a_at + (m * 16 + 4)")
    ],
}


def mutated(module, edits):
    """Return a module made from another's source with edits."""
    with open(module.__file__) as file:
        source = file.read()
    for old, new in edits:
        assert old in source, old
        source = source.replace(old, new)
    made = types.ModuleType(module.__name__)
    exec(compile(source, module.__file__, "exec"), made.__dict__)
    return made


def notices(run, limits=NO_CLUSTERS, seeds=4):
    """Return whether a run failed in one of several schedules."""
    seen = []
    for seed in range(seeds):
        try:
            failed = not run(SimulatedDevice(seed, 0.1, fair=seed < 2, limits=limits))
        except (Deadlock, AssertionError, IndexError, KeyError):
            failed = True
        seen.append(failed)
        if failed:
            break
    return any(seen)


def recurrence(device, bound=1e-5, batch=2, units=7, once=False):
    rng = np.random.default_rng(5)
    parameters = make_parameters(rng, 3, units, np.float32)
    x = rng.normal(size=(batch, 5, 3)).astype(np.float32)
    request = make_request(x, parameters, initial_state=make_state(rng, parameters, batch))
    found = differences(rng, request, device, once=once)
    return all(value < bound for value in found.values())


def product(device):
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(20, 72)).astype(np.float32), rng.normal(size=(9, 72)).astype(np.float32)
    c = device.empty((20, 9), "float32")
    left, right = (device.upload(values).at() for values in (a, b))
    products.product(device, "float32", (left, 72, 1), (right, 72, 1), (c.at(), 9, 1), (20, 9, 72), mode="tf32")
    return np.linalg.norm(c.data - a @ b.T) < 1e-2 * np.linalg.norm(a @ b.T)


def test_nothing_is_noticed_where_nothing_is_wrong(monkeypatch):
    monkeypatch.setattr(choice, "tuned", lambda m, n, k: n == 9)
    assert not notices(recurrence)
    assert not notices(product)


@pytest.mark.parametrize("name", GRID_BUGS)
def test_bugs_of_the_forward_kernel(monkeypatch, name):
    monkeypatch.setattr(grids, "make_grid", mutated(grid, GRID_BUGS[name]).make_grid)
    assert notices(recurrence)


@pytest.mark.parametrize("name", BACKWARD_BUGS)
def test_bugs_of_the_backward_kernel(monkeypatch, name):
    monkeypatch.setattr(grids, "make_grid_backward", mutated(grid_backward, BACKWARD_BUGS[name]).make_grid_backward)
    assert notices(recurrence)


@pytest.fixture
def no_products(monkeypatch):
    monkeypatch.setattr(products, "product", product_by_numpy)


@pytest.mark.usefixtures("no_products")
@pytest.mark.parametrize("name", [None, *CLUSTER_BUGS])
def test_bugs_of_the_cluster_kernel(monkeypatch, name):
    monkeypatch.setattr(mode, "_mode", "tf32")
    made = mutated(cluster, CLUSTER_BUGS.get(name, []))
    monkeypatch.setattr(clusters, "make_cluster", made.make_cluster)
    assert notices(lambda device: recurrence(device, 2e-3, once=True), choice.H100) == (name is not None)


FEW = choice.H100._replace(multiprocessors=2)  # one cluster of as many rows as there are, at most 8


@pytest.mark.usefixtures("no_products")
@pytest.mark.parametrize("name", [None, *SIMT_BUGS])
def test_bugs_of_the_cluster_kernel_in_float32(monkeypatch, name):
    made = mutated(cluster_simt, SIMT_BUGS.get(name, []))
    monkeypatch.setattr(clusters, "make_cluster_simt", made.make_cluster_simt)
    assert notices(lambda device: recurrence(device, batch=5, once=True), FEW) == (name is not None)


@pytest.mark.usefixtures("no_products")
@pytest.mark.parametrize("name", [None, *CLUSTER_BACKWARD_BUGS])
def test_bugs_of_the_backward_cluster_kernel(monkeypatch, name):
    made = mutated(cluster_backward, CLUSTER_BACKWARD_BUGS.get(name, []))
    monkeypatch.setattr(clusters, "make_cluster_backward", made.make_cluster_backward)
    found = notices(lambda device: recurrence(device, units=30, once=True), FEW, seeds=16)
    assert found == (name is not None)


@pytest.mark.parametrize("name", GEMM_BUGS)
def test_bugs_of_the_products(monkeypatch, name):
    monkeypatch.setattr(choice, "tuned", lambda *sizes: True)
    monkeypatch.setattr(products, "make_gemm", mutated(gemm, GEMM_BUGS[name]).make_gemm)
    assert notices(product)
