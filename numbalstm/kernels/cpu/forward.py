"""Forward pass of one LSTM layer: the time loop, and its serial and parallel entries.

Steps, for each timestep and each tile of units (x is packed a few timesteps at a time, so masks, ragged rows, strides
and directions end there):

    F1  z = bias + x K          for all rows and steps of a chunk
    F2  z = z + h R
    F3  c = f c + i g   h = o activation(c)
"""

from numba import njit, prange

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.barrier import begin_together, wait_for_all
from numbalstm.kernels.cpu.gates import gate, gated
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
from numbalstm.kernels.cpu.panel import start_sums
from numbalstm.kernels.memory import (
    item_size,
    lane_count,
    load,
    load_byte,
    load_integer,
    load_scalar,
    store,
    store_first,
    store_integer,
    store_scalar,
    zero,
)

GROUP = 96  # rows whose sums of one tile are worked on together: 24 KB


@njit(forceinline=True)
def cell(tile, job, z, c, h, y, units):
    """F3 for one row and tile: c in place, h to the next state and its first `units` lanes to the output."""
    width = lane_count(tile) * item_size(tile)
    kept = gate(tile, job, load(tile, z + width)) * load(tile, c)
    new_c = kept + gated(tile, job, load(tile, z), load(tile, z + 2 * width))
    new_h = gated(tile, job, load(tile, z + 3 * width), new_c)
    store(tile, c, new_c)
    store(tile, h, new_h)
    if units >= lane_count(tile):
        store(tile, y, new_h)
    else:
        store_first(tile, y, new_h, units)


@njit
def _copy(tile, target, source, count, step):
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


@njit
def _active(job, step, rows):
    """How many rows still have a timestep: the rows come longest first."""
    while rows > 0 and load_integer(job.lengths + 8 * (rows - 1)) <= step:
        rows -= 1
    return rows


@njit
def _next_time(job, row, step):
    """The timestep, in processing order, of a row's `step`-th unmasked step."""
    if job.mask == 0:
        return step
    time = load_integer(job.cursors + 8 * row)
    at = job.mask + load_integer(job.mask_rows + 8 * row)
    while load_byte(at + time * job.mask_step) == 0:
        time += 1
    store_integer(job.cursors + 8 * row, time + 1)
    return time


@njit
def _pack_inputs(tile, job, x, first, count, rows):
    """The real timesteps of a chunk, one behind the other, step by step; returns how many there are."""
    packed = 0
    for step in range(first, first + count):
        rows = _active(job, step, rows)
        for row in range(rows):
            time = _next_time(job, row, step)
            store_integer(job.times + 8 * packed, time)
            source = x + load_integer(job.x_rows + 8 * row) + time * job.x_step
            _copy(tile, job.packed_x + packed * job.features * item_size(tile), source, job.features, job.x_item)
            packed += 1
    return packed


@njit(error_model="numpy")
def _begin_sums(tile, job, n, z, first, rows):
    """F1 for one tile and the packed inputs from `first` on."""
    start_sums(tile, job.bias + n * 4 * lane_count(tile) * item_size(tile), z, rows)
    project(tile, job, n, z, first, rows)


@njit(error_model="numpy")
def _cells(tile, job, n, z, packed, first, rows, h_other, y):
    """F3 for one tile and the rows from `first` on; the inputs of the timestep begin at `packed`."""
    width = lane_count(tile) * item_size(tile)
    for row in range(first, first + rows):
        place = (row * job.tiles + n) * width
        time = load_integer(job.times + 8 * (packed + row))
        target = y + load_integer(job.y_rows + 8 * row) + time * job.y_step + n * width
        left = job.units - n * lane_count(tile)
        cell(tile, job, z + (row - first) * 4 * width, job.c + place, h_other + place, target, left)


@njit(error_model="numpy")
def _turn(job, step, done, together):
    """The tile whose turn it is: every other step goes backwards, as the weights used last are still in the cache."""
    count = job.last_tile - job.first_tile
    return job.first_tile + (done if step % 2 == 0 else count - done - together)


@njit(error_model="numpy")
def _whole_step(tile, job, step, rows, h, h_other, y):
    """F1 to F3 of one timestep, a tile and a group of rows at a time: its sums never leave the first-level cache."""
    for done in range(job.last_tile - job.first_tile):
        n = _turn(job, step, done, 1)
        for first in range(0, rows, GROUP):
            height = min(GROUP, rows - first)
            _begin_sums(tile, job, n, job.z, first, height)
            recur(tile, job, n, h, job.z, first, height)
            _cells(tile, job, n, job.z, 0, first, height, h_other, y)


@njit(error_model="numpy")
def _step_of_chunk(tile, job, step, packed, rows, h, h_other, y):
    """F2 and F3 of one timestep of a chunk that was projected; its inputs begin at `packed`."""
    row_bytes = 4 * lane_count(tile) * item_size(tile)
    tile_z = job.chunk * job.rows * row_bytes
    count = job.last_tile - job.first_tile
    done = 0
    while done < count:
        together = 2 if rows == 1 and pairs_tiles(tile) and done + 1 < count else 1
        n = _turn(job, step, done, together)
        at = job.z + packed * row_bytes + (n - job.first_tile) * tile_z
        if together == 2:
            recur_pair(tile, job, n, h, at, tile_z)
        else:
            recur(tile, job, n, h, at, 0, rows)
        for m in range(together):
            _cells(tile, job, n + m, at + m * tile_z, packed, 0, rows, h_other, y)
        done += together


@njit
def _fill_masked(tile, job, y):
    """Outputs of the masked steps: the latest output before them where one is to be repeated, else zeros."""
    item = item_size(tile)
    first = job.first_tile * lane_count(tile)
    count = min(job.units, job.last_tile * lane_count(tile)) - first
    for row in range(job.rows):
        mask = job.mask + load_integer(job.mask_rows + 8 * row)
        outputs = y + load_integer(job.y_rows + 8 * row) + first * item
        latest = -1
        for time in range(job.padded_steps):
            target = outputs + time * job.y_step
            if load_byte(mask + time * job.mask_step) != 0:
                latest = time
            elif latest >= 0 and job.repeat_last != 0:
                _copy(tile, target, outputs + latest * job.y_step, count, item)
            else:
                for n in range(count):
                    store_scalar(tile, target + n * item, zero(tile))


@njit(nogil=True, error_model="numpy")
def run_job(tile, job, x, y):
    """All timesteps of one job. Byte addresses x and y; everything else is in the job."""
    if job.workers > 1 and not begin_together(job.barrier, job.worker, job.workers):
        return
    mode = begin_products(tile, job)
    row_bytes = 4 * lane_count(tile) * item_size(tile)
    h, h_other = job.h, job.h_other
    rows, done = job.rows, 0
    while done < job.steps:
        count = min(job.chunk, job.steps - done)
        total = _pack_inputs(tile, job, x, done, count, rows)
        prepare_x(tile, job, total)
        if job.chunk > 1:
            for n in range(job.first_tile, job.last_tile):
                at = job.z + (n - job.first_tile) * job.chunk * job.rows * row_bytes
                _begin_sums(tile, job, n, at, 0, total)
        packed = 0
        for step in range(done, done + count):
            rows = _active(job, step, rows)
            prepare_h(tile, job, h, rows)
            if job.chunk > 1:
                _step_of_chunk(tile, job, step, packed, rows, h, h_other, y)
            else:
                _whole_step(tile, job, step, rows, h, h_other, y)
            h, h_other = h_other, h
            packed += rows
            if job.workers > 1:
                wait_for_all(job.barrier, job.worker, job.workers, step + 2)
        done += count
    end_products(tile, mode)
    if job.mask != 0 and job.y_step != 0:
        _fill_masked(tile, job, y)


@entry_point()
def run_serial(tile, jobs, x, y):
    """The jobs one after the other, on the calling thread, without the interpreter's lock."""
    for worker in range(jobs.shape[0]):
        run_job(tile, jobs[worker], x, y)


@entry_point(parallel=True)
def run_parallel(tile, jobs, x, y):
    """A job a thread."""
    for worker in prange(jobs.shape[0]):
        run_job(tile, jobs[worker], x, y)
