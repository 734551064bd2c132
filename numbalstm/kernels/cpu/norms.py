"""Statistics of the rows of a layer-normalised LSTM, and what both its passes make of them.

A sum over a row runs over its tiles in their order, gate by gate, and then over the lanes by halves: the bits of a row
depend on nothing else. What fills up the last tile is left out.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.cpu.gates import Spot, new_state
from numbalstm.kernels.cpu.norm_job import KEPT
from numbalstm.kernels.linked import linked
from numbalstm.kernels.memory import item_size, keep_first, lane_count, load, load_scalar, splat, store
from numbalstm.kernels.simd import FLOAT, I32, SUFFIX, broadcast, fma

MEAN, SCALE = 0, 1  # which of the vectors of a row of scratch: of the new states


def _mean(builder, value, count, context, tile):
    """The sum of all lanes over a count, a scalar."""
    lanes = tile.lanes
    undefined = ir.Constant(value.type, ir.Undefined)
    while lanes > 1:
        lanes //= 2
        halves = [
            builder.shuffle_vector(value, undefined, ir.Constant(ir.VectorType(I32, lanes), list(range(start, stop))))
            for start, stop in ((0, lanes), (lanes, 2 * lanes))
        ]
        value, undefined = builder.fadd(*halves), ir.Constant(halves[0].type, ir.Undefined)
    total = builder.extract_element(value, I32(0))
    return builder.fdiv(total, context.cast(builder, count, types.float64, tile.dtype))


@intrinsic
def mean_of(typingctx, tile, sums, count):
    """The sum of all lanes over a count, in every lane."""

    def codegen(context, builder, sig, args):
        return broadcast(builder, _mean(builder, args[1], args[2], context, tile), tile.vector)

    return tile.vector(tile, tile.vector, types.float64), codegen


@intrinsic
def scale_of(typingctx, tile, squares, count, epsilon):
    """1 / sqrt(mean + epsilon) of the mean of all lanes, in every lane."""

    def codegen(context, builder, sig, args):
        kind = FLOAT[tile.dtype]
        variance = _mean(builder, args[1], args[2], context, tile)
        shifted = builder.fadd(variance, context.cast(builder, args[3], types.float64, tile.dtype))
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind]), f"llvm.sqrt.{SUFFIX[tile.dtype]}"
        )
        return broadcast(builder, builder.fdiv(kind(1.0), builder.call(function, [shifted])), tile.vector)

    return tile.vector(tile, tile.vector, types.float64, types.float64), codegen


@linked
def deviate(tile, job, norm, sums):
    """Make a row of sums, tiles z_tile apart, its deviations from the mean; returns their scale, in every lane."""
    width = lane_count(tile) * item_size(tile)
    i, f = splat(tile, 0.0), splat(tile, 0.0)
    g, o = splat(tile, 0.0), splat(tile, 0.0)
    for n in range(job.tiles):
        at = sums + n * job.z_tile
        i, f = i + load(tile, at), f + load(tile, at + width)
        g, o = g + load(tile, at + 2 * width), o + load(tile, at + 3 * width)
    mean = mean_of(tile, (i + f) + (g + o), norm.columns)
    i, f = splat(tile, 0.0), splat(tile, 0.0)
    g, o = splat(tile, 0.0), splat(tile, 0.0)
    left = job.units
    for n in range(job.tiles):
        at = sums + n * job.z_tile
        d_i, d_f = keep_first(tile, load(tile, at) - mean, left), keep_first(tile, load(tile, at + width) - mean, left)
        d_g = keep_first(tile, load(tile, at + 2 * width) - mean, left)
        d_o = keep_first(tile, load(tile, at + 3 * width) - mean, left)
        store(tile, at, d_i)
        store(tile, at + width, d_f)
        store(tile, at + 2 * width, d_g)
        store(tile, at + 3 * width, d_o)
        i, f, g, o = fma(d_i, d_i, i), fma(d_f, d_f, f), fma(d_g, d_g, g), fma(d_o, d_o, o)
        left -= lane_count(tile)
    return scale_of(tile, (i + f) + (g + o), norm.columns, norm.epsilon)


@linked
def scratch_row(tile, job):
    """Bytes of a row of scratch: sums (tiles, 4, lanes), new states (tiles * lanes), and KEPT vectors."""
    return 5 * job.state_row + KEPT * lane_count(tile) * item_size(tile)


@linked
def kept_at(tile, job, scratch, number):
    """Where a row of scratch has one of its vectors."""
    return scratch + 5 * job.state_row + number * lane_count(tile) * item_size(tile)


@linked
def sums_and_states(tile, job, norm, row, time, place, h_place, c, scratch):
    """N3 of one row, from the rows of its sums in z and h_sums and the address of its states, to a row of scratch."""
    width, item = lane_count(tile) * item_size(tile), item_size(tile)
    x, h = job.z + place * 4 * width, norm.h_sums + h_place * 4 * width
    x_scale = splat(tile, load_scalar(tile, norm.x_scales + place * item))
    h_scale = splat(tile, load_scalar(tile, norm.h_scales + h_place * item))
    total, left, states = splat(tile, 0.0), job.units, scratch + 4 * job.state_row
    for n in range(job.tiles):
        for at in range(n * 4 * width, (n + 1) * 4 * width, width):
            tile_at = n * (job.z_tile - 4 * width) + at
            recurrent = load(tile, h + tile_at) * h_scale
            value = fma(recurrent, load(tile, norm.recurrent_gamma + at), load(tile, norm.constant + at))
            inputs = load(tile, x + tile_at) * x_scale
            store(tile, scratch + at, fma(inputs, load(tile, norm.kernel_gamma + at), value))
        spot = Spot(row, time, n * width, left)
        s = new_state(tile, job, spot, scratch + n * 4 * width, load(tile, c + n * width))
        store(tile, states + n * width, s)
        total = total + keep_first(tile, s, left)
        left -= lane_count(tile)
    store(tile, kept_at(tile, job, scratch, MEAN), mean_of(tile, total, norm.units))


@linked
def scale_states(tile, job, norm, scratch):
    """What the deviations of the new states of a row are multiplied with."""
    width, states = lane_count(tile) * item_size(tile), scratch + 4 * job.state_row
    mean = load(tile, kept_at(tile, job, scratch, MEAN))
    total, left = splat(tile, 0.0), job.units
    for at in range(0, job.state_row, width):
        deviation = keep_first(tile, load(tile, states + at) - mean, left)
        total = fma(deviation, deviation, total)
        left -= lane_count(tile)
    store(tile, kept_at(tile, job, scratch, SCALE), scale_of(tile, total, norm.units, norm.epsilon))


@linked
def normalised_state(tile, job, scratch, at):
    """The normalised new states of a tile, before gamma and beta."""
    mean = load(tile, kept_at(tile, job, scratch, MEAN))
    return (load(tile, scratch + 4 * job.state_row + at) - mean) * load(tile, kept_at(tile, job, scratch, SCALE))


@linked
def seen_state(tile, norm, at, normalised):
    """What the output sees of the states of a tile."""
    return fma(normalised, load(tile, norm.cell_gamma + at), load(tile, norm.cell_beta + at))
