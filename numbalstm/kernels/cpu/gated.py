"""Dropout with factors of its own for each gate: x and h are multiplied gate by gate before the products."""

from numbalstm.kernels.cpu.blocks import gate_panel
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import item_size, lane_count, load, load_scalar, store, store_scalar


def keep_factors(tile, job, packed, row):
    """Multiply a packed input by its row's factors, where there are any."""


@linked
def _x_by_gate(tile, job, packed, row):
    item = item_size(tile)
    source = job.packed_x + packed * job.features * item
    for gate in range(4):
        factors = job.x_factors + (4 * row + gate) * job.features * item
        target = job.x_gates + (4 * packed + gate) * job.features * item
        for n in range(0, job.features * item, item):
            store_scalar(tile, target + n, load_scalar(tile, source + n) * load_scalar(tile, factors + n))


@overload(keep_factors)
def _keep_factors(tile, job, packed, row):
    if tile.dropout:
        return lambda tile, job, packed, row: _x_by_gate(tile, job, packed, row)
    return lambda tile, job, packed, row: None


@linked
def h_by_gate(tile, job, h, rows):
    """The states times their factors, [row][gate][unit]."""
    width = lane_count(tile) * item_size(tile)
    stride = job.h_row
    for row in range(rows):
        for gate in range(4):
            at = (4 * row + gate) * stride
            for n in range(0, stride, width):
                product = load(tile, h + row * stride + n) * load(tile, job.h_factors + at + n)
                store(tile, job.h_gates + at + n, product)


@linked
def project_by_gate(tile, job, n, z, first, rows):
    """F1's product for one tile and the packed inputs from `first` on."""
    width = lane_count(tile) * item_size(tile)
    plane = job.features * item_size(tile)
    weights = job.kernel + n * job.features * 4 * width
    gate_panel(tile, rows, job.x_gates + first * 4 * plane, 4 * plane, plane, weights, job.features, z, 4 * width)


@linked
def recur_by_gate(tile, job, n, h, z, first, rows):
    """F2 for one tile and the rows from `first` on."""
    width = lane_count(tile) * item_size(tile)
    plane = job.h_row
    weights = job.recurrent_kernel + n * job.outputs * 4 * width
    gate_panel(tile, rows, job.h_gates + first * 4 * plane, 4 * plane, plane, weights, job.outputs, z, 4 * width)
