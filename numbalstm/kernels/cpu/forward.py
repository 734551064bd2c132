"""Forward pass of one LSTM layer: the time loop, and its entry point.

Steps, for each timestep and each tile of units (x is packed a few timesteps at a time, so masks, ragged rows, strides
and directions end there):

    F1  z = bias + x K          for all rows and steps of a chunk
    F2  z = z + h R
    F3  c = f c + i g   h = o activation(c)
    F4  h = h W                 with a projection
"""

from typing import NamedTuple

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.barrier import begin_together, wait_for_all
from numbalstm.kernels.cpu.blocks import wide_panel
from numbalstm.kernels.cpu.gated import begin_by_gate, h_by_gate, keep_factors, recur_by_gate, tiles_together
from numbalstm.kernels.cpu.gates import Spot, kept_share, limited, projects, update
from numbalstm.kernels.cpu.job import JOB
from numbalstm.kernels.cpu.left import (
    begin_products,
    end_products,
    pairs_tiles,
    prepare_h,
    prepare_x,
    project,
    recur,
    recur_pair,
)
from numbalstm.kernels.cpu.panel import panel_from, start_sums
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import (
    item_size,
    lane_count,
    load,
    load_byte,
    load_integer,
    load_scalar,
    record_at,
    splat,
    store,
    store_integer,
    store_scalar,
    store_some,
    zero,
)

JOB_BYTES = JOB.itemsize
_job_at = record_at(JOB)
GROUP = 96  # rows whose sums of one tile are worked on together: 24 KB


@linked(forceinline=True)
def cell(tile, job, spot, z, c, c_other, h, h_other, y):
    """F3 for one row and tile: c and h to the next states, those lanes of h that are units to the output."""
    new_c, new_h = update(tile, job, spot, z, load(tile, c), load(tile, h))
    store(tile, c_other, new_c)
    store(tile, h_other, new_h)
    store_some(tile, y, new_h, spot.left)


@linked
def copy(tile, target, source, count, step):
    """`count` elements, `step` bytes apart, to contiguous memory."""
    item = item_size(tile)
    n = 0
    if step == item:
        while count - n >= lane_count(tile):
            store(tile, target + n * item, load(tile, source + n * item))
            n += lane_count(tile)
    while n < count:
        store_scalar(tile, target + n * item, load_scalar(tile, source + n * step))
        n += 1


@linked
def active(job, step, rows):
    """How many rows still have a timestep: the rows come longest first."""
    while rows > 0 and load_integer(job.lengths + 8 * (rows - 1)) <= step:
        rows -= 1
    return rows


def next_time(tile, job, row, step, times):
    """The timestep, in processing order, of a row's `step`-th unmasked step; `times` is its place in the table."""


@linked
def _unmasked_time(job, row, step):
    if job.mask == 0:
        return step
    time = load_integer(job.cursors + 8 * row)
    at = job.mask + load_integer(job.mask_rows + 8 * row)
    while load_byte(at + time * job.mask_step) == 0:
        time += 1
    store_integer(job.cursors + 8 * row, time + 1)
    return time


@overload(next_time)
def _next_time(tile, job, row, step, times):
    if tile.tape:
        return lambda tile, job, row, step, times: load_integer(times)

    def found(tile, job, row, step, times):
        time = _unmasked_time(job, row, step)
        store_integer(times, time)
        return time

    return found


@linked
def pack_inputs(tile, job, x, times, first, count, rows):
    """The real timesteps of a chunk, one behind the other, step by step; returns how many there are."""
    packed = 0
    for step in range(first, first + count):
        rows = active(job, step, rows)
        for row in range(rows):
            time = next_time(tile, job, row, step, times + 8 * packed)
            source = x + load_integer(job.x_rows + 8 * row) + time * job.x_step
            copy(tile, job.packed_x + packed * job.features * item_size(tile), source, job.features, job.x_item)
            keep_factors(tile, job, packed, row)
            packed += 1
    return packed


def begin_sums(tile, job, n, z, first, rows):
    """F1 for one tile and the packed inputs from `first` on."""


@overload(begin_sums)
def _begin_sums(tile, job, n, z, first, rows):
    if tile.weights == "native":

        def at_once(tile, job, n, z, first, rows):
            width = lane_count(tile) * item_size(tile)
            x_row = job.features * item_size(tile)
            kernel, bias = job.kernel + n * 4 * width * job.features, job.bias + n * 4 * width
            x = job.packed_x + first * x_row
            panel_from(tile, rows, x, x_row, kernel, job.features, z, 4 * width, 0, 0, bias, 0)

        return at_once

    def one_by_one(tile, job, n, z, first, rows):
        start_sums(tile, job.bias + n * 4 * lane_count(tile) * item_size(tile), z, rows)
        project(tile, job, n, z, first, rows)

    return one_by_one


def begin_chunk(tile, job, z, rows):
    """F1 for the packed inputs of a chunk, where it is not left to the steps; their sums begin at z."""


@overload(begin_chunk)
def _begin_chunk(tile, job, z, rows):
    def tile_by_tile(tile, job, z, rows):
        if job.chunk > 1:
            for n in range(job.first_tile, job.last_tile):
                begin_sums(tile, job, n, z + (n - job.first_tile) * job.z_tile, 0, rows)

    def group_by_group(tile, job, z, rows):
        n = job.first_tile
        while n < job.last_tile and job.chunk > 1:
            count = tiles_together(job, n)
            begin_by_gate(tile, job, n, count, z + (n - job.first_tile) * job.z_tile, 0, rows)
            n += count

    return group_by_group if tile.dropout else tile_by_tile


class States(NamedTuple):
    """Addresses of the states before and after a step."""

    h: int
    h_other: int
    c: int
    c_other: int


def following(tile, job, at, rows):
    """The states of the next step, after one with so many rows."""


@overload(following)
def _following(tile, job, at, rows):
    if tile.tape:
        return lambda tile, job, at, rows: States(
            at.h_other, at.h_other + rows * job.h_row, at.c_other, at.c_other + rows * job.state_row
        )
    return lambda tile, job, at, rows: States(at.h_other, at.h, at.c, at.c)


@linked
def _cells(tile, job, n, z, times, first, rows, at, y):
    """F3 for one tile and the rows from `first` on."""
    width = lane_count(tile) * item_size(tile)
    for row in range(first, first + rows):
        c, h, time = row * job.state_row + n * width, row * job.h_row + n * width, load_integer(times + 8 * row)
        target = y + load_integer(job.y_rows + 8 * row) + time * job.y_step + n * width
        before, h_other = at.h + h, at.h_other + h
        if projects(tile, job):
            target = before = h_other = job.m + c
        spot = Spot(row, time, n * width, job.units - n * lane_count(tile))
        cell(tile, job, spot, z + (row - first) * 4 * width, at.c + c, at.c_other + c, before, h_other, target)


@linked
def project_outputs(tile, job, times, rows, at, y):
    """F4: the projection of a step's outputs to the next states and to y."""
    width = lane_count(tile) * item_size(tile)
    for vector in range(0, rows * job.r_row, width):
        store(tile, job.r + vector, splat(tile, 0.0))
    wide_panel(tile, rows, job.m, job.state_row, job.projection, job.units, job.r, job.r_row, job.h_row // width)
    for row in range(rows):
        time = load_integer(times + 8 * row)
        target = y + load_integer(job.y_rows + 8 * row) + time * job.y_step
        for n in range(0, job.h_row, width):
            spot = Spot(row, time, n, job.outputs - n // item_size(tile))
            place = row * job.h_row + n
            value = limited(load(tile, job.r + row * job.r_row + n), job.projection_clip)
            if job.h_zones != 0:
                kept = kept_share(tile, job.h_zones, job.h_zone_step, spot)
                value = kept * load(tile, at.h + place) + (1.0 - kept) * value
            store(tile, at.h_other + place, value)
            store_some(tile, target + n, value, spot.left)


@linked
def turn(job, step, done, together):
    """The tile whose turn it is: every other step goes backwards, as the weights used last are still in the cache."""
    count = job.last_tile - job.first_tile
    return job.first_tile + (done if step % 2 == 0 else count - done - together)


@linked
def _whole_step(tile, job, step, z, times, rows, states, y):
    """F1 to F3 of one timestep, a tile and a group of rows at a time: its sums never leave the first-level cache."""
    row_bytes = 4 * lane_count(tile) * item_size(tile)
    for done in range(job.last_tile - job.first_tile):
        n = turn(job, step, done, 1)
        for first in range(0, rows, GROUP):
            height = min(GROUP, rows - first)
            at = z if job.z_tile == 0 else z + (n - job.first_tile) * job.z_tile + first * row_bytes
            begin_sums(tile, job, n, at, first, height)
            recur(tile, job, n, states.h, at, first, height)
            _cells(tile, job, n, at, times, first, height, states, y)


@linked
def _step_of_chunk(tile, job, step, z, times, rows, states, y):
    """F2 and F3 of one timestep of a chunk that was projected; its sums begin at z."""
    count = job.last_tile - job.first_tile
    done = 0
    while done < count:
        together = 2 if rows == 1 and pairs_tiles(tile) and done + 1 < count else 1
        n = turn(job, step, done, together)
        at = z + (n - job.first_tile) * job.z_tile
        if together == 2:
            recur_pair(tile, job, n, states.h, at, job.z_tile)
        else:
            recur(tile, job, n, states.h, at, 0, rows)
        for m in range(together):
            _cells(tile, job, n + m, at + m * job.z_tile, times, 0, rows, states, y)
        done += together


@linked
def _step_by_gate(tile, job, step, z, times, rows, states, y):
    """`one_step` with dropout by gate."""
    for first in range(0, rows, GROUP // 4):
        height, n = min(GROUP // 4, rows - first), job.first_tile
        h, plane = h_by_gate(tile, job, states.h, first, height)
        while n < job.last_tile:
            count = tiles_together(job, n)
            at = z + (n - job.first_tile) * job.z_tile + first * 4 * lane_count(tile) * item_size(tile)
            if job.chunk == 1:
                begin_by_gate(tile, job, n, count, at, first, height)
            recur_by_gate(tile, job, n, count, h, plane, at, height)
            for m in range(count):
                _cells(tile, job, n + m, at + m * job.z_tile, times, first, height, states, y)
            n += count


def one_step(tile, job, step, z, times, rows, states, y):
    """F2 and F3 of one timestep, and F1 where the chunk is left to its steps."""


@overload(one_step)
def _one_step(tile, job, step, z, times, rows, states, y):
    def shared(tile, job, step, z, times, rows, states, y):
        if job.chunk > 1:
            _step_of_chunk(tile, job, step, z, times, rows, states, y)
        else:
            _whole_step(tile, job, step, z, times, rows, states, y)

    return _step_by_gate.py_func if tile.dropout else shared


@linked
def fill_masked(tile, job, y):
    """Outputs of the masked steps: the latest output before them where one is to be repeated, else zeros."""
    item = item_size(tile)
    first = job.first_tile * lane_count(tile)
    share = job.last_tile * lane_count(tile) if job.last_tile < job.tiles else job.outputs
    count = share - first
    for row in range(job.rows):
        mask = job.mask + load_integer(job.mask_rows + 8 * row)
        outputs = y + load_integer(job.y_rows + 8 * row) + first * item
        latest = -1
        for time in range(job.padded_steps):
            target = outputs + time * job.y_step
            if load_byte(mask + time * job.mask_step) != 0:
                latest = time
            elif latest >= 0 and job.repeat_last != 0:
                copy(tile, target, outputs + latest * job.y_step, count, item)
            else:
                for n in range(count):
                    store_scalar(tile, target + n * item, zero(tile))


@linked
def run_job(tile, job, x, y):
    """All timesteps of one job. Byte addresses x and y; everything else is in the job."""
    if job.workers > 1 and not begin_together(job.barrier, job.worker, job.workers):
        return
    mode = begin_products(tile, job)
    row_bytes = 4 * lane_count(tile) * item_size(tile)
    at = States(job.h, job.h_other, job.c, job.c_other)
    rows, done, packed = job.rows, 0, 0
    while done < job.steps:
        count = min(job.chunk, job.steps - done)
        packed *= job.keeps  # a tape goes on, other chunks take the place of the one before
        z, times = job.z + packed * row_bytes, job.times + 8 * packed
        total = pack_inputs(tile, job, x, times, done, count, rows)
        prepare_x(tile, job, total)
        begin_chunk(tile, job, z, total)
        packed += total
        for step in range(done, done + count):
            rows = active(job, step, rows)
            prepare_h(tile, job, at.h, rows)
            one_step(tile, job, step, z, times, rows, at, y)
            if projects(tile, job):
                project_outputs(tile, job, times, rows, at, y)
            at = following(tile, job, at, rows)
            z += rows * row_bytes
            times += 8 * rows
            if job.workers > 1:
                wait_for_all(job.barrier, job.worker, job.workers, step + 2)
        done += count
    end_products(tile, mode)
    if job.mask != 0 and job.y_step != 0:
        fill_masked(tile, job, y)


@entry_point()
def forward_jobs(tile, jobs, x, y, first, last):
    """Jobs in turn: see `kernels.launch`."""
    for number in range(first, last):
        run_job(tile, _job_at(jobs + number * JOB_BYTES), x, y)
