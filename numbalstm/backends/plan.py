"""How a forward pass is cut into jobs for threads, and the buffers that the jobs share."""

from typing import Any, NamedTuple

import numpy as np

from numbalstm.backends.normed import NormWeights, norm_record, sums_beside
from numbalstm.backends.operands import weight_fields
from numbalstm.kernels.cpu.barrier import LINE
from numbalstm.kernels.cpu.forward import GROUP
from numbalstm.kernels.cpu.job import JOB
from numbalstm.kernels.cpu.packing import address, aligned
from numbalstm.kernels.simd import Tile

# The cost model, in cycles of a core with two multiply-add pipes: relative weights are all that matters.
ROW_CYCLES = 2.0  # four vector multiply-adds: one row of a tile for one k
LOAD_CYCLES = 5.0  # the four weight vectors of one k from the second-level cache
CELL_CYCLES = 70.0  # the activations of one row of a tile
BARRIER_CYCLES = 900.0
FORK_CYCLES = 50000.0  # starting and joining the threads once, sleeping ones included
SPARE = 3  # vectors behind a row of sums that `kernels.cpu.blocks.wide_panel` may write
CHUNK_ROWS = 96  # rows of a projected chunk: its packed inputs and sums stay in the second-level cache


class Rows(NamedTuple):
    """Where each row of the batch is, longest first. Offsets are bytes from the x, y and mask given to the kernel."""

    lengths: np.ndarray  # int64 (B,): real timesteps
    x: np.ndarray  # int64 (B,)
    y: np.ndarray  # int64 (B,)
    mask: np.ndarray | None  # int64 (B,)
    c_zones: np.ndarray | None = None  # int64 (B,): addresses, not offsets; None without zoneout
    h_zones: np.ndarray | None = None

    def __getitem__(self, rows):
        """The same tables for some of the rows, contiguous."""
        return Rows(*(None if table is None else np.ascontiguousarray(table[rows]) for table in tuple(self)))


class Layout(NamedTuple):
    """Byte strides and modes that all rows share."""

    x_step: int
    x_item: int
    y_step: int
    mask: int  # address, 0 without
    mask_step: int
    padded_steps: int
    repeat_last: bool


class Packed(NamedTuple):
    """Packed weights of one layer."""

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray
    kernel_columns: np.ndarray | None  # where the weights have scales: see kernels.cpu.product
    recurrent_columns: np.ndarray | None
    features: int
    units: int
    outputs: int  # units, or the width of the projection
    norm: NormWeights | None

    @property
    def tiles(self) -> int:
        """How many tiles the units are cut into."""
        return len(self.bias)


class Plan(NamedTuple):
    """Jobs ready to run, and what they write: h (2, B, stride) and c (B, stride), rows in the order of `Rows`."""

    jobs: np.ndarray
    h: np.ndarray
    c: np.ndarray
    flags: np.ndarray | None  # of the barrier where units are shared
    keep: list  # everything the jobs point to
    normed: bool  # whether there is layer normalisation


def step_cycles(packed, rows, tiles, together=CHUNK_ROWS):
    """A timestep of some rows and tiles, where the inputs of at least `together` rows are projected at once."""
    recurrent = packed.outputs * max(ROW_CYCLES * rows, LOAD_CYCLES)
    projection = packed.features * max(ROW_CYCLES * rows, LOAD_CYCLES * rows / max(rows, together))
    return tiles * (recurrent + projection + rows * CELL_CYCLES)


def stride(width, tile):
    """Elements of a row of states: whole vectors."""
    return -(-width // tile.lanes) * tile.lanes


def split(rows, steps, tiles, packed, threads, can_share=True):
    """(workers, share_units): how many threads, and whether they share the units instead of the rows."""
    serial = steps * step_cycles(packed, rows, tiles)
    best, choice = serial, (1, False)
    for workers in {2, threads} if threads > 1 else ():
        if rows >= workers:
            by_rows = FORK_CYCLES + steps * step_cycles(packed, -(-rows // workers), tiles)
            best, choice = min((best, choice), (by_rows, (workers, False)))
        if tiles >= workers and can_share:
            by_units = FORK_CYCLES + steps * (step_cycles(packed, rows, -(-tiles // workers)) + BARRIER_CYCLES)
            best, choice = min((best, choice), (by_units, (workers, True)))
    return choice


def can_share(packed, cell):
    """Whether threads may share the units of a batch: a projection and layer normalisation need all of a row."""
    return not cell["projection"] and packed.norm is None


def build(tile: Tile, packed: Packed, rows: Rows, layout: Layout, cell: dict[str, Any], threads: int) -> Plan:
    """Cut the work and allocate what it needs; `cell` are the fields of all jobs that say what a cell computes."""
    count = len(rows.lengths)
    steps = int(rows.lengths[0]) if count else 0
    tiles = packed.tiles
    workers, share_units = split(count, steps, tiles, packed, threads, can_share(packed, cell))
    h, c = (
        aligned((2, count, stride(packed.outputs, tile)), tile.dtype),
        aligned((count, stride(packed.units, tile)), tile.dtype),
    )
    flags = aligned((workers + 1, LINE // 8), np.int64) if share_units else None
    jobs, keep = np.zeros(workers, JOB), [packed, h, c, flags]
    # ragged rows are dealt out like cards, so that every worker gets long ones and short ones
    ragged = count > 0 and rows.lengths[-1] != steps
    start = 0
    for worker, job in enumerate(jobs):
        mine = rows
        if workers > 1 and not share_units:
            mine = (
                rows[worker::workers] if ragged else rows[count * worker // workers : count * (worker + 1) // workers]
            )
        _fill(job, tile, packed, mine, layout, keep)
        for name, states in (("h", h[0]), ("h_other", h[1]), ("c", c), ("c_other", c)):
            job[name] = address(states) + start * states.strides[0]
        if share_units:
            job["first_tile"], job["last_tile"] = tiles * worker // workers, tiles * (worker + 1) // workers
            job["barrier"], job["worker"], job["workers"] = address(flags), worker, workers
        else:
            start += len(mine.lengths)
        set_cell(job, tile, cell, keep)
    return Plan(jobs, h, c, flags, keep, packed.norm is not None)


def dealt_order(count, plan, ragged):
    """Position in the state buffers of each of the sorted rows."""
    workers = len(plan.jobs)
    if plan.flags is not None or workers == 1 or not ragged:
        return np.arange(count)
    order = np.concatenate([np.arange(worker, count, workers) for worker in range(workers)])
    return np.argsort(order)


def set_cell(job, tile, cell, keep):
    """What a cell computes, and with a projection the outputs before it and its sums."""
    for name, value in cell.items():
        job[name] = value
    if cell["projection"]:
        rows = max(int(job["rows"]), 1)
        m = aligned((rows, int(job["state_row"])), np.uint8)
        r = aligned((rows, int(job["h_row"]) + SPARE * tile.lanes * tile.dtype.itemsize), np.uint8)
        keep += [m, r]
        job["m"], job["r"], job["r_row"] = address(m), address(r), r.strides[0]


def _fill(job, tile, packed, rows, layout, keep):
    """Everything of a job but its share of the units and its place in the state buffers."""
    count = len(rows.lengths)
    chunk = fill(job, tile, packed, rows, layout, keep)
    whole = chunk > 1 or packed.norm is not None
    sums = packed.tiles * chunk * count if whole else min(count, GROUP)
    z = aligned((sums, 4 * tile.lanes), tile.dtype)
    times = np.empty(chunk * count, np.int64)
    keep += [z, times]
    job["z"], job["times"] = address(z), address(times)
    job["z_tile"] = chunk * count * 4 * tile.lanes * tile.dtype.itemsize if whole else 0
    if packed.norm is not None:
        beside = sums_beside(tile, packed.tiles, chunk * count)
        keep.append(beside)
        job["norm"] = address(norm_record(tile, packed.norm, keep, **beside.places))


def fill(job, tile, packed, rows, layout, keep):
    """What a job knows without its places in the state buffers and its sums; returns its steps to project at once."""
    count = len(rows.lengths)
    steps = int(rows.lengths[0]) if count else 0
    chunk = max(1, min(steps, CHUNK_ROWS // max(count, 1)))
    packed_x, cursors = aligned((chunk * count, packed.features), tile.dtype), np.zeros(count, np.int64)
    keep += [rows, packed_x, cursors]
    values = {
        "features": packed.features,
        "units": packed.units,
        "outputs": packed.outputs,
        "tiles": packed.tiles,
        "h_row": stride(packed.outputs, tile) * tile.dtype.itemsize,
        "state_row": stride(packed.units, tile) * tile.dtype.itemsize,
        "rows": count,
        "steps": steps,
        "padded_steps": layout.padded_steps,
        "chunk": chunk,
        "lengths": address(rows.lengths),
        "x_rows": address(rows.x),
        "y_rows": address(rows.y),
        **{
            field: 0 if table is None else address(table)
            for field, table in (("mask_rows", rows.mask), ("c_zones", rows.c_zones), ("h_zones", rows.h_zones))
        },
        "x_step": layout.x_step,
        "x_item": layout.x_item,
        "y_step": layout.y_step,
        "mask": layout.mask,
        "mask_step": layout.mask_step,
        "repeat_last": layout.repeat_last,
        "cursors": address(cursors),
        "packed_x": address(packed_x),
        "last_tile": packed.tiles,
        "workers": 1,
        **weight_fields(tile, packed, count, chunk, keep),
    }
    for name, value in values.items():
        job[name] = value
    return chunk
