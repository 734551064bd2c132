"""Children made by fork, spawn and forkserver work, whatever the parent did before."""

import os
import sys

import pytest
from threading_layers import LAYERS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork and forkserver")

CHILDREN = """
import multiprocessing, sys
from calls import digest

def child(queue, threads):
    queue.put([digest(threads), digest(1)])

if __name__ == "__main__":
    method, before = sys.argv[1:]
    if before == "used":
        digest(2)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=child, args=(queue, threads)) for threads in (1, 2)]
    for process in children:
        process.start()
    found = sum((queue.get(timeout=60) for _ in children), [])
    for process in children:
        process.join(60)
        assert process.exitcode == 0
    assert set(found) == {digest(1), digest(2)}, found
    assert len(set(found)) == 1
"""


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("before", ["unused", "used"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_work(method, before, layer, run):
    run(CHILDREN, method, before, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")


FORK_IN_A_CALL = """
import os, threading
from calls import digest, problem
from numbalstm.functional import lstm_forward

expected = digest(1)
x, parameters = problem("rows")
stop = threading.Event()

def call():
    while not stop.is_set():
        lstm_forward(x, parameters, threads=2)

threads = [threading.Thread(target=call) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(8):
    child = os.fork()
    if child == 0:
        os._exit(0 if digest(2) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("layer", LAYERS)
def test_fork_while_other_threads_are_in_a_call(layer, run):
    run(FORK_IN_A_CALL, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
