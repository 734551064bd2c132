"""Dropout with factors of its own for each gate: x and h are multiplied gate by gate before the products."""

from numbalstm.kernels.cpu.blocks import gate_panel
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import item_size, lane_count, load, load_scalar, store_interleaved, store_scalar


def keep_factors(tile, job, packed, row):
    """Multiply a packed input by its row's factors, where there are any."""


@linked
def _by_gate(tile, source, factors, step, target, count):
    """`count` values times their factors, `step` bytes from one gate to the next, to [value][gate]."""
    lanes, item = lane_count(tile), item_size(tile)
    n = 0
    while count - n >= lanes:
        value, at = load(tile, source + n * item), factors + n * item
        i, f = value * load(tile, at), value * load(tile, at + step)
        g, o = value * load(tile, at + 2 * step), value * load(tile, at + 3 * step)
        store_interleaved(tile, target + 4 * n * item, i, f, g, o)
        n += lanes
    for k in range(n, count):
        for gate in range(4):
            factor = load_scalar(tile, factors + gate * step + k * item)
            store_scalar(tile, target + (4 * k + gate) * item, load_scalar(tile, source + k * item) * factor)


@linked
def _x_by_gate(tile, job, packed, row):
    x_row = job.features * item_size(tile)
    source, target = job.packed_x + packed * x_row, job.x_gates + packed * 4 * x_row
    _by_gate(tile, source, job.x_factors + 4 * row * x_row, x_row, target, job.features)


@overload(keep_factors)
def _keep_factors(tile, job, packed, row):
    if tile.dropout:
        return lambda tile, job, packed, row: _x_by_gate(tile, job, packed, row)
    return lambda tile, job, packed, row: None


@linked
def h_by_gate(tile, job, h, rows):
    """The states times their factors, [row][unit][gate]."""
    for row in range(rows):
        at = 4 * row * job.h_row
        width = job.h_row // item_size(tile)
        _by_gate(tile, h + row * job.h_row, job.h_factors + at, job.h_row, job.h_gates + at, width)


@linked
def project_by_gate(tile, job, n, z, first, rows):
    """F1's product for one tile and the packed inputs from `first` on."""
    width = lane_count(tile) * item_size(tile)
    row = job.features * item_size(tile)
    weights = job.kernel + n * job.features * 4 * width
    gate_panel(tile, rows, job.x_gates + first * 4 * row, 4 * row, weights, job.features, z, 4 * width)


@linked
def recur_by_gate(tile, job, n, h, z, first, rows):
    """F2 for one tile and the rows from `first` on."""
    width = lane_count(tile) * item_size(tile)
    row = job.h_row
    weights = job.recurrent_kernel + n * job.outputs * 4 * width
    gate_panel(tile, rows, job.h_gates + first * 4 * row, 4 * row, weights, job.outputs, z, 4 * width)
