"""Dropout with factors of its own for each gate: the products run gate by gate, from x or h times that gate's factors.

A block is one gate of up to four tiles, so its rows share their left operand as they do without dropout. Weights are
packed by `packing.pack_by_gate`.
"""

from numbalstm.kernels.cpu.blocks import gate_panel
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import item_size, lane_count, load, load_some, store, store_some

GATES = 4
TOGETHER = 4  # tiles whose weights of one gate lie side by side


@linked
def times(tile, source, factors, target, count):
    """`count` values times their factors."""
    item = item_size(tile)
    for n in range(0, count, lane_count(tile)):
        left = count - n
        value = load_some(tile, source + n * item, left) * load_some(tile, factors + n * item, left)
        store_some(tile, target + n * item, value, left)


def keep_factors(tile, job, packed, row):
    """Multiply a packed input by its row's factors, where there are any."""


@overload(keep_factors)
def _keep_factors(tile, job, packed, row):
    if tile.dropout:
        return lambda tile, job, packed, row: _x_by_gate(tile, job, packed, row)
    return lambda tile, job, packed, row: None


@linked
def add_times(tile, source, factors, target, count):
    """Add `count` values times their factors; target has room for whole vectors."""
    item = item_size(tile)
    for n in range(0, count, lane_count(tile)):
        factor = load_some(tile, factors + n * item, count - n)
        store(tile, target + n * item, load(tile, target + n * item) + factor * load(tile, source + n * item))


@linked
def _x_by_gate(tile, job, packed, row):
    if job.x_factors != 0:
        x_row = job.features * item_size(tile)
        for gate in range(GATES):
            factors = job.x_factors + (GATES * row + gate) * x_row
            target = job.x_gates + gate * x_plane(tile, job) + packed * x_row
            times(tile, job.packed_x + packed * x_row, factors, target, job.features)


@linked
def x_plane(tile, job):
    """Bytes from one gate's inputs to the next one's."""
    return job.chunk * job.rows * job.features * item_size(tile)


@linked
def tiles_together(job, n):
    """How many tiles from `n` on, of this worker's, are of one group."""
    return min(TOGETHER - n % TOGETHER, job.last_tile - n)


@linked
def _products(tile, job, n, count, a, lda, plane, weights, k, z, rows, start, start_row, start_tile):
    """z = start + a w for `count` tiles of a group, of which n is the first, gate by gate; z: tile n's sums."""
    width = lane_count(tile) * item_size(tile)
    groups = (job.tiles + TOGETHER - 1) // TOGETHER
    for gate in range(GATES):
        left, w = a + gate * plane, weights + ((gate * groups + n // TOGETHER) * k * TOGETHER + n % TOGETHER) * width
        at = gate * width
        gate_panel(
            tile,
            rows,
            count,
            left,
            lda,
            w,
            k,
            z + at,
            GATES * width,
            job.z_tile,
            start + at,
            start_row,
            start_tile,
            z + gate % count * job.z_tile if start_row == 0 else w + k * TOGETHER * width,  # a tape is in no cache yet
        )


@linked
def begin_by_gate(tile, job, n, count, z, first, rows):
    """F1 for `count` tiles of a group, of which n is the first, and the packed inputs from `first` on."""
    x_row, row = job.features * item_size(tile), GATES * lane_count(tile) * item_size(tile)
    a, plane = (job.x_gates, x_plane(tile, job)) if job.x_factors != 0 else (job.packed_x, 0)
    a, bias = a + first * x_row, job.bias + n * row
    _products(tile, job, n, count, a, x_row, plane, job.kernel, job.features, z, rows, bias, 0, row)


@linked
def h_by_gate(tile, job, h, first, rows):
    """Where the states of some rows times their factors are, and the bytes from one gate's to the next one's."""
    h += first * job.h_row
    if job.h_factors == 0:
        return h, 0
    plane = rows * job.h_row
    for row in range(rows):
        for gate in range(GATES):
            factors = job.h_factors + (GATES * (first + row) + gate) * job.h_row
            target = job.h_gates + gate * plane + row * job.h_row
            times(tile, h + row * job.h_row, factors, target, job.h_row // item_size(tile))
    return job.h_gates, plane


@linked
def recur_by_gate(tile, job, n, count, h, plane, z, rows):
    """F2 for `count` tiles of a group, of which n is the first."""
    h_row, row, z_tile = job.h_row, GATES * lane_count(tile) * item_size(tile), job.z_tile
    _products(tile, job, n, count, h, h_row, plane, job.recurrent_kernel, job.outputs, z, rows, z, row, z_tile)
