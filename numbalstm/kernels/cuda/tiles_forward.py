"""The recurrence on tiles, forward: for batches of any size. Exchange and products: `numbalstm.kernels.cuda.tiles`."""

from functools import cache

from numba import cuda, float32, uint32

from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.cell import make_cell
from numbalstm.kernels.cuda.grid import ALL, POLLS
from numbalstm.kernels.cuda.kernel import Kernel, device
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.step import make_finish
from numbalstm.kernels.cuda.tiles import arrive, await_all, copy_words, make_product, make_word, thread_sums
from numbalstm.kernels.cuda.tiling import THREADS, Tiling


@cache
def make_tiles(options: Options, tiling: Tiling, mode: str) -> Kernel:
    """Return the forward kernel of a layout and a mode of `choice.MODES`.

    Blocks go over tiles of rows, tiles of units. Arguments: xw (T, B, U, 4), replaced by the gates' sums when these are
    recorded; the weights as `tiling.packed` packs them; h and c before; h and c after, each step's when recorded; y,
    its strides of rows and steps, first step written; mask (T, B), first counted step of each row, number of the first
    step; peepholes; factors of h (B, U); zoneout factors of c and h, each with its stride of steps; exchange (2, rows
    of the blocks, words of a row); counters, zeros; trouble; B, U, T; first row of the launch.
    """
    bf16, fast = mode == "bf16", mode == "fp32-fast"
    rows, tile_units, cells, depth = tiling.rows, tiling.units, tiling.cells, tiling.depth
    right_words, stay, staging = tiling.right_words, tiling.pieces > 0, tiling.staging
    slices, pitch, sums = tiling.slices, tiling.sum_pitch, thread_sums(tiling)
    slice_words = rows * pitch
    x_at = tiling.state
    c_at = x_at + 4 * cells * THREADS
    h_at = c_at + cells * THREADS
    per_word = 2 if bf16 else 1
    product, word, cell = make_product(tiling, mode), make_word(mode), make_cell(options, fast)
    finish = make_finish(options)
    masked, record, peephole, factors = options.masked, options.record, options.peephole, options.factors > 0
    zoneout_c, zoneout_h = options.zoneout

    @device
    def publish(exchange, at, unit, h):
        """Store h of a unit, rounded, where a row of a buffer begins at `at`; neighbouring lanes have neighbours."""
        if bf16:
            other = cuda.shfl_xor_sync(ALL, h, 1)
            if (unit & 1) == 0:
                exchange[at + (unit >> 1)] = P.cvt_bf16x2(other, h)
        else:
            exchange[at + unit] = word(h)

    @device
    def fetch_sums(floats, e, xw, place, live):
        """Start the copy of a unit's four products of the input; only this thread will look at them."""
        P.cp_async16(
            P.shared_address(floats, x_at + 4 * e), P.address(xw, 4 * place if live else 0), uint32(16 if live else 0)
        )

    def tiles(
        xw, packed, h_in, c_in, h_out, c_out, y, y_row, y_step, y_first, mask, first, start, peepholes, factor,
        zone_c, zone_c_step, zone_h, zone_h_step, exchange, counters, trouble, batch, units, steps, row0,
    ):  # fmt: skip
        floats = cuda.shared.array(0, float32, alignment=16)
        words = cuda.shared.array(0, uint32, alignment=16)
        acc = cuda.local.array(sums, float32)
        tid = cuda.threadIdx.x
        across = (units + tile_units - 1) // tile_units
        unit0 = cuda.blockIdx.x % across * tile_units
        tile = cuda.blockIdx.x // across
        width = across * tile_units // per_word
        source = tile * rows * width  # the block's rows in a buffer
        buffer = cuda.gridDim.x // across * rows * width
        weights = cuda.blockIdx.x % across * ((width + depth - 1) // depth) * right_words
        if stay:
            copy_words(words, 0, packed, weights, (width + depth - 1) // depth * right_words, tid)
        for i in range(cells):
            e = tid + THREADS * i
            r, unit = e // tile_units, unit0 + e % tile_units
            row = row0 + tile * rows + r
            live = row < batch and unit < units
            at = row * units + unit
            h = h_in[at] if live else float32(0.0)
            floats[h_at + e] = h
            floats[c_at + e] = c_in[at] if live else float32(0.0)
            if factors and live:
                h *= factor[at]
            publish(exchange, source + r * width, unit, h)
            fetch_sums(floats, e, xw, at, live)
        arrive(counters, tile, tid)
        patience = POLLS
        for t in range(steps):
            more = t + 1 < steps
            patience = await_all(counters, tile, uint32((t + 1) * across), patience, trouble, tid)
            product(floats, words, exchange, source + (t & 1) * buffer, width, packed, weights, acc, tid)
            for i in range(cells):
                e = tid + THREADS * i
                r, unit = e // tile_units, unit0 + e % tile_units
                row = row0 + tile * rows + r
                live = row < batch and unit < units
                at = row * units + unit
                z = P.lds_v4(P.shared_address(floats, x_at + 4 * e))
                z_i, z_f, z_g, z_o = z[0], z[1], z[2], z[3]
                place = staging + r * pitch + 4 * (e % tile_units)
                for s in range(slices):
                    v = P.lds_v4(P.shared_address(floats, place + s * slice_words))
                    z_i += v[0]
                    z_f += v[1]
                    z_g += v[2]
                    z_o += v[3]
                p_i = peepholes[unit] if peephole and live else float32(0.0)
                p_f = peepholes[units + unit] if peephole and live else float32(0.0)
                p_o = peepholes[2 * units + unit] if peephole and live else float32(0.0)
                old = floats[c_at + e]
                z_i, z_f, z_o, h, c = cell(z_i, z_f, z_g, z_o, old, p_i, p_f, p_o)
                if zoneout_c and live:
                    zone = zone_c[t * zone_c_step + at]
                    c = zone * old + (float32(1.0) - zone) * c
                keep = not masked or (live and mask[t * batch + row] != 0)
                seen = masked and live and start + t > first[row]
                zone = zone_h[t * zone_h_step + at] if zoneout_h and live else float32(0.0)
                h, out = finish(h, floats[h_at + e], keep, seen, zone)
                c = c if keep else old
                if not live:
                    h = float32(0.0)  # what others multiply with zeros must be finite
                floats[c_at + e] = c
                floats[h_at + e] = h
                if more:
                    sent = h * factor[at] if factors and live else h
                    publish(exchange, source + (1 - (t & 1)) * buffer + r * width, unit, sent)
                    fetch_sums(floats, e, xw, (t + 1) * batch * units + at, live)
                if live:
                    if record:
                        P.st_v4(P.address(xw, (t * batch * units + at) * 4), z_i, z_f, z_g, z_o)
                    if record or not more:
                        to = t * batch * units + at if record else at
                        h_out[to] = h
                        c_out[to] = c
                    if t >= y_first:
                        y[row * y_row + t * y_step + unit] = out
            if more:
                arrive(counters, tile, tid)

    arguments = "RURRRRRlliBIiRRRlRlUUIiiii"
    return Kernel("tiles", (*options, *tiling, mode), tiles, arguments, THREADS, tiling.shared, cooperative=True)
