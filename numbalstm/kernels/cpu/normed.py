"""Forward pass of a layer-normalised LSTM (Ba, Kiros and Hinton 2016): the time loop, and its entry point.

As `forward`, with LN(a) = gamma n + beta, n the deviations of a row from its mean times its scale:

    N1  x K, and its deviations and scale       for all rows and steps of a chunk
    N2  h R, and its deviations and scale
    N3  z = LN(x K) + LN(h R) + b   c = f c + i g   and the mean and scale of c
    N4  h = o activation(LN(c))
    F4  h = h W                                 with a projection

A row needs all its units three times a step, so threads share the rows of a batch only.
"""

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.forward import (
    GROUP,
    States,
    active,
    begin_sums,
    fill_masked,
    following,
    pack_inputs,
    project_outputs,
    turn,
)
from numbalstm.kernels.cpu.gated import begin_by_gate, h_by_gate, recur_by_gate, tiles_together
from numbalstm.kernels.cpu.gates import Spot, output, projects, zoned
from numbalstm.kernels.cpu.job import JOB
from numbalstm.kernels.cpu.left import (
    begin_products,
    end_products,
    pairs_tiles,
    prepare_h,
    prepare_x,
    recur,
    recur_pair,
)
from numbalstm.kernels.cpu.norm_job import TOGETHER, norm_at
from numbalstm.kernels.cpu.norms import (
    deviate,
    normalised_state,
    scale_states,
    scratch_row,
    seen_state,
    sums_and_states,
)
from numbalstm.kernels.cpu.panel import start_sums
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import (
    item_size,
    lane_count,
    load,
    load_integer,
    record_at,
    store,
    store_first,
    store_some,
)

JOB_BYTES = JOB.itemsize
_job_at = record_at(JOB)


@linked
def _row_bytes(tile):
    return 4 * lane_count(tile) * item_size(tile)


@linked
def _deviate_rows(tile, job, norm, sums, scales, rows):
    for row in range(rows):
        scale = deviate(tile, job, norm, sums + row * _row_bytes(tile))
        store_first(tile, scales + row * item_size(tile), scale, 1)


def multiply_inputs(tile, job, z, first, rows):
    """x K for the packed inputs from `first` on; the sums of the first tile begin at z."""


@overload(multiply_inputs)
def _multiply_inputs(tile, job, z, first, rows):
    def shared(tile, job, z, first, rows):
        for n in range(job.tiles):
            begin_sums(tile, job, n, z + n * job.z_tile, first, rows)

    def by_gate(tile, job, z, first, rows):
        n = 0
        while n < job.tiles:
            count = tiles_together(job, n)
            begin_by_gate(tile, job, n, count, z + n * job.z_tile, first, rows)
            n += count

    return by_gate if tile.dropout else shared


def multiply_states(tile, job, step, h, z, first, rows):
    """h R for the rows from `first` on; the sums of the first tile begin at z."""


@overload(multiply_states)
def _multiply_states(tile, job, step, h, z, first, rows):
    def shared(tile, job, step, h, z, first, rows):
        done = 0
        while done < job.tiles:
            together = 2 if rows == 1 and first == 0 and pairs_tiles(tile) and done + 1 < job.tiles else 1
            n = turn(job, step, done, together)
            at = z + n * job.z_tile
            _clear(tile, job, at, together, rows)
            if together == 2:
                recur_pair(tile, job, n, h, at, job.z_tile)
            else:
                recur(tile, job, n, h, at, first, rows)
            done += together

    def by_gate(tile, job, step, h, z, first, rows):
        h, plane = h_by_gate(tile, job, h, first, rows)
        n = 0
        while n < job.tiles:
            count, at = tiles_together(job, n), z + n * job.z_tile
            _clear(tile, job, at, count, rows)
            recur_by_gate(tile, job, n, count, h, plane, at, rows)
            n += count

    return by_gate if tile.dropout else shared


@linked
def _clear(tile, job, z, tiles, rows):
    for n in range(tiles):
        start_sums(tile, job.bias, z + n * job.z_tile, rows)  # it is zero: see norm.constant


@linked
def _from_inputs(tile, job, norm, place, first, rows):
    """N1 for the packed inputs from `first` on, whose sums begin at a row of z."""
    z = job.z + place * _row_bytes(tile)
    multiply_inputs(tile, job, z, first, rows)
    _deviate_rows(tile, job, norm, z, norm.x_scales + place * item_size(tile), rows)


@linked
def _from_states(tile, job, norm, step, place, h, first, rows):
    """N2 for the rows from `first` on, whose sums begin at a row of h_sums."""
    sums = norm.h_sums + place * _row_bytes(tile)
    multiply_states(tile, job, step, h, sums, first, rows)
    _deviate_rows(tile, job, norm, sums, norm.h_scales + place * item_size(tile), rows)


@linked
def _outputs(tile, job, norm, row, time, at, y, scratch):
    """N4 of one row, and its states after the step."""
    width, left = lane_count(tile) * item_size(tile), job.units
    c, c_other = at.c + row * job.state_row, at.c_other + row * job.state_row
    h, h_other = at.h + row * job.h_row, at.h_other + row * job.h_row
    target = y + load_integer(job.y_rows + 8 * row) + time * job.y_step
    if projects(tile, job):
        h, target, h_other = c, job.m + row * job.state_row, job.m + row * job.state_row
    for n in range(0, job.state_row, width):
        seen = seen_state(tile, norm, n, normalised_state(tile, job, scratch, n))
        new_c, new_h = load(tile, scratch + 4 * job.state_row + n), output(tile, job, scratch + 4 * n, seen)
        spot = Spot(row, time, n, left)
        new_c, new_h = zoned(tile, job, spot, load(tile, c + n), new_c, load(tile, h + n), new_h)
        store(tile, c_other + n, new_c)
        store(tile, h_other + n, new_h)
        store_some(tile, target + n, new_h, left)
        left -= lane_count(tile)


@linked
def _cells(tile, job, norm, times, place, h_place, first, rows, at, y):
    """N3 and N4 of the rows from `first` on, whose sums begin at these rows of z and h_sums."""
    room = scratch_row(tile, job)
    for start in range(0, rows, TOGETHER):
        count = min(TOGETHER, rows - start)
        for n in range(count):
            row, time = first + start + n, load_integer(times + 8 * (first + start + n))
            x, h, c = place + start + n, h_place + start + n, at.c + row * job.state_row
            sums_and_states(tile, job, norm, row, time, x, h, c, norm.scratch + n * room)
        for n in range(count):
            scale_states(tile, job, norm, norm.scratch + n * room)
        for n in range(count):
            row, time = first + start + n, load_integer(times + 8 * (first + start + n))
            _outputs(tile, job, norm, row, time, at, y, norm.scratch + n * room)


@linked
def _step(tile, job, norm, step, place, times, rows, at, y):
    """One timestep, a group of rows at a time; its inputs' sums begin at a row of z."""
    prepare_h(tile, job, at.h, rows)
    for first in range(0, rows, GROUP):
        height = min(GROUP, rows - first)
        if job.chunk == 1:
            _from_inputs(tile, job, norm, place + first, first, height)
        h_place = job.keeps * place + first
        _from_states(tile, job, norm, step, h_place, at.h, first, height)
        _cells(tile, job, norm, times, place + first, h_place, first, height, at, y)
    if projects(tile, job):
        project_outputs(tile, job, times, rows, at, y)


@linked
def _run_job(tile, job, x, y):
    """All timesteps of one job. Byte addresses x and y; everything else is in the job."""
    norm = norm_at(job.norm)
    mode = begin_products(tile, job)
    at = States(job.h, job.h_other, job.c, job.c_other)
    rows, done, place = job.rows, 0, 0
    while done < job.steps:
        count = min(job.chunk, job.steps - done)
        place *= job.keeps  # a tape goes on, other chunks take the place of the one before
        times = job.times + 8 * place
        total = pack_inputs(tile, job, x, times, done, count, rows)
        prepare_x(tile, job, total)
        if job.chunk > 1:
            _from_inputs(tile, job, norm, place, 0, total)
        for step in range(done, done + count):
            rows = active(job, step, rows)
            _step(tile, job, norm, step, place, times, rows, at, y)
            at = following(tile, job, at, rows)
            place += rows
            times += 8 * rows
        done += count
    end_products(tile, mode)
    if job.mask != 0 and job.y_step != 0:
        fill_masked(tile, job, y)


@entry_point()
def normed_jobs(tile, jobs, x, y, first, last):
    """Jobs in turn: see `kernels.launch`."""
    for number in range(first, last):
        _run_job(tile, _job_at(jobs + number * JOB_BYTES), x, y)
