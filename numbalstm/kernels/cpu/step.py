"""One timestep of LSTM layers whose states stay in place between calls.

As `forward` for a single step, without its packing: x is read where it lies, and the tiles of a single row are
multiplied two at a time for both products. The sums run in the same order, so the bits are those of a whole sequence.
"""

import numpy as np
from numba import njit, prange
from numba.extending import overload

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.forward import cell
from numbalstm.kernels.cpu.job import FIELDS
from numbalstm.kernels.cpu.left import (
    begin_products,
    end_products,
    offsets_of_tile,
    pairs_tiles,
    prepare_h,
    prepare_x,
    project,
    recur,
    recur_pair,
)
from numbalstm.kernels.cpu.panel import single_row, start_sums, steps_of, weight_row_size
from numbalstm.kernels.memory import item_size, lane_count

# As a job of `forward`, but: packed_x (rows, features) is x; y is the address of the outputs (rows, units); z is
# (2 * rows, 4 * lanes); h and h_other are exchanged after each step; backwards says whether the next step goes through
# the tiles from the last to the first.
STEP = np.dtype([(name, np.int64) for name in ("y", "backwards", *FIELDS)])


def _project_pair(tile, job, n, z, tile_z):
    """The input's product of one row for two tiles."""


@overload(_project_pair)
def _project_pair_of(tile, job, n, z, tile_z):
    if tile.weights in ("int8 dot", "bfloat16 amx"):

        def one_by_one(tile, job, n, z, tile_z):
            project(tile, job, n, z, 0, 1)
            project(tile, job, n + 1, z + tile_z, 0, 1)

        return one_by_one

    def together(tile, job, n, z, tile_z):
        weights, columns = offsets_of_tile(tile, job, n, job.features)
        steps = steps_of(tile, job.features)
        at, scale = job.kernel + weights, job.kernel_columns + columns
        single_row(tile, job.packed_x, at, steps * weight_row_size(tile), steps, z, tile_z, scale, 0)

    return together


@njit(error_model="numpy")
def _multiply(tile, job, n, together):
    """The sums of one tile for all rows, or of two tiles for one row."""
    row_bytes = 4 * lane_count(tile) * item_size(tile)
    for m in range(together):
        start_sums(tile, job.bias + (n + m) * row_bytes, job.z + m * row_bytes, job.rows)
    if together == 2:
        _project_pair(tile, job, n, job.z, row_bytes)
        recur_pair(tile, job, n, job.h, job.z, row_bytes)
    else:
        project(tile, job, n, job.z, 0, job.rows)
        recur(tile, job, n, job.h, job.z, 0, job.rows)


@njit(error_model="numpy")
def _advance(tile, job):
    """One step of one job."""
    width = lane_count(tile) * item_size(tile)
    mode = begin_products(tile, job)
    prepare_x(tile, job, job.rows)
    prepare_h(tile, job, job.h, job.rows)
    count = job.last_tile - job.first_tile
    done = 0
    while done < count:
        together = 2 if job.rows == 1 and pairs_tiles(tile) and done + 1 < count else 1
        # every other step goes backwards: the weights that were used last are still in the second-level cache
        first = job.first_tile + (count - done - together if job.backwards != 0 else done)
        _multiply(tile, job, first, together)
        for n in range(first, first + together):
            for row in range(job.rows):
                z = job.z + (row + n - first) * 4 * width
                place = (row * job.tiles + n) * width
                y = job.y + row * job.units * item_size(tile) + n * width
                cell(tile, job, z, job.c + place, job.h_other + place, y, job.units - n * lane_count(tile))
        done += together
    end_products(tile, mode)
    job.h, job.h_other = job.h_other, job.h
    job.backwards = 1 - job.backwards


@entry_point()
def step_serial(tile, jobs):
    """One step of the jobs in turn: the layers of a stack, or parts of one layer."""
    for number in range(jobs.shape[0]):
        _advance(tile, jobs[number])


@entry_point(parallel=True)
def step_parallel(tile, jobs):
    """One step of the parts of one layer, in any order."""
    for number in prange(jobs.shape[0]):
        _advance(tile, jobs[number])
