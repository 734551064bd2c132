"""The recurrence on tiles, backward: every block gathers dh of its units from the dz of all units.

The numbers that dz depends on linearly do not depend on the cotangents; they are made while a block waits for others.
Exchange and products: `numbalstm.kernels.cuda.tiles`.
"""

from functools import cache

from numba import cuda, float32, uint32

from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.grid import POLLS
from numbalstm.kernels.cuda.kernel import Kernel, device
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.step_backward import make_coefficients
from numbalstm.kernels.cuda.tiles import arrive, await_all, copy_words, make_product, make_word, thread_sums
from numbalstm.kernels.cuda.tiling import THREADS, Tiling


@cache
def make_tiles_backward(options: Options, tiling: Tiling, mode: str) -> Kernel:
    """Return the backward kernel of a layout and a mode of `choice.MODES`.

    Blocks go over tiles of rows, tiles of units. Arguments: the transposed weights as `tiling.packed` packs them; the
    sums z (T, B, U, 4) and the c before each step; dy, its strides of rows and steps, first step that has one; mask
    (T, B), first counted step of each row; peepholes; factors of h (B, U); zoneout factors of c and h, each with its
    stride of steps; dh and dc, of the final states, replaced by those of the initial ones; dz (T, B, U, 4); exchange
    (2, rows of the blocks, words of a row); counters, zeros; trouble; B, U, T; first row of the launch.
    """
    bf16 = mode == "bf16"
    rows, tile_units, cells, depth = tiling.rows, tiling.units, tiling.cells, tiling.depth
    right_words, stay, staging = tiling.right_words, tiling.pieces > 0, tiling.staging
    slices, pitch, sums = tiling.slices, tiling.sum_pitch, thread_sums(tiling)
    slice_words = rows * pitch
    every, per_unit = cells * THREADS, 2 if bf16 else 4
    state, dc_at, passed_at = tiling.state, tiling.state + 8 * every, tiling.state + 9 * every
    product, word, coefficients = make_product(tiling, mode), make_word(mode), make_coefficients(options)
    masked, repeat, peephole, factors = options.masked, not options.zero_output, options.peephole, options.factors > 0
    zoneout_c, zoneout_h = options.zoneout

    @device
    def publish(exchange, at, z_i, z_f, z_g, z_o):
        if bf16:
            exchange[at], exchange[at + 1] = P.cvt_bf16x2(z_f, z_i), P.cvt_bf16x2(z_o, z_g)
        else:
            exchange[at], exchange[at + 1], exchange[at + 2], exchange[at + 3] = (
                word(z_i),
                word(z_f),
                word(z_g),
                word(z_o),
            )

    @device
    def arrived(floats, e, factor, at):
        """Return the cotangent of h that came through the step behind."""
        place = staging + e // tile_units * pitch + e % tile_units
        s = floats[place]
        for i in range(1, slices):
            s += floats[place + i * slice_words]
        return s * factor[at] if factors else s

    @device
    def prepare(
        floats,
        z,
        c_before,
        dy,
        dy_row,
        dy_step,
        dy_first,
        mask,
        first,
        peepholes,
        t,
        batch,
        units,
        row_start,
        unit0,
        tid,
    ):
        """Leave what a step's dz depends on, the cotangent of its output, and whether it counts."""
        for i in range(cells):
            e = tid + THREADS * i
            row, unit = row_start + e // tile_units, unit0 + e % tile_units
            if row < batch and unit < units:
                at = (t * batch + row) * units + unit
                v = P.ld_nc_v4(P.address(z, 4 * at))
                p_i = peepholes[unit] if peephole else float32(0.0)
                p_f = peepholes[units + unit] if peephole else float32(0.0)
                p_o = peepholes[2 * units + unit] if peephole else float32(0.0)
                found = coefficients(v[0], v[1], v[2], v[3], c_before[at], p_i, p_f, p_o)
                for k in range(6):
                    floats[state + k * every + e] = found[k]
                keep = not masked or mask[t * batch + row] != 0
                given = float32(0.0)
                if t >= dy_first and (keep or (repeat and t > first[row])):
                    given = dy[row * dy_row + t * dy_step + unit]
                floats[state + 6 * every + e] = given
                floats[state + 7 * every + e] = float32(1.0) if keep else float32(0.0)

    def tiles_backward(
        packed, z, c_before, dy, dy_row, dy_step, dy_first, mask, first, peepholes, factor, zone_c, zone_c_step,
        zone_h, zone_h_step, dh_state, dc_state, dz, exchange, counters, trouble, batch, units, steps, row0,
    ):  # fmt: skip
        floats = cuda.shared.array(0, float32, alignment=16)
        words = cuda.shared.array(0, uint32, alignment=16)
        acc = cuda.local.array(sums, float32)
        tid = cuda.threadIdx.x
        across = (units + tile_units - 1) // tile_units
        unit0 = cuda.blockIdx.x % across * tile_units
        tile = cuda.blockIdx.x // across
        row_start = row0 + tile * rows
        width = across * tile_units * per_unit
        source = tile * rows * width
        buffer = cuda.gridDim.x // across * rows * width
        weights = cuda.blockIdx.x % across * ((width + depth - 1) // depth) * right_words
        if stay:
            copy_words(words, 0, packed, weights, (width + depth - 1) // depth * right_words, tid)
        for i in range(cells):
            e = tid + THREADS * i
            row, unit = row_start + e // tile_units, unit0 + e % tile_units
            live = row < batch and unit < units
            floats[dc_at + e] = dc_state[row * units + unit] if live else float32(0.0)
            floats[passed_at + e] = dh_state[row * units + unit] if live else float32(0.0)
        patience = POLLS
        for step in range(steps + 1):
            t = steps - 1 - step
            if t >= 0:
                prepare(
                    floats, z, c_before, dy, dy_row, dy_step, dy_first, mask, first, peepholes, t, batch, units,
                    row_start, unit0, tid,
                )  # fmt: skip
            if step > 0:
                patience = await_all(counters, tile, uint32(step * across), patience, trouble, tid)
                at = source + (1 - (step & 1)) * buffer
                product(floats, words, exchange, at, width, packed, weights, acc, tid)
            for i in range(cells):
                e = tid + THREADS * i
                r, unit = e // tile_units, unit0 + e % tile_units
                row = row_start + r
                live = row < batch and unit < units
                at = row * units + unit
                dh = dc = z_i = z_f = z_g = z_o = float32(0.0)
                if live:
                    dh, dc = floats[passed_at + e], floats[dc_at + e]
                    if step > 0:
                        dh += arrived(floats, e, factor, at)
                if live and t >= 0:
                    dh += floats[state + 6 * every + e]
                    passed = dh
                    if not masked or floats[state + 7 * every + e] != float32(0.0):
                        passed = through = float32(0.0)
                        if zoneout_h:
                            zone = zone_h[t * zone_h_step + at]
                            passed = zone * dh
                            dh *= float32(1.0) - zone
                        if zoneout_c:
                            zone = zone_c[t * zone_c_step + at]
                            through = zone * dc
                            dc *= float32(1.0) - zone
                        dc += dh * floats[state + every + e]
                        z_i, z_f = dc * floats[state + 2 * every + e], dc * floats[state + 3 * every + e]
                        z_g, z_o = dc * floats[state + 4 * every + e], dh * floats[state + e]
                        dc = through + dc * floats[state + 5 * every + e]
                    floats[passed_at + e], floats[dc_at + e] = passed, dc
                    P.st_v4(P.address(dz, (t * batch * units + at) * 4), z_i, z_f, z_g, z_o)
                if t >= 0:
                    publish(exchange, source + (step & 1) * buffer + r * width + unit * per_unit, z_i, z_f, z_g, z_o)
                elif live:
                    dh_state[at], dc_state[at] = dh, dc
            if t >= 0:
                arrive(counters, tile, tid)

    arguments = "URRRlliBIRRRlRlRRRUUIiiii"
    return Kernel(
        "tiles_backward", (*options, *tiling, mode), tiles_backward, arguments, THREADS, tiling.shared, cooperative=True
    )
