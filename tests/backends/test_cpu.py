"""The compiled backend against the reference, and the same bits whatever the batch, the threads and the split."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.requests import request, weights
from support.variants import FAMILIES

from numbalstm import activations
from numbalstm.backends import cpu, parallel, plan, reference
from numbalstm.backends.cells import PLAIN_CELL
from numbalstm.kernels.cpu.barrier import WITHDRAWN
from numbalstm.kernels.cpu.forward import forward_jobs
from numbalstm.kernels.formulas import FORMULAS

SHAPES = [
    (1, 7, 3, 5),
    (3, 9, 7, 33),
    (17, 13, 1, 100),
    (65, 3, 16, 32),
    (1, 40, 9, 129),
    (8, 2, 5, 17),
    (2, 1, 1, 1),
    (7, 3, 0, 4),
]
TESTS = Path(__file__).parents[1]
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}


def states(rng, batch, units, dtype):
    return tuple(rng.uniform(-1, 1, (batch, units)).astype(dtype) for _ in "hc")


def assert_close(result, expected, tolerance):
    for got, wanted in zip(result, expected, strict=True):
        if isinstance(wanted, list):
            assert_close(got, wanted, tolerance)
        else:
            assert got.dtype == wanted.dtype
            np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


def mask_of(rng, batch, steps, kept=0.6):
    """Holes anywhere, the first step included; the last row is masked as a whole."""
    mask = rng.random((batch, steps)) < kept
    mask[-1] = False
    return mask


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "mode", ["plain", "backwards", "last", "mask", "mask backwards zero", "mask last", "mask last zero"]
)
def test_agrees_with_the_reference(dtype, threads, shape, mode, rng):
    batch, steps, features, units = shape
    x = rng.standard_normal((batch, steps, features)).astype(dtype)
    call = request(
        x,
        weights(rng, features, units, dtype),
        initial_state=states(rng, batch, units, dtype) if "last" not in mode else None,
        mask=mask_of(rng, batch, steps) if "mask" in mode else None,
        return_sequences="last" not in mode,
        go_backwards="backwards" in mode,
        zero_output_for_mask="zero" in mode,
        threads=threads,
    )
    assert_close(cpu.forward(call), reference.forward(call), TOLERANCE[dtype])


@pytest.mark.parametrize("activation", [*map(activations.get, FORMULAS), *FAMILIES], ids=lambda one: one.name)
def test_every_activation_in_both_places(activation, rng):
    x = 0.3 * rng.standard_normal((3, 2, 5))  # few steps and small numbers: exponential gates must not overflow
    parameters = weights(rng, 5, 19, "float64")
    for change in ({"activation": activation}, {"recurrent_activation": activation}):
        call = request(x, parameters, **change)
        assert_close(cpu.forward(call), reference.forward(call), 1e-12)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_ragged_rows(backwards, sequences, threads, rng):
    lengths = (3, 0, 19, 1, 9, 9, 2, 30)
    call = request(
        [rng.standard_normal((n, 6)).astype("float32") for n in lengths],
        weights(rng, 6, 70, "float32"),
        initial_state=states(rng, len(lengths), 70, "float32"),
        go_backwards=backwards,
        return_sequences=sequences,
        threads=threads,
    )
    assert_close(cpu.forward(call), reference.forward(call), TOLERANCE["float32"])


def bits(result):
    return [np.ascontiguousarray(array).tobytes() for array in result]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_sample_has_the_same_bits_alone_and_in_any_company(threads, rng):
    parameters = weights(rng, 7, 45, "float32")
    x = rng.standard_normal((23, 11, 7)).astype("float32")
    whole = cpu.forward(request(x, parameters, threads=threads))
    for rows in (slice(0, 1), slice(4, 9), slice(9, 23), slice(None, None, -1)):
        part = cpu.forward(request(x[rows], parameters))
        assert bits(part) == bits([array[rows] for array in whole])


def test_a_sample_has_the_same_bits_cut_into_chunks_of_time(rng):
    parameters = weights(rng, 5, 37, "float32")
    x = rng.standard_normal((4, 29, 5)).astype("float32")
    whole = cpu.forward(request(x, parameters))
    state, pieces = None, []
    for start, stop in ((0, 1), (1, 12), (12, 29)):
        y, *state = cpu.forward(request(x[:, start:stop], parameters, initial_state=state))
        pieces.append(y)
    assert bits([np.concatenate(pieces, 1), *state]) == bits(whole)


def test_a_mask_has_the_bits_of_the_steps_it_leaves(rng):
    parameters = weights(rng, 5, 37, "float32")
    x = rng.standard_normal((1, 29, 5)).astype("float32")
    mask = rng.random((1, 29)) < 0.5
    masked = cpu.forward(request(x, parameters, mask=mask))
    short = cpu.forward(request(x[:, mask[0]], parameters))
    assert bits([masked.outputs[:, mask[0]], masked.h, masked.c]) == bits(short)


def plan_of(parameters, x, y, choice, monkeypatch):
    """A plan with a forced split into workers."""
    monkeypatch.setattr(plan, "split", lambda *_: choice)
    batch, steps, _ = x.shape
    tile = cpu.hardware.tile(x.dtype, False)
    rows = plan.Rows(np.full(batch, steps), np.arange(batch) * x.strides[0], np.arange(batch) * y.strides[0], None)
    layout = plan.Layout(x.strides[1], x.itemsize, y.strides[1], 0, 0, 0, False)
    cell = PLAIN_CELL.fields(tile, parameters)
    built = plan.build(tile, cpu.packed_weights(parameters, tile), rows, layout, cell, 2)
    built.h[0], built.c[...] = 0, 0
    return tile, built


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_ways_to_share_work_give_the_same_bits(batch, rng, monkeypatch):
    parameters = weights(rng, 9, 150, "float32")
    x = rng.standard_normal((batch, 20, 9)).astype("float32")
    serial = cpu.forward(request(x, parameters)).outputs
    for choice in ((1, False), (min(2, batch), False), (2, True)):
        y = np.full_like(serial, np.nan)
        tile, built = plan_of(parameters, x, y, choice, monkeypatch)
        cpu.run(tile, built, plan.address(x), plan.address(y))
        assert y.tobytes() == serial.tobytes(), choice


def test_workers_that_never_come_do_not_hang_the_others(rng, monkeypatch):
    parameters = weights(rng, 4, 64, "float32")
    x = rng.standard_normal((1, 5, 4)).astype("float32")
    expected = cpu.forward(request(x, parameters)).outputs
    y = np.full_like(expected, np.nan)
    tile, built = plan_of(parameters, x, y, (3, True), monkeypatch)
    built.flags[:] = 0
    # one after the other: no two are ever together
    forward_jobs(tile, plan.address(built.jobs), plan.address(x), plan.address(y), 0, len(built.jobs))
    assert built.flags[0, 0] == WITHDRAWN
    assert np.isnan(y).all()
    cpu.run(tile, built, plan.address(x), plan.address(y))  # more workers than this machine may have threads
    assert y.tobytes() == expected.tobytes()


def test_after_a_failed_attempt_the_next_calls_go_alone(rng, monkeypatch):
    monkeypatch.setattr(parallel, "sharing", parallel.Sharing())
    monkeypatch.setattr(parallel.Sharing, "PAUSE", 1000)
    parameters = weights(rng, 4, 64)
    x = rng.standard_normal((1, 5, 4)).astype("float32")
    expected = cpu.forward(request(x, parameters)).outputs
    tile, built = plan_of(parameters, x, expected, (2, True), monkeypatch)
    assert parallel.sharing.worth_a_try()
    parallel.sharing.rest()
    assert not parallel.sharing.worth_a_try()
    built.flags[...] = -1
    y = np.full_like(expected, np.nan)
    cpu.run(tile, built, plan.address(x), plan.address(y))
    assert y.tobytes() == expected.tobytes()
    assert (built.flags == -1).all()  # nobody met at the barrier
    monkeypatch.setattr(parallel.Sharing, "PAUSE", 0)
    parallel.sharing.rest()
    assert parallel.sharing.worth_a_try()


def test_more_workers_than_threads_withdraw(rng, monkeypatch):
    parameters = weights(rng, 4, 256, "float32")
    x = rng.standard_normal((1, 5, 4)).astype("float32")
    y = np.full((1, 5, 256), np.nan, "float32")
    tile, built = plan_of(parameters, x, y, (16, True), monkeypatch)
    built.flags[:] = 0
    assert parallel.run_alone(forward_jobs, tile, plan.address(built.jobs), plan.address(x), plan.address(y), 16)
    done = cpu.forward(request(x, parameters)).outputs
    if built.flags[0, 0] == WITHDRAWN:
        assert np.isnan(y).all()
    else:
        assert y.tobytes() == done.tobytes()


def test_many_python_threads_on_one_layer(rng):
    parameters = weights(rng, 16, 128, "float32")
    inputs = [rng.standard_normal((batch, 30, 16)).astype("float32") for batch in (1, 40, 1, 64, 3, 17)]
    expected = [cpu.forward(request(x, parameters)).outputs.tobytes() for x in inputs]
    wrong = []

    def work(number):
        for _ in range(20):
            got = cpu.forward(request(inputs[number], parameters, threads=2)).outputs.tobytes()
            if got != expected[number]:
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_strided_output_receives_the_result(rng):
    parameters = weights(rng, 3, 21, "float32")
    x = rng.standard_normal((4, 6, 3)).astype("float32")
    expected = cpu.forward(request(x, parameters)).outputs
    time_major = np.empty((6, 4, 21), "float32").swapaxes(0, 1)
    scattered = np.empty((4, 6, 42), "float32")[:, :, ::2]
    for out in (time_major, scattered):
        assert cpu.forward(request(x, parameters, out=out)).outputs is out
        assert np.array_equal(out, expected)


def test_no_memory_behind_the_last_unit_is_touched(rng):
    parameters = weights(rng, 3, 21, "float32")
    x = rng.standard_normal((4, 6, 3)).astype("float32")
    wide = np.full((4, 6, 40), -7, "float32")
    cpu.forward(request(x, parameters, out=wide[:, :, :21]))
    assert (wide[:, :, 21:] == -7).all()


def test_nan_stays_in_its_row(rng):
    parameters = weights(rng, 3, 21, "float32")
    x = rng.standard_normal((8, 6, 3)).astype("float32")
    clean = cpu.forward(request(x, parameters)).outputs
    x[3, 2, 1] = np.nan
    y = cpu.forward(request(x, parameters)).outputs
    assert np.isnan(y[3, 2:]).all()
    others = np.arange(8) != 3
    assert y[others].tobytes() == clean[others].tobytes()


def test_subnormal_numbers_are_zero_inside_and_stay_numbers_outside(rng):
    parameters = weights(rng, 3, 21)
    tiny = np.full((2, 4, 3), 1e-40, "float32")
    nothing = cpu.forward(request(np.zeros_like(tiny), parameters))
    for threads in (1, 2):
        assert bits(cpu.forward(request(tiny, parameters, threads=threads))) == bits(nothing)
    assert np.float32(1e-40) / np.float32(2) > 0  # the thread's own arithmetic is as before


FORCED = """
import sys
import numpy as np
from numbalstm import activations
from numbalstm.backends import cpu, hardware, reference
from support.requests import request, weights
rng = np.random.default_rng(5)
for dtype, tolerance in (("float32", 3e-6), ("float64", 1e-13)):
    call = request(rng.standard_normal((7, 9, 5)).astype(dtype), weights(rng, 5, 43, dtype))
    got, wanted = cpu.forward(call), reference.forward(call)
    assert np.abs(got.outputs - wanted.outputs).max() < tolerance
    print(hardware.tile(np.dtype(dtype), False).lanes * np.dtype(dtype).itemsize)
"""


@pytest.mark.parametrize(("width", "processor"), [(16, "nehalem"), (32, "haswell"), (32, None), (64, None)])
def test_every_vector_width(width, processor, tmp_path):
    if width > cpu.hardware.vector_bytes():
        pytest.skip("this processor has no vectors that wide")
    environment = dict(os.environ, NUMBALSTM_SIMD=str(width), NUMBA_CACHE_DIR=str(tmp_path), PYTHONPATH=str(TESTS))
    if processor is not None:
        environment |= {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([sys.executable, "-c", FORCED], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [str(width)] * 2, done.stderr


def test_a_width_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setenv("NUMBALSTM_SIMD", "48")
    with pytest.raises(ValueError, match="NUMBALSTM_SIMD must be 16, 32 or 64"):
        cpu.hardware.vector_bytes()
