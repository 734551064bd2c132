"""Functions linked into entry points, and entry points called on threads by their address."""

import numpy as np
import pytest

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.launch import code_of, launch
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import load_scalar, record_at, store_scalar
from numbalstm.kernels.simd import Tile

JOB = np.dtype([("factor", np.int64), ("count", np.int64)])
job_at = record_at(JOB)


@linked
def checked(x):
    if x < 0:
        raise ValueError("negative")
    return x // 0 if x == 7 else 2 * x


def chosen(x):
    """Overloaded below."""


@overload(chosen)
def _chosen(x):
    return lambda x: checked(x) + 1


@entry_point()
def doubled(x):
    return chosen(x)


@entry_point()
def scale_jobs(tile, jobs, x, y, first, last):
    for number in range(first, last):
        job = job_at(jobs + 16 * number)
        job.count += 1
        for n in range(3):
            at = 4 * (3 * number + n)
            store_scalar(tile, y + at, load_scalar(tile, x + at) * np.float32(job.factor))


def test_they_work_inside_entry_points():
    assert doubled(21) == 43
    assert doubled(7) == 1  # divided as in NumPy, without an exception


def test_their_exceptions_arrive():
    with pytest.raises(ValueError, match="negative"):
        doubled(-1)


def test_python_cannot_call_them():
    for arguments in ((3,), (3,)):  # when it is compiled, and afterwards
        with pytest.raises((TypeError, KeyError)):
            checked(*arguments)


@pytest.mark.parametrize("threads", [False, True])
def test_every_job_runs_once(threads):
    tile = Tile("float32", 4, 1)
    jobs = np.array([(factor, 0) for factor in range(5)], JOB)
    x = np.arange(15, dtype=np.float32)
    y = np.full_like(x, np.nan)
    where = jobs.ctypes.data, x.ctypes.data, y.ctypes.data
    if threads:
        launch(code_of(scale_jobs, tile).address, *where, 5)
    else:
        code_of(scale_jobs, tile).call(tile, *where, 0, 5)
    assert jobs["count"].tolist() == [1] * 5
    assert np.array_equal(y, x * np.repeat(np.arange(5), 3))


def test_a_part_of_the_jobs(rng):
    tile = Tile("float32", 4, 1)
    jobs = np.array([(1, 0)] * 5, JOB)
    x = rng.standard_normal(15).astype("float32")
    y = np.zeros_like(x)
    code_of(scale_jobs, tile).call(tile, jobs.ctypes.data, x.ctypes.data, y.ctypes.data, 1, 3)
    assert jobs["count"].tolist() == [0, 1, 1, 0, 0]
    assert np.array_equal(np.flatnonzero(y), np.arange(3, 9))
    assert code_of(scale_jobs, tile) is code_of(scale_jobs, tile)
