"""Threads of Python beside each other, limits that change, interrupts, and barriers whose workers do not all come."""

import os
import sys

import pytest
from threading_layers import LAYERS

from numbalstm import settings
from numbalstm.backends import parallel

LINUX = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity of Linux")

MANY = """
import sys, threading
from calls import CASES, digest
count = int(sys.argv[1])
plans = [((case,), seed, threads) for case in CASES for seed in (0, 1) for threads in (1, 2)]
expected = {seed: {case: digest(1, (case,), seed) for case in CASES} for seed in (0, 1)}
wrong = []

def work(number):
    for turn in range(6):
        cases, seed, threads = plans[(number + turn) % len(plans)]
        if digest(threads, cases, seed) != expected[seed][cases[0]]:
            wrong.append((cases, seed, threads))

workers = [threading.Thread(target=work, args=(number,)) for number in range(count)]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert not wrong, wrong
"""

ONE_LAYER = """
import threading
import numpy as np
import numbalstm
layer = numbalstm.LSTM(40, return_sequences=True)
xs = [np.random.default_rng(n).standard_normal((n % 5 + 1, 9, 8), np.float32) for n in range(16)]
layer.build(xs[0].shape)
expected = [layer(x).tobytes() for x in xs]
wrong = []

def work(n):
    for _ in range(20):
        if layer(xs[n]).tobytes() != expected[n]:
            wrong.append(n)

workers = [threading.Thread(target=work, args=(n,)) for n in range(16)]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert not wrong, wrong
"""

SAME_BITS = """
import os, sys
core, threads, inner = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if core >= 0:
    os.sched_setaffinity(0, {core})
from calls import digest
import numba
if inner:
    numba.set_num_threads(inner)
for _ in range(3):
    print(digest(threads))
"""

INTERRUPTED = """
import os, signal, threading
from calls import digest, problem
from numbalstm.backends import parallel
from numbalstm.functional import lstm_forward
expected = digest(1)
x, parameters = problem("rows")
digest(2)
for _ in range(5):
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        while True:
            lstm_forward(x, parameters, threads=2)
    except KeyboardInterrupt:
        pass
    timer.join()
    assert digest(2) == digest(1) == expected
print("done")
"""


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("count", [2, 16])
def test_python_threads_on_different_layers(layer, count, run):
    run(MANY, count, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")


@pytest.mark.parametrize("layer", LAYERS)
def test_python_threads_on_one_layer(layer, run):
    run(ONE_LAYER, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")


@pytest.fixture(scope="module")
def bits():
    from calls import digest

    return digest(1)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("started", "threads", "allowed"), [(1, 8, 0), (2, 2, 1), (8, 8, 1), (8, 8, 3)], ids=lambda value: str(value)
)
def test_fewer_threads_than_asked_for(layer, started, threads, allowed, bits, run):
    assert set(run(SAME_BITS, -1, threads, allowed, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=str(started))) == {
        bits
    }


@LINUX
@pytest.mark.parametrize("layer", LAYERS)
def test_eight_threads_on_one_core(layer, bits, run):
    core = min(os.sched_getaffinity(0))
    assert set(run(SAME_BITS, core, 8, 0, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="8")) == {bits}


@LINUX
def test_eight_processes_on_one_core(bits, start):
    core = min(os.sched_getaffinity(0))
    processes = [start(SAME_BITS, core, 2, 0, NUMBA_NUM_THREADS="2") for _ in range(8)]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert set(output.split()) == {bits}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("layer", LAYERS)
def test_an_interrupt_leaves_everything_usable(layer, run):
    assert run(INTERRUPTED, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2") == ["done"]


def test_small_work_starts_no_threads(run):
    script = "import numba\nfrom calls import digest\ndigest(1)\ndigest(2, ('small',))\nprint(numba.threading_layer())"
    with pytest.raises(AssertionError, match="Threading layer is not initialized"):
        run(script, NUMBA_NUM_THREADS="2")


@LINUX
def test_the_affinity_of_the_moment_counts():
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert settings.available_cores() == settings.get_threads() == parallel.threads(None) == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert settings.available_cores() <= len(cores)


def test_a_calls_own_limit_goes_before_the_setting():
    settings.set_threads(1)
    try:
        assert parallel.threads(None) == 1
        assert parallel.threads(2) in (1, 2)  # 1 where Numba has no more
    finally:
        settings.set_threads(None)


GROUPS = {
    "none": ({}, "0::/\n", None),
    "no limit": ({"cpu.max": "max 100000"}, "0::/\n", None),
    "version 2": ({"cpu.max": "250000 100000"}, "0::/\n", 2),
    "less than one core": ({"cpu.max": "50000 100000"}, "0::/\n", 1),
    "of a group above": (
        {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "other/cpu.max": "100000 100000"},
        "0::/a/b\n",
        3,
    ),
    "version 1": (
        {"cpu/x/cpu.cfs_quota_us": "400000\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
        "4:cpu,cpuacct:/x\n",
        4,
    ),
    "version 1 without limit": ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "1:cpu:/\n", None),
    "nonsense": ({"cpu.max": "many"}, "nonsense", None),
}


@pytest.mark.parametrize("case", GROUPS)
def test_limits_of_a_container(case, tmp_path):
    files, membership, expected = GROUPS[case]
    mount = tmp_path / "cgroup"
    for name, text in files.items():
        (mount / name).parent.mkdir(parents=True, exist_ok=True)
        (mount / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    assert settings.cores_of_groups(mount, tmp_path / "membership") == expected


def test_no_control_groups_at_all(tmp_path):
    assert settings.cores_of_groups(tmp_path / "cgroup", tmp_path / "membership") is None
