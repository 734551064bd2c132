"""How a forward pass is cut into jobs for threads, and the buffers that the jobs share."""

from typing import NamedTuple

import numpy as np

from numbalstm.kernels.cpu.amx import ROWS as AMX_ROWS
from numbalstm.kernels.cpu.amx import STEP as AMX_STEP
from numbalstm.kernels.cpu.amx import configuration
from numbalstm.kernels.cpu.barrier import LINE
from numbalstm.kernels.cpu.forward import GROUP
from numbalstm.kernels.cpu.job import JOB
from numbalstm.kernels.cpu.packing import aligned
from numbalstm.kernels.simd import Tile

# The cost model, in cycles of a core with two multiply-add pipes: relative weights are all that matters.
ROW_CYCLES = 2.0  # four vector multiply-adds: one row of a tile for one k
LOAD_CYCLES = 5.0  # the four weight vectors of one k from the second-level cache
CELL_CYCLES = 70.0  # the activations of one row of a tile
BARRIER_CYCLES = 900.0
FORK_CYCLES = 50000.0  # starting and joining the threads once, sleeping ones included
CHUNK_ROWS = 96  # rows of a projected chunk: its packed inputs and sums stay in the second-level cache


class Rows(NamedTuple):
    """Where each row of the batch is, longest first. Offsets are bytes from the x, y and mask given to the kernel."""

    lengths: np.ndarray  # int64 (B,): real timesteps
    x: np.ndarray  # int64 (B,)
    y: np.ndarray  # int64 (B,)
    mask: np.ndarray | None  # int64 (B,)

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


class Plan(NamedTuple):
    """Jobs ready to run, and what they write: h (2, B, stride) and c (B, stride), rows in the order of `Rows`."""

    jobs: np.ndarray
    h: np.ndarray
    c: np.ndarray
    flags: np.ndarray | None  # of the barrier where units are shared
    keep: list  # everything the jobs point to


def address(array):
    """First byte of an array."""
    return array.__array_interface__["data"][0]


def _matrix_cycles(rows, tiles, depth):
    """Multiplying `rows` rows into `tiles` tiles of weights of that depth once."""
    return tiles * depth * max(ROW_CYCLES * rows, LOAD_CYCLES)


def split(rows, steps, tiles, packed, threads):
    """(workers, share_units): how many threads, and whether they share the units instead of the rows."""

    def step(rows, tiles):
        recurrent = _matrix_cycles(rows, tiles, packed.units)
        return recurrent + tiles * rows * (CELL_CYCLES + ROW_CYCLES * packed.features)

    serial = steps * step(rows, tiles)
    best, choice = serial, (1, False)
    for workers in {2, threads} if threads > 1 else ():
        if rows >= workers:
            by_rows = FORK_CYCLES + steps * step(-(-rows // workers), tiles)
            best, choice = min((best, choice), (by_rows, (workers, False)))
        if tiles >= workers:
            by_units = FORK_CYCLES + steps * (step(rows, -(-tiles // workers)) + BARRIER_CYCLES)
            best, choice = min((best, choice), (by_units, (workers, True)))
    return choice


def build(tile: Tile, packed: Packed, rows: Rows, layout: Layout, codes: tuple[int, int], threads: int) -> Plan:
    """Cut the work and allocate what it needs."""
    count = len(rows.lengths)
    steps = int(rows.lengths[0]) if count else 0
    tiles = packed.kernel.shape[0]
    workers, share_units = split(count, steps, tiles, packed, threads)
    stride = tiles * tile.lanes
    h, c = aligned((2, count, stride), tile.dtype), aligned((count, stride), tile.dtype)
    flags = aligned((workers + 1, LINE // 8), np.int64) if share_units else None
    jobs, keep = np.zeros(workers, JOB), [packed, h, c, flags]
    # ragged rows are dealt out like cards, so that every worker gets long ones and short ones
    ragged = count > 0 and rows.lengths[-1] != steps
    row_bytes = stride * tile.dtype.itemsize
    start = 0
    for worker, job in enumerate(jobs):
        mine = rows
        if workers > 1 and not share_units:
            mine = (
                rows[worker::workers] if ragged else rows[count * worker // workers : count * (worker + 1) // workers]
            )
        _fill(job, tile, packed, mine, layout, keep)
        job["h"], job["h_other"] = address(h[0]) + start * row_bytes, address(h[1]) + start * row_bytes
        job["c"] = address(c) + start * row_bytes
        job["last_tile"] = tiles
        if share_units:
            job["first_tile"], job["last_tile"] = tiles * worker // workers, tiles * (worker + 1) // workers
            job["barrier"], job["worker"], job["workers"] = address(flags), worker, workers
        else:
            start += len(mine.lengths)
        job["activation"], job["recurrent_activation"] = codes
    return Plan(jobs, h, c, flags, keep)


def dealt_order(count, plan, ragged):
    """Position in the state buffers of each of the sorted rows."""
    workers = len(plan.jobs)
    if plan.flags is not None or workers == 1 or not ragged:
        return np.arange(count)
    order = np.concatenate([np.arange(worker, count, workers) for worker in range(workers)])
    return np.argsort(order)


def _fill(job, tile, packed, rows, layout, keep):
    """Everything of a job but its share of the units and its place in the state buffers."""
    count = len(rows.lengths)
    steps = int(rows.lengths[0]) if count else 0
    chunk = max(1, min(steps, CHUNK_ROWS // max(count, 1)))
    tiles = packed.kernel.shape[0]
    packed_x = aligned((chunk * count, packed.features), tile.dtype)
    sums = tiles * chunk * count if chunk > 1 else min(count, GROUP)
    # AMX blocks read 15 rows behind the last one, and write them back
    z = aligned((sums + AMX_ROWS - 1, 4 * tile.lanes), tile.dtype)
    z[-AMX_ROWS:] = 0
    cursors, times = np.zeros(count, np.int64), np.empty(chunk * count, np.int64)
    keep += [rows, packed_x, z, cursors, times]
    values = {
        "features": packed.features,
        "units": packed.units,
        "tiles": packed.kernel.shape[0],
        "rows": count,
        "steps": steps,
        "padded_steps": layout.padded_steps,
        "chunk": chunk,
        "lengths": address(rows.lengths),
        "x_rows": address(rows.x),
        "y_rows": address(rows.y),
        "mask_rows": 0 if rows.mask is None else address(rows.mask),
        "x_step": layout.x_step,
        "x_item": layout.x_item,
        "y_step": layout.y_step,
        "mask": layout.mask,
        "mask_step": layout.mask_step,
        "repeat_last": layout.repeat_last,
        "cursors": address(cursors),
        "times": address(times),
        "kernel": address(packed.kernel),
        "recurrent_kernel": address(packed.recurrent_kernel),
        "bias": address(packed.bias),
        "packed_x": address(packed_x),
        "z": address(z),
        "workers": 1,
    }
    for matrix in ("kernel", "recurrent"):
        columns = getattr(packed, f"{matrix}_columns")
        if columns is not None:
            values[f"{matrix}_columns"] = address(columns)
    if tile.weights == "int8 dot":
        values |= quantised_rows(tile, packed, count, chunk, keep)
    if tile.weights == "bfloat16 amx":
        values |= rounded_rows(packed, count, chunk, keep)
    for name, value in values.items():
        job[name] = value


def quantised_rows(tile, packed, count, chunk, keep):
    """Buffers of the left operands of int8 products; whole vectors are written to each row."""

    def room(rows, width):
        octets = aligned((rows, -(-width // tile.lanes) * tile.lanes), np.uint8)
        scales = aligned((rows,), np.float32)
        keep.extend((octets, scales))
        return address(octets), address(scales)

    values = {}
    for name in ("x_high", "x_low"):
        values[name], values[f"{name}_scales"] = room(chunk * count, packed.features)
    values["h_narrow"], values["h_scales"] = room(count, packed.units)
    return values


def rounded_rows(packed, count, chunk, keep):
    """Buffers of the left operands of AMX products, and the set-up of its registers."""

    def room(rows, width):
        whole_rows, whole_steps = -(-rows // AMX_ROWS) * AMX_ROWS, -(-width // AMX_STEP) * AMX_STEP
        keep.append(aligned((whole_rows, whole_steps), np.uint16))
        return address(keep[-1])

    values = {"x_high": room(chunk * count, packed.features), "h_narrow": room(count, packed.units)}
    keep.append(configuration())
    return values | {"registers": address(keep[-1])}
