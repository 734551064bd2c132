"""One timestep of LSTM layers whose states stay in place between calls.

As `forward` for a single step, without its packing: x is read where it lies, and the tiles of a single row are
multiplied two at a time for both products. The sums run in the same order, so the bits are those of a whole sequence.
"""

import numpy as np

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.forward import States, cell, project_outputs
from numbalstm.kernels.cpu.gates import Spot, projects
from numbalstm.kernels.cpu.job import CELL, FIELDS
from numbalstm.kernels.cpu.left import (
    begin_products,
    end_products,
    pairs_tiles,
    prepare_h,
    prepare_x,
    project,
    project_pair,
    recur,
    recur_pair,
)
from numbalstm.kernels.cpu.panel import start_sums
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import item_size, lane_count, record_at

# As a job of `forward`, but: packed_x (rows, features) is x; y is the address of the outputs (rows, outputs); z is
# (2 * rows, 4 * lanes); times are zeros; h and h_other are exchanged after each step; backwards says whether the next
# step goes through the tiles from the last to the first.
STEP = np.dtype([(name, np.int64) for name in ("y", "backwards", *FIELDS)] + CELL)
STEP_BYTES = STEP.itemsize
_job_at = record_at(STEP)


@linked
def _multiply(tile, job, n, together):
    """The sums of one tile for all rows, or of two tiles for one row."""
    row_bytes = 4 * lane_count(tile) * item_size(tile)
    for m in range(together):
        start_sums(tile, job.bias + (n + m) * row_bytes, job.z + m * row_bytes, job.rows)
    if together == 2:
        project_pair(tile, job, n, job.z, row_bytes)
        recur_pair(tile, job, n, job.h, job.z, row_bytes)
    else:
        project(tile, job, n, job.z, 0, job.rows)
        recur(tile, job, n, job.h, job.z, 0, job.rows)


def finish(tile, job):
    """F4 where the outputs are projected."""


@overload(finish)
def _finish(tile, job):
    def projected(tile, job):
        if projects(tile, job):
            states = States(job.h, job.h_other, job.c, job.c)
            project_outputs(tile, job, job.times, job.rows, states, job.y)

    return projected if tile.any_activation else lambda tile, job: None


@linked
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
                place = row * job.state_row + n * width
                c, h, h_other = job.c + place, job.h + place, job.h_other + place
                y = job.y + row * job.units * item_size(tile) + n * width
                if projects(tile, job):
                    h = h_other = y = job.m + place
                cell(tile, job, Spot(row, 0, n * width, job.units - n * lane_count(tile)), z, c, c, h, h_other, y)
        done += together
    finish(tile, job)
    end_products(tile, mode)
    job.h, job.h_other = job.h_other, job.h
    job.backwards = 1 - job.backwards


@entry_point()
def step_jobs(tile, jobs, x, y, first, last):
    """One step of jobs in turn, the layers of a stack or parts of one layer: see `kernels.launch`; x and y are free."""
    for number in range(first, last):
        _advance(tile, _job_at(jobs + number * STEP_BYTES))
