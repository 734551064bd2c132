"""Step B5 of the backward pass: the weight gradients of a chunk of timesteps. See `numbalstm.kernels.cpu.backward`.

A worker adds up the tiles of units that are its own over the rows of all workers, timestep by timestep from the last to
the first and row by row, so neither the chunks nor the number of workers changes a bit.
"""

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.backward_job import JOB_BYTES, active_rows, blocks_of, job_at, m_block, place_of
from numbalstm.kernels.cpu.blocks import gate_block, outer_block
from numbalstm.kernels.cpu.gated import TOGETHER
from numbalstm.kernels.cpu.gates import projects
from numbalstm.kernels.cpu.panel import block_rows
from numbalstm.kernels.cpu.subnormals import flush_subnormals, restore_mode
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import item_size, lane_count, load, splat, store


@linked
def _gather(tile, jobs, workers, job, panel, bias, n):
    """The dz of one tile of units, of all workers, in the order of B5; adds them to the bias gradient."""
    width = lane_count(tile) * item_size(tile)
    d_i, d_f = load(tile, bias), load(tile, bias + width)
    d_g, d_o = load(tile, bias + 2 * width), load(tile, bias + 3 * width)
    state = job.tiles * width
    for step in range(job.last_step - 1, job.first_step - 1, -1):
        for worker in range(workers):
            other = job_at(jobs + worker * JOB_BYTES)
            source = other.dz + place_of(other, step) * 4 * state + n * width
            for _ in range(active_rows(other, step)):
                i, f = load(tile, source), load(tile, source + state)
                g, o = load(tile, source + 2 * state), load(tile, source + 3 * state)
                store(tile, panel, i)
                store(tile, panel + width, f)
                store(tile, panel + 2 * width, g)
                store(tile, panel + 3 * width, o)
                d_i, d_f, d_g, d_o = d_i + i, d_f + f, d_g + g, d_o + o
                source += 4 * state
                panel += 4 * width
    store(tile, bias, d_i)
    store(tile, bias + width, d_f)
    store(tile, bias + 2 * width, d_g)
    store(tile, bias + 3 * width, d_o)


@linked
def add_peepholes(tile, jobs, workers, job, n):
    """The peephole gradients of one tile of units, in the order of B5."""
    width = lane_count(tile) * item_size(tile)
    for gate in range(3):
        at = gate * job.state_row + n * width
        total = load(tile, job.peephole_gradient + at)
        for step in range(job.last_step - 1, job.first_step - 1, -1):
            for worker in range(workers):
                other = job_at(jobs + worker * JOB_BYTES)
                source = other.dp + place_of(other, step) * 3 * job.state_row + at
                for _ in range(active_rows(other, step)):
                    total = total + load(tile, source)
                    source += 3 * job.state_row
        store(tile, job.peephole_gradient + at, total)


def add_products(tile, jobs, workers, job):
    """dK, dR and db of B5."""


@linked
def _add_shared(tile, jobs, workers, job):
    width, height = lane_count(tile) * item_size(tile), block_rows(tile)
    blocks = blocks_of(tile, job.features) + blocks_of(tile, job.h_row // item_size(tile))
    for n in range(job.first_tile, job.last_tile):
        _gather(tile, jobs, workers, job, job.panel, job.bias_gradient + n * 4 * width, n)
        for block in range(blocks):
            target = job.gradient + (n * blocks + block) * height * 4 * width
            outer_block(tile, job.left + block * job.left_block, job.panel, job.all_rows, target)


@linked
def _gather_gate(tile, jobs, workers, job, panel, bias, source_at):
    """The dz of one gate of one tile, `source_at` bytes into a row of dz, as `_gather`; panel holds rows of four."""
    width = lane_count(tile) * item_size(tile)
    total = load(tile, bias)
    for step in range(job.last_step - 1, job.first_step - 1, -1):
        for worker in range(workers):
            other = job_at(jobs + worker * JOB_BYTES)
            source = other.dz + place_of(other, step) * 4 * job.state_row + source_at
            for _ in range(active_rows(other, step)):
                dz = load(tile, source)
                store(tile, panel, dz)
                total = total + dz
                source += 4 * job.state_row
                panel += 4 * width
    store(tile, bias, total)


@linked
def add_gate(tile, job, gate, n, count, start, stop):
    """The gradients of the blocks start to stop of one gate of `count` tiles from n on, whose dz the panel holds."""
    width, height, item = lane_count(tile) * item_size(tile), block_rows(tile), item_size(tile)
    x_blocks = blocks_of(tile, job.features)
    tile_bytes = (x_blocks + blocks_of(tile, job.h_row // item)) * height * 4 * width
    for block in range(start, stop):
        factors = job.x_factors if block < x_blocks else job.h_factors
        left = job.left + block * job.left_block + (gate * (job.left_block // 4) if factors != 0 else 0)
        target = job.gradient + n * tile_bytes + block * height * 4 * width + gate * width
        gate_block(
            tile,
            height,
            count,
            left,
            item,
            height * item,
            job.panel,
            job.all_rows,
            target,
            4 * width,
            tile_bytes,
            target,
            4 * width,
            tile_bytes,
            job.panel,
        )


@linked
def _add_by_gate(tile, jobs, workers, job):
    width = lane_count(tile) * item_size(tile)
    blocks = blocks_of(tile, job.features) + blocks_of(tile, job.h_row // item_size(tile))
    for n in range(job.first_tile, job.last_tile, TOGETHER):
        count = min(TOGETHER, job.last_tile - n)
        for gate in range(4):
            for m in range(count):
                bias = job.bias_gradient + ((n + m) * 4 + gate) * width
                at = gate * job.state_row + (n + m) * width
                _gather_gate(tile, jobs, workers, job, job.panel + m * width, bias, at)
            add_gate(tile, job, gate, n, count, 0, blocks)


@overload(add_products)
def _add_products(tile, jobs, workers, job):
    return (_add_by_gate if tile.dropout else _add_shared).py_func


@linked
def _gradients_of_job(tile, jobs, workers, job):
    """B5 of a chunk for the tiles of units of one worker."""
    mode = flush_subnormals()
    if job.peephole != 0:
        for n in range(job.first_tile, job.last_tile):
            add_peepholes(tile, jobs, workers, job, n)
    add_products(tile, jobs, workers, job)
    if projects(tile, job):
        add_projection(tile, jobs, workers, job)
    restore_mode(mode)


@linked
def add_projection(tile, jobs, workers, job):
    """dW of B5 for one worker's groups of four vectors of columns."""
    group_bytes = 4 * lane_count(tile) * item_size(tile)
    groups = (job.h_row + group_bytes - 1) // group_bytes
    for group in range(job.worker, groups, workers):
        _projection_gradients(tile, jobs, workers, job, group)


@linked
def _projection_gradients(tile, jobs, workers, job, group):
    """dW of B5 for one group of four vectors of columns."""
    width, height = lane_count(tile) * item_size(tile), block_rows(tile)
    panel, first = job.panel, group * 4 * width
    for step in range(job.last_step - 1, job.first_step - 1, -1):
        for worker in range(workers):
            other = job_at(jobs + worker * JOB_BYTES)
            source = other.dr + place_of(other, step) * job.h_row
            for _ in range(active_rows(other, step)):
                for at in range(first, first + 4 * width, width):
                    store(tile, panel, load(tile, source + at) if at < job.h_row else splat(tile, 0.0))
                    panel += width
                source += job.h_row
    blocks = blocks_of(tile, job.state_row // item_size(tile))
    for block in range(blocks):
        target = job.projection_gradient + (group * blocks + block) * height * 4 * width
        outer_block(tile, job.left_m + block * m_block(tile, job), job.panel, job.all_rows, target)


@entry_point()
def gradient_jobs(tile, jobs, workers, y, first, last):
    """B5 of the chunk, jobs in turn; `workers` is how many jobs there are in all."""
    for number in range(first, last):
        _gradients_of_job(tile, jobs, workers, job_at(jobs + number * JOB_BYTES))
