"""Backward pass of one LSTM layer (BPTT), a chunk of timesteps at a time from the last to the first.

Steps, numbered as in docs/explanation/backpropagation.md; dz, dc and dh are the adjoints of the sums z, of c and of h:

    B1  dh = dh + dy                                                    for each timestep and each row that has it
        dh = dh W^T                                                     with a projection
    B2  dz, dc = the cell's adjoint (kernels.cpu.gates)
    B3  dh = dz R^T                                                     for the timestep before
    B4  dx = dz K^T                                                     for the rows of the whole chunk
    B5  dK, dR, db = dK + x^T dz, dR + h'^T dz, db + dz                 h': the states before each timestep
        dW = dW + m^T dh                                                m: the outputs before the projection

The rows belong to workers for B1 to B4, the tiles of units for B5. B5 adds timestep by timestep from the last to the
first, and row by row, so neither the chunks nor the number of workers changes a bit.
"""

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.backward_job import (
    JOB_BYTES,
    active_rows,
    blocks_of,
    job_at,
    m_block,
    place_of,
    place_of_all,
    states_before,
    taped,
)
from numbalstm.kernels.cpu.blocks import factor_panel, gate_panel, wide_panel
from numbalstm.kernels.cpu.forward import copy
from numbalstm.kernels.cpu.gated import TOGETHER, add_times
from numbalstm.kernels.cpu.gates import Spot, adjoint, kept_share, projects, within
from numbalstm.kernels.cpu.panel import block_rows
from numbalstm.kernels.cpu.subnormals import flush_subnormals, restore_mode
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import (
    item_size,
    lane_count,
    load,
    load_integer,
    load_some,
    splat,
    store,
    store_first,
    store_integer,
)

GROUP = 48  # rows whose products are worked on together: their sums stay in the first-level cache


@linked
def _adjoints_of_row(tile, job, row, time, z, c, new_c, y, dh, dc, dz, dp):
    """B2 of one row, from the addresses of its first unit; dh keeps what bypasses the gates."""
    lanes, width = lane_count(tile), lane_count(tile) * item_size(tile)
    z_tile, has_dy, left, state = job.z_tile, job.has_dy != 0 and not projects(tile, job), job.units, job.state_row
    for at in range(0, state, width):
        arrived = load(tile, dh + at)
        if has_dy:
            arrived = arrived + load_some(tile, y + at, left)
        d_i, d_f, d_g, d_o, d_c, past_h, p_i, p_f, p_o, m = adjoint(
            tile,
            job,
            Spot(row, time, at, left),
            z,
            load(tile, c + at),
            load(tile, new_c + at),
            arrived,
            load(tile, dc + at),
        )
        if job.peephole != 0:
            store(tile, dp + at, p_i)
            store(tile, dp + state + at, p_f)
            store(tile, dp + 2 * state + at, p_o)
        store(tile, dz + at, d_i)
        store(tile, dz + state + at, d_f)
        store(tile, dz + 2 * state + at, d_g)
        store(tile, dz + 3 * state + at, d_o)
        store(tile, dc + at, d_c)
        store(tile, dh + at, m if projects(tile, job) else past_h)
        if left < lanes:  # what fills up the last tile may have overflowed
            for gate in range(4):
                behind = dz + gate * state + at + left * item_size(tile)
                store_first(tile, behind, splat(tile, 0.0), lanes - left)
        left -= lanes
        z += z_tile


@linked
def through_projection(tile, job, step, rows):
    """B1 with a projection: dr of one timestep from dh and dy, and dm from dr."""
    width = lane_count(tile) * item_size(tile)
    first, place, after = taped(job, step), place_of(job, step), states_before(job, step + 1)
    for row in range(rows):
        time = load_integer(job.times + 8 * (first + row))
        y = load_integer(job.dy_rows + 8 * row) + time * job.dy_step
        for at in range(0, job.h_row, width):
            spot = Spot(row, time, at, job.outputs - at // item_size(tile))
            arrived, past = load(tile, job.dh + row * job.dh_row + at), splat(tile, 0.0)
            if job.has_dy != 0:
                arrived = arrived + load_some(tile, y + at, spot.left)
            if job.h_zones != 0:
                kept = kept_share(tile, job.h_zones, job.h_zone_step, spot)
                past, arrived = kept * arrived, (1.0 - kept) * arrived
            h = load(tile, job.h + (after + row) * job.h_row + at)
            store(tile, job.dr + (place + row) * job.h_row + at, within(h, job.projection_clip, arrived))
            store(tile, job.dh + row * job.dh_row + at, past)
    _clear(tile, job.dm, rows * (job.dm_row // width))
    dr = job.dr + place * job.h_row
    wide_panel(tile, rows, dr, job.h_row, job.projection_t, job.outputs, job.dm, job.dm_row, job.tiles)


@linked
def _adjoints(tile, job, step, rows):
    """B1 and B2 of one timestep."""
    width = lane_count(tile) * item_size(tile)
    state = job.state_row
    first, place = taped(job, step), place_of(job, step)
    z, dz, dp = job.z + first * 4 * width, job.dz + place * 4 * state, job.dp + place * 3 * state
    c, new_c = job.c + states_before(job, step) * state, job.c + states_before(job, step + 1) * state
    dh, dh_row = job.dh, job.dh_row
    if projects(tile, job):
        through_projection(tile, job, step, rows)
        dh, dh_row = job.dm, job.dm_row
    for row in range(rows):
        time = load_integer(job.times + 8 * (first + row))
        store_integer(job.targets + 8 * (place + row), load_integer(job.dx_rows + 8 * row) + time * job.dx_step)
        store_integer(job.owners + 8 * (place + row), row)
        y = load_integer(job.dy_rows + 8 * row) + time * job.dy_step
        dc = job.dc + row * state
        _adjoints_of_row(tile, job, row, time, z, c, new_c, y, dh + row * dh_row, dc, dz, dp)
        z, c, new_c, dz, dp = z + 4 * width, c + state, new_c + state, dz + 4 * state, dp + 3 * state


@linked
def _clear(tile, start, count):
    for n in range(count):
        store(tile, start + n * lane_count(tile) * item_size(tile), splat(tile, 0.0))


def to_states(tile, job, dz, rows):
    """B3 for the rows of one timestep, whose dz begin at an address."""


def to_inputs(tile, job, dz, rows, sums):
    """B4 for some rows of the chunk, whose dz begin at an address: sums (rows, vectors) get dx."""


@linked
def _vectors(tile, columns):
    return (columns + lane_count(tile) - 1) // lane_count(tile)


@linked
def input_row(tile, job):
    """Bytes of a row of sums of B4."""
    return (_vectors(tile, job.features) + 3) * lane_count(tile) * item_size(tile)


@linked
def _shared_to_states(tile, job, dz, rows):
    gates = 4 * job.tiles * lane_count(tile)
    vectors = job.h_row // (lane_count(tile) * item_size(tile))
    wide_panel(tile, rows, dz, gates * item_size(tile), job.recurrent_t, gates, job.dh, job.dh_row, vectors)


@linked
def _shared_to_inputs(tile, job, dz, rows, sums):
    gates = 4 * job.tiles * lane_count(tile)
    row, vectors = input_row(tile, job), _vectors(tile, job.features)
    _clear(tile, sums, rows * (vectors + 3))
    wide_panel(tile, rows, dz, gates * item_size(tile), job.kernel_t, gates, sums, row, vectors)


@linked
def _add_by_gate(tile, job, dz, gate, rows, weights, columns, sums, row, factors, factor_row):
    """sums = sums + dz W^T of one gate, times factors where there are any: an address, or 0."""
    width, k = lane_count(tile) * item_size(tile), job.tiles * lane_count(tile)
    vectors = _vectors(tile, columns)
    groups = (vectors + TOGETHER - 1) // TOGETHER
    left, lda = dz + gate * job.state_row, 4 * job.state_row
    for group in range(groups):
        w, at = weights + (gate * groups + group) * k * TOGETHER * width, group * TOGETHER * width
        count, z = min(TOGETHER, vectors - group * TOGETHER), sums + at
        if factors == 0:
            gate_panel(tile, rows, count, left, lda, w, k, z, row, width, z, row, width, w)
        else:
            factor_panel(tile, rows, count, left, lda, w, k, z, row, factors + at, factor_row)


@linked
def _gated_to_states(tile, job, dz, rows):
    columns = job.h_row // item_size(tile)
    for gate in range(4):
        factors = job.h_factors + gate * job.h_row if job.h_factors != 0 else 0
        _add_by_gate(tile, job, dz, gate, rows, job.recurrent_t, columns, job.dh, job.dh_row, factors, 4 * job.h_row)


@linked
def _gated_to_inputs(tile, job, dz, rows, sums):
    row_bytes, columns = input_row(tile, job), job.features
    count = rows * (row_bytes // (lane_count(tile) * item_size(tile)))
    _clear(tile, sums, count)
    first = (dz - job.dz) // (4 * job.state_row)
    for gate in range(4):
        if job.x_factors == 0:
            _add_by_gate(tile, job, dz, gate, rows, job.kernel_t, columns, sums, row_bytes, 0, 0)
            continue
        _clear(tile, job.sums, count)
        _add_by_gate(tile, job, dz, gate, rows, job.kernel_t, columns, job.sums, row_bytes, 0, 0)
        for row in range(rows):
            owner = load_integer(job.owners + 8 * (first + row))
            factors = job.x_factors + (4 * owner + gate) * columns * item_size(tile)
            add_times(tile, job.sums + row * row_bytes, factors, sums + row * row_bytes, columns)


@overload(to_states)
def _to_states(tile, job, dz, rows):
    chosen = _gated_to_states if tile.dropout else _shared_to_states
    return lambda tile, job, dz, rows: chosen(tile, job, dz, rows)


@overload(to_inputs)
def _to_inputs(tile, job, dz, rows, sums):
    chosen = _gated_to_inputs if tile.dropout else _shared_to_inputs
    return lambda tile, job, dz, rows, sums: chosen(tile, job, dz, rows, sums)


@linked
def input_adjoints(tile, job):
    """B4."""
    item = item_size(tile)
    sums = job.sums + GROUP * input_row(tile, job)  # behind those of one gate
    total = load_integer(job.offsets + 8 * job.last_step) - load_integer(job.offsets + 8 * job.first_step)
    for first in range(0, total, GROUP):
        height = min(GROUP, total - first)
        to_inputs(tile, job, job.dz + first * 4 * job.tiles * lane_count(tile) * item, height, sums)
        for row in range(height):
            source = sums + row * input_row(tile, job)
            copy(tile, load_integer(job.targets + 8 * (first + row)), source, job.features, item)


@linked
def pack_blocks(tile, left, block, source, columns):
    """A row as columns of a left operand: blocks are `block` bytes apart."""
    height, item = block_rows(tile), item_size(tile)
    for column in range(0, columns, height):
        for n in range(0, height, lane_count(tile)):
            start = column + n
            value = load_some(tile, source + start * item, columns - start)
            store_first(tile, left + n * item, value, height - n)
        left += block


@linked
def _pack_times(tile, left, block, source, factors, columns):
    """As `pack_blocks`, times the factors of each gate in turn, a quarter of a block apart."""
    height, item = block_rows(tile), item_size(tile)
    for column in range(0, columns, height):
        for n in range(0, height, lane_count(tile)):
            start = column + n
            value = load_some(tile, source + start * item, columns - start)
            for gate in range(4):
                factor = load_some(tile, factors + (gate * columns + start) * item, columns - start)
                store_first(tile, left + gate * (block // 4) + n * item, value * factor, height - n)
        left += block


def pack_left(tile, job, left, source, factors, columns):
    """One row of x or h' to the left operand of B5; by gate where there are factors: their address, or 0."""


@overload(pack_left)
def _pack_left(tile, job, left, source, factors, columns):
    def by_gate(tile, job, left, source, factors, columns):
        if factors != 0:
            _pack_times(tile, left, job.left_block, source, factors, columns)
        else:
            pack_blocks(tile, left, job.left_block, source, columns)

    def shared(tile, job, left, source, factors, columns):
        pack_blocks(tile, left, job.left_block, source, columns)

    return by_gate if tile.dropout else shared


@linked
def pack_rows(tile, job, step, rows):
    """x and h' of one timestep, and what a projection was multiplied with, as B5 reads them."""
    item, height = item_size(tile), block_rows(tile)
    x_blocks = blocks_of(tile, job.features) * job.left_block
    for row in range(rows):
        place = place_of_all(job, step) + job.first_row + row
        left = job.left + place * height * item
        time = load_integer(job.times + 8 * (taped(job, step) + row))
        x = load_integer(job.x_rows + 8 * row) + time * job.x_step
        factors = job.x_factors + 4 * row * job.features * item if job.x_factors != 0 else 0
        pack_left(tile, job, left, x, factors, job.features)
        h = job.h + (states_before(job, step) + row) * job.h_row
        factors = job.h_factors + 4 * row * job.h_row if job.h_factors != 0 else 0
        pack_left(tile, job, left + x_blocks, h, factors, job.h_row // item)
        if projects(tile, job):
            m, at = job.dm + row * job.dm_row, job.left_m + place * height * item
            pack_blocks(tile, at, m_block(tile, job), m, job.state_row // item)


@linked
def _adjoints_of_job(tile, job):
    """B1 to B4 of a chunk for the rows of one worker, and the left operands of B5."""
    mode = flush_subnormals()
    for step in range(job.last_step - 1, job.first_step - 1, -1):
        rows = active_rows(job, step)
        _adjoints(tile, job, step, rows)
        to_states(tile, job, job.dz + place_of(job, step) * 4 * job.tiles * lane_count(tile) * item_size(tile), rows)
        pack_rows(tile, job, step, rows)
    input_adjoints(tile, job)
    restore_mode(mode)


@entry_point()
def adjoint_jobs(tile, jobs, x, y, first, last):
    """B1 to B4 of a chunk, jobs in turn: see `kernels.launch`."""
    for number in range(first, last):
        _adjoints_of_job(tile, job_at(jobs + number * JOB_BYTES))
