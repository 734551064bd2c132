"""Does the simulator notice? The tile kernels with a planted bug, as in test_cuda_kernels_power.py."""

import numpy as np
import pytest
from simulated_requests import distance, in_double, make_request
from support.cases import make_parameters, make_state
from test_cuda_kernels_power import mutated, notices
from test_cuda_kernels_tiles import product

from numbalstm.backends import reference_backward
from numbalstm.backends.cuda import mode, passes, products
from numbalstm.backends.cuda import tiles as launches
from numbalstm.kernels.cuda import tiles, tiles_backward, tiles_forward

pytestmark = pytest.mark.slow

WAIT = "            P.cp_async_wait2()\n            cuda.syncthreads()\n"
SHARED_BUGS = {
    "nobody waits for the others": [("while left > 0 and P.ld_acquire(", "while left < 0 and P.ld_acquire(")],
    "a block arrives before it has stored": [
        ("    cuda.syncthreads()\n    if tid == 0:\n        P.add_release", "    if tid == 0:\n        P.add_release")
    ],
    "only one thread waits": [("            trouble[0] = 1\n    cuda.syncthreads()\n", "            trouble[0] = 1\n")],
    "pieces read before they are there": [(WAIT, "            cuda.syncthreads()\n")],
    "no barrier behind the copies": [(WAIT, "            P.cp_async_wait2()\n")],
    "sums stored where others still read": [
        ("        cuda.syncthreads()\n        store(floats", "        store(floats"),
    ],
    "sums read before they are there": [
        ("store(floats, acc, tid)\n        cuda.syncthreads()", "store(floats, acc, tid)")
    ],
    "a slice multiplied twice": [("warp // parts * quads * 4", "warp // parts // 2 * quads * 4")],
}  # fmt: skip
RING_BUGS = {"a stage overwritten while it is read": [("staging + (more & ahead) *", "staging + (p & ahead) *")]}
FORWARD_BUGS = {
    "one buffer": [("source + (1 - (t & 1)) * buffer", "source + (t & 1) * buffer")],
    "the wrong buffer read": [("source + (t & 1) * buffer, width", "source + (1 - (t & 1)) * buffer, width")],
    "the barrier of the step before": [("uint32((t + 1) * across)", "uint32(t * across)")],
    "the input's products of the same step": [("(t + 1) * batch * units + at, live", "t * batch * units + at, live")],
}
BACKWARD_BUGS = {
    "the wrong buffer read": [("source + (1 - (step & 1)) * buffer", "source + (step & 1) * buffer")],
    "the barrier of the step before": [("uint32(step * across)", "uint32((step - 1) * across)")],
    "a slice forgotten": [("for i in range(1, slices)", "for i in range(2, slices)")],
}


@pytest.fixture(autouse=True)
def on_tiles(monkeypatch):
    monkeypatch.setattr(mode, "_kernel", "tiles")
    monkeypatch.setattr(products, "product", product)


def recurrence(device, units=17, steps=3):
    """Two blocks, forward and backward."""
    rng = np.random.default_rng(5)
    parameters = make_parameters(rng, 3, units, np.float32)
    x = rng.normal(size=(2, steps, 3)).astype(np.float32)
    request = make_request(x, parameters, initial_state=make_state(rng, parameters, 2))
    found, tape = passes.record(device, request)
    expected, expected_tape = reference_backward.record(in_double(request), None)
    ones = np.ones_like(found.outputs)
    gradients, wanted = tape.pullback(ones, None, None), expected_tape.pullback(ones, None, None)
    pairs = (found.outputs, expected.outputs), (gradients.h, wanted.h), (gradients.x, wanted.x)
    return all(distance(one, other) < 1e-5 for one, other in pairs)


def plant(monkeypatch, edits):
    made = mutated(tiles, edits)
    for module, factory in ((tiles_forward, "make_tiles"), (tiles_backward, "make_tiles_backward")):
        for name in ("make_product", "arrive", "await_all"):
            monkeypatch.setattr(module, name, getattr(made, name))
        monkeypatch.setattr(launches, factory, getattr(module, factory).__wrapped__)  # not one made before


def test_nothing_is_noticed_where_nothing_is_wrong():
    assert not notices(recurrence)


@pytest.mark.parametrize("name", SHARED_BUGS)
def test_bugs_of_products_and_barriers(monkeypatch, name):
    plant(monkeypatch, SHARED_BUGS[name])
    assert notices(recurrence)


@pytest.mark.parametrize("name", RING_BUGS)
def test_bugs_of_the_ring_of_stages(monkeypatch, name):
    plant(monkeypatch, RING_BUGS[name])
    assert notices(lambda device: recurrence(device, 150, 1))


@pytest.mark.parametrize("name", FORWARD_BUGS)
def test_bugs_of_the_forward_kernel(monkeypatch, name):
    monkeypatch.setattr(launches, "make_tiles", mutated(tiles_forward, FORWARD_BUGS[name]).make_tiles)
    assert notices(recurrence)


@pytest.mark.parametrize("name", BACKWARD_BUGS)
def test_bugs_of_the_backward_kernel(monkeypatch, name):
    made = mutated(tiles_backward, BACKWARD_BUGS[name])
    monkeypatch.setattr(launches, "make_tiles_backward", made.make_tiles_backward)
    assert notices(recurrence)
