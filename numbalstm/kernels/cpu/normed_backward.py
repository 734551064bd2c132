"""Backward pass of a layer-normalised LSTM. The tape holds the deviations of x K and of h R, and their scales.

As `backward`, numbered as in docs/explanation/backpropagation.md; with n the normalised rows and d = gamma times the
adjoint of LN(a), whose adjoint is L'(d) = scale (d - mean(d) - n mean(d n)):

    N3  z, c once more, from the tape                                         (kernels.cpu.norms)
    B1  dh = dh + dy                                                          for each timestep and each row that has it
        dh = dh W^T                                                           with a projection
    B2  dz_o, d = the output's adjoint     dc = dc + L'(d)     dz, dc = the cell's adjoint     (kernels.cpu.gates)
    N1  dx = L'(gamma dz) of x K           N2  da = L'(gamma dz) of h R
    B3  dh = da R^T                                                           for the timestep before
    B4  dx = dx K^T                                                           for the rows of the whole chunk
    B5  dK, dR, db = dK + x^T dx, dR + h'^T da, db + dz                       h': the states before each timestep
        dgamma = dgamma + n dz of both, and of the cell; dbeta of both = db
"""

from collections import namedtuple

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.backward import input_adjoints, pack_rows, through_projection, to_states
from numbalstm.kernels.cpu.backward_job import (
    JOB_BYTES,
    active_rows,
    blocks_of,
    job_at,
    place_of,
    states_before,
    taped,
)
from numbalstm.kernels.cpu.blocks import outer_block
from numbalstm.kernels.cpu.gated import TOGETHER as GROUP
from numbalstm.kernels.cpu.gates import (
    Spot,
    c_zoned_adjoint,
    h_zoned_adjoint,
    output_adjoint,
    projects,
    state_adjoint,
)
from numbalstm.kernels.cpu.gradients import add_gate, add_peepholes, add_projection
from numbalstm.kernels.cpu.norm_job import TOGETHER, norm_at
from numbalstm.kernels.cpu.norms import (
    SCALE,
    kept_at,
    mean_of,
    normalised_state,
    scale_states,
    scratch_row,
    seen_state,
    sums_and_states,
)
from numbalstm.kernels.cpu.panel import block_rows
from numbalstm.kernels.cpu.subnormals import flush_subnormals, restore_mode
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import (
    item_size,
    keep_first,
    lane_count,
    load,
    load_integer,
    load_scalar,
    load_some,
    splat,
    store,
    store_integer,
)
from numbalstm.kernels.simd import fma

X_MEAN, X_ACROSS, H_MEAN, H_ACROSS = 2, 3, 4, 5  # of d and of d n, as kept in a row of scratch; first those of the cell

Place = namedtuple("Place", ("row", "time", "taped", "chunk_row", "c"))
"""Where a row and timestep is: its row, its time, its place in the tape and in the chunk, and its old states."""


@linked
def _output_adjoints(tile, job, norm, at, y, dh, scratch):
    """B1 and the first half of B2 of one row: dz_o goes to where the sum o was; dh keeps what bypasses the gates."""
    width, state = lane_count(tile) * item_size(tile), job.state_row
    d_cell = norm.d_cell + at.chunk_row * 2 * state
    total, across, left = splat(tile, 0.0), splat(tile, 0.0), job.units
    for n in range(0, state, width):
        arrived = load(tile, dh + n)
        if job.has_dy != 0 and not projects(tile, job):
            arrived = arrived + load_some(tile, y + at.time * job.dy_step + n, left)
        past_h, arrived = h_zoned_adjoint(tile, job, Spot(at.row, at.time, n, left), arrived)
        normalised = normalised_state(tile, job, scratch, n)
        z = scratch + 4 * n
        d_o, d_seen, m = output_adjoint(tile, job, z, seen_state(tile, norm, n, normalised), arrived)
        d_seen = keep_first(tile, d_seen, left)  # what fills up the last tile may have overflowed
        scaled = keep_first(tile, d_seen * normalised, left)
        store(tile, z + 3 * width, keep_first(tile, d_o, left))
        store(tile, dh + n, m if projects(tile, job) else past_h)
        store(tile, d_cell + n, d_seen)
        store(tile, d_cell + state + n, scaled)
        gamma = load(tile, norm.cell_gamma + n)
        total, across = fma(d_seen, gamma, total), fma(scaled, gamma, across)
        left -= lane_count(tile)
    store(tile, kept_at(tile, job, scratch, X_MEAN), mean_of(tile, total, norm.units))
    store(tile, kept_at(tile, job, scratch, X_ACROSS), mean_of(tile, across, norm.units))


@linked
def _cell_adjoints(tile, job, norm, at, scratch):
    """The other half of B2 of one row: dz, dc and dp."""
    width, state = lane_count(tile) * item_size(tile), job.state_row
    dc, dp = job.dc + at.row * state, job.dp + at.chunk_row * 3 * state
    d_cell, dz = norm.d_cell + at.chunk_row * 2 * state, norm.dz_sums + at.chunk_row * 4 * state
    mean = load(tile, kept_at(tile, job, scratch, X_MEAN))
    across = load(tile, kept_at(tile, job, scratch, X_ACROSS))
    scale, left = load(tile, kept_at(tile, job, scratch, SCALE)), job.units
    for n in range(0, state, width):
        spot, z = Spot(at.row, at.time, n, left), scratch + 4 * n
        past_c, ds = c_zoned_adjoint(tile, job, spot, load(tile, dc + n))
        d = load(tile, d_cell + n) * load(tile, norm.cell_gamma + n)
        ds = ds + scale * (d - mean - normalised_state(tile, job, scratch, n) * across)
        d_o = load(tile, z + 3 * width)
        d_i, d_f, d_g, d_c, p_i, p_f, p_o = state_adjoint(tile, job, spot, z, load(tile, at.c + n), ds, d_o)
        store(tile, dc + n, past_c + d_c)
        if job.peephole != 0:
            store(tile, dp + n, p_i)
            store(tile, dp + state + n, p_f)
            store(tile, dp + 2 * state + n, p_o)
        store(tile, dz + n, keep_first(tile, d_i, left))
        store(tile, dz + state + n, keep_first(tile, d_f, left))
        store(tile, dz + 2 * state + n, keep_first(tile, d_g, left))
        store(tile, dz + 3 * state + n, d_o)
        left -= lane_count(tile)


@linked
def _means(tile, job, norm, at, scratch):
    """The means that N1 and N2 of one row need."""
    width, item, state = lane_count(tile) * item_size(tile), item_size(tile), job.state_row
    dz = norm.dz_sums + at.chunk_row * 4 * state
    x_mean, x_across = splat(tile, 0.0), splat(tile, 0.0)
    h_mean, h_across = splat(tile, 0.0), splat(tile, 0.0)
    for n in range(job.tiles):
        for gate in range(4):
            adjoint, gamma = load(tile, dz + gate * state + n * width), (4 * n + gate) * width
            sums = at.taped * 4 * width + n * job.z_tile + gate * width
            d_x = adjoint * load(tile, norm.kernel_gamma + gamma)
            d_h = adjoint * load(tile, norm.recurrent_gamma + gamma)
            x_mean, x_across = x_mean + d_x, fma(d_x, load(tile, job.z + sums), x_across)
            h_mean, h_across = h_mean + d_h, fma(d_h, load(tile, norm.h_sums + sums), h_across)
    x_scale = splat(tile, load_scalar(tile, norm.x_scales + at.taped * item))
    h_scale = splat(tile, load_scalar(tile, norm.h_scales + at.taped * item))
    store(tile, kept_at(tile, job, scratch, X_MEAN), mean_of(tile, x_mean, norm.columns))
    store(tile, kept_at(tile, job, scratch, X_ACROSS), mean_of(tile, x_across, norm.columns) * x_scale)
    store(tile, kept_at(tile, job, scratch, H_MEAN), mean_of(tile, h_mean, norm.columns))
    store(tile, kept_at(tile, job, scratch, H_ACROSS), mean_of(tile, h_across, norm.columns) * h_scale)


@linked
def _through_norm(tile, job, norm, at, dz, gammas, sums, scales, scratch, number, target):
    """N1 or N2 of one row, with the means that stand at a number: from dz to the adjoints of a product."""
    width, state = lane_count(tile) * item_size(tile), job.state_row
    scale = splat(tile, load_scalar(tile, scales + at.taped * item_size(tile)))
    mean = load(tile, kept_at(tile, job, scratch, number))
    across = load(tile, kept_at(tile, job, scratch, number + 1)) * scale
    for n in range(job.tiles):
        for gate in range(4):
            place = gate * state + n * width
            d = load(tile, dz + place) * load(tile, gammas + (4 * n + gate) * width)
            deviation = load(tile, sums + at.taped * 4 * width + n * job.z_tile + gate * width)
            store(tile, target + place, scale * (d - mean - deviation * across))


@linked
def _product_adjoints(tile, job, norm, at, scratch):
    """N1 and N2 of one row."""
    row = at.chunk_row * 4 * job.state_row
    dz, gammas = norm.dz_sums + row, norm.kernel_gamma
    _through_norm(tile, job, norm, at, dz, gammas, job.z, norm.x_scales, scratch, X_MEAN, job.dz + row)
    gammas = norm.recurrent_gamma
    _through_norm(tile, job, norm, at, dz, gammas, norm.h_sums, norm.h_scales, scratch, H_MEAN, norm.dz_h + row)


@linked
def _place(job, step, row):
    """Where everything of a row and timestep is."""
    at = taped(job, step) + row
    time, c = load_integer(job.times + 8 * at), job.c + (states_before(job, step) + row) * job.state_row
    return Place(row, time, at, place_of(job, step) + row, c)


@linked
def _adjoints_of_rows(tile, job, norm, step, first, count, dh, dh_row):
    """B1 and B2, N1 and N2 of a few rows of a timestep, in turns."""
    room = scratch_row(tile, job)
    for n in range(count):
        at = _place(job, step, first + n)
        store_integer(job.targets + 8 * at.chunk_row, load_integer(job.dx_rows + 8 * at.row) + at.time * job.dx_step)
        store_integer(job.owners + 8 * at.chunk_row, at.row)
        sums_and_states(tile, job, norm, at.row, at.time, at.taped, at.taped, at.c, norm.scratch + n * room)
    for n in range(count):
        scale_states(tile, job, norm, norm.scratch + n * room)
    for n in range(count):
        at = _place(job, step, first + n)
        y = load_integer(job.dy_rows + 8 * at.row)
        _output_adjoints(tile, job, norm, at, y, dh + at.row * dh_row, norm.scratch + n * room)
    for n in range(count):
        _cell_adjoints(tile, job, norm, _place(job, step, first + n), norm.scratch + n * room)
    for n in range(count):
        _means(tile, job, norm, _place(job, step, first + n), norm.scratch + n * room)
    for n in range(count):
        _product_adjoints(tile, job, norm, _place(job, step, first + n), norm.scratch + n * room)


@linked
def _adjoints_of_job(tile, job):
    """B1 to B4 of a chunk for the rows of one worker, and the left operands of B5."""
    norm, mode = norm_at(job.norm), flush_subnormals()
    for step in range(job.last_step - 1, job.first_step - 1, -1):
        rows, dh, dh_row = active_rows(job, step), job.dh, job.dh_row
        if projects(tile, job):
            through_projection(tile, job, step, rows)
            dh, dh_row = job.dm, job.dm_row
        for first in range(0, rows, TOGETHER):
            _adjoints_of_rows(tile, job, norm, step, first, min(TOGETHER, rows - first), dh, dh_row)
        to_states(tile, job, norm.dz_h + place_of(job, step) * 4 * job.state_row, rows)
        pack_rows(tile, job, step, rows)
    input_adjoints(tile, job)
    restore_mode(mode)


@entry_point()
def normed_adjoint_jobs(tile, jobs, x, y, first, last):
    """B1 to B4 of a chunk, jobs in turn: see `kernels.launch`."""
    for number in range(first, last):
        _adjoints_of_job(tile, job_at(jobs + number * JOB_BYTES))


# ---- B5


@linked
def _add_gammas(tile, jobs, workers, job, n, gate):
    """The gradients of beta, once for x and h, and of both gammas, of one gate of a tile, in the order of B5."""
    width, item, state = lane_count(tile) * item_size(tile), item_size(tile), job.state_row
    beta, gamma = job.bias_gradient + (4 * n + gate) * width, norm_at(job.norm).gamma_gradients + (8 * n + gate) * width
    d_beta, d_x, d_h = load(tile, beta), load(tile, gamma), load(tile, gamma + 4 * width)
    for step in range(job.last_step - 1, job.first_step - 1, -1):
        for worker in range(workers):
            other = job_at(jobs + worker * JOB_BYTES)
            norm, first = norm_at(other.norm), taped(other, step)
            dz = norm.dz_sums + (4 * place_of(other, step) + gate) * state + n * width
            sums = n * other.z_tile + (4 * first + gate) * width
            for row in range(first, first + active_rows(other, step)):
                adjoint = load(tile, dz)
                x = load(tile, other.z + sums) * splat(tile, load_scalar(tile, norm.x_scales + row * item))
                h = load(tile, norm.h_sums + sums) * splat(tile, load_scalar(tile, norm.h_scales + row * item))
                d_beta, d_x, d_h = d_beta + adjoint, fma(adjoint, x, d_x), fma(adjoint, h, d_h)
                dz, sums = dz + 4 * state, sums + 4 * width
    store(tile, beta, d_beta)
    store(tile, gamma, d_x)
    store(tile, gamma + 4 * width, d_h)


@linked
def _add_cell(tile, jobs, workers, job, n):
    """The gradients of beta and gamma of the cell of one tile of units, in the order of B5."""
    width, state = lane_count(tile) * item_size(tile), job.state_row
    target = norm_at(job.norm).cell_gradients + n * width
    beta, gamma = load(tile, target), load(tile, target + state)
    for step in range(job.last_step - 1, job.first_step - 1, -1):
        for worker in range(workers):
            other = job_at(jobs + worker * JOB_BYTES)
            source = norm_at(other.norm).d_cell + place_of(other, step) * 2 * state + n * width
            for _ in range(active_rows(other, step)):
                beta, gamma = beta + load(tile, source), gamma + load(tile, source + state)
                source += 2 * state
    store(tile, target, beta)
    store(tile, target + state, gamma)


@linked
def _gather(tile, jobs, workers, job, of_h, at, panel):
    """The vector `at` bytes into the rows of adjoints of x K, or of h R, of all workers, in the order of B5."""
    for step in range(job.last_step - 1, job.first_step - 1, -1):
        for worker in range(workers):
            other = job_at(jobs + worker * JOB_BYTES)
            source = norm_at(other.norm).dz_h if of_h else other.dz
            source += place_of(other, step) * 4 * job.state_row + at
            for _ in range(active_rows(other, step)):
                store(tile, panel, load(tile, source))
                source += 4 * job.state_row
                panel += 4 * lane_count(tile) * item_size(tile)


def add_product(tile, jobs, workers, job, of_h, first, last):
    """dK or dR of B5, which are the blocks first to last of the gradients."""


@overload(add_product)
def _add_product(tile, jobs, workers, job, of_h, first, last):
    def shared(tile, jobs, workers, job, of_h, first, last):
        width, height = lane_count(tile) * item_size(tile), block_rows(tile)
        blocks = blocks_of(tile, job.features) + blocks_of(tile, job.h_row // item_size(tile))
        for n in range(job.first_tile, job.last_tile):
            for gate in range(4):
                at = gate * job.state_row + n * width
                _gather(tile, jobs, workers, job, of_h, at, job.panel + gate * width)
            for block in range(first, last):
                target = job.gradient + (n * blocks + block) * height * 4 * width
                outer_block(tile, job.left + block * job.left_block, job.panel, job.all_rows, target)

    def by_gate(tile, jobs, workers, job, of_h, first, last):
        width = lane_count(tile) * item_size(tile)
        for n in range(job.first_tile, job.last_tile, GROUP):
            count = min(GROUP, job.last_tile - n)
            for gate in range(4):
                for m in range(count):
                    at = gate * job.state_row + (n + m) * width
                    _gather(tile, jobs, workers, job, of_h, at, job.panel + m * width)
                add_gate(tile, job, gate, n, count, first, last)

    return by_gate if tile.dropout else shared


@linked
def _gradients_of_job(tile, jobs, workers, job):
    """B5 of a chunk for the tiles of units of one worker."""
    mode = flush_subnormals()
    of_x = blocks_of(tile, job.features)
    for n in range(job.first_tile, job.last_tile):
        if job.peephole != 0:
            add_peepholes(tile, jobs, workers, job, n)
        for gate in range(4):
            _add_gammas(tile, jobs, workers, job, n, gate)
        _add_cell(tile, jobs, workers, job, n)
    add_product(tile, jobs, workers, job, False, 0, of_x)
    add_product(tile, jobs, workers, job, True, of_x, of_x + blocks_of(tile, job.h_row // item_size(tile)))
    if projects(tile, job):
        add_projection(tile, jobs, workers, job)
    restore_mode(mode)


@entry_point()
def normed_gradient_jobs(tile, jobs, workers, y, first, last):
    """B5 of the chunk, jobs in turn; `workers` is how many jobs there are in all."""
    for number in range(first, last):
        _gradients_of_job(tile, jobs, workers, job_at(jobs + number * JOB_BYTES))
