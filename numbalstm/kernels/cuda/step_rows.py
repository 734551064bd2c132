"""Forward kernels of one step whose units depend on their whole row: layer normalisation, softmax and its like.

A step is the recurrent product, then a block for each row (`numbalstm.kernels.cuda.rows`), then the projection of
`numbalstm.kernels.cuda.step`, whose arrays and options these have too.
"""

from functools import cache

from numba import cuda

from numbalstm.kernels.cuda.dot import Tile, make_dot
from numbalstm.kernels.cuda.kernel import ELEMENTS, Kernel
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.rows import make_row_activation, make_standardise
from numbalstm.kernels.cuda.step import make_clip, make_finish


@cache
def make_recurrent(options: Options, tile: Tile = Tile()) -> Kernel:  # noqa: B008 - a tuple
    """Return the kernel of the recurrent product alone. Arguments: h, ut, factors of h, products (B, U, 4); B, U, P."""
    element, rows, columns = options.element, tile.rows, tile.columns
    real = ELEMENTS[element]
    dot = make_dot(
        element, tile, gates=4, left_gates=max(1, options.factors), factors=options.factors > 0, depth_first=True
    )

    def recurrent(h, ut, factors, products, batch, units, width):
        acc = cuda.local.array(4, real)
        across = (units + columns - 1) // columns
        row0 = cuda.blockIdx.x // across * rows
        column0 = cuda.blockIdx.x % across * columns
        dot(h, width, 1, 0, factors, ut, 4 * width, 1, width, row0, column0, batch, units, width, acc)
        row = row0 + cuda.threadIdx.x // columns
        unit = column0 + cuda.threadIdx.x % columns
        if row < batch and unit < units:
            for g in range(4):
                products[4 * (row * units + unit) + g] = acc[g]

    return Kernel("recurrent", (element, options.factors, *tile), recurrent, "RRRRiii", tile.threads)


@cache
def make_normalise(element: str, epsilon: float, keep: bool, threads: int) -> Kernel:
    """Return the kernel that normalises rows of the gates' products: v becomes gamma LN(v) + shift.

    Arguments: v (rows, U, 4); gamma, shift (U, 4); where to keep LN(v), and what its deviations were multiplied with
    (rows,); U. A block for each row.
    """
    real, standardise = ELEMENTS[element], make_standardise(element, threads, 4, epsilon)

    def normalise(values, gamma, shift, standard, scales, units):
        shared = cuda.shared.array(threads, real)
        tid, row = cuda.threadIdx.x, cuda.blockIdx.x
        at = 4 * row * units
        scale = standardise(values, at, units, shared, tid)
        if keep and tid == 0:
            scales[row] = scale
        for u in range(tid, units, threads):
            for e in range(4 * u, 4 * u + 4):
                if keep:
                    standard[at + e] = values[at + e]
                values[at + e] = gamma[e] * values[at + e] + shift[e]

    return Kernel("normalise", (element, epsilon, keep, threads), normalise, "RRRRRi", threads)


@cache
def make_row_step(options: Options, threads: int) -> Kernel:
    """Return the kernel of a step behind its recurrent product: gates, c, and h with the output, a block for each row.

    Arguments: xw, replaced by the gates' sums; recurrent products (B, U, 4), replaced by LN of them, and what the
    deviations were multiplied with (B,); gamma (U, 4); h and c before the step, c after it, c before its zoneout; room
    (B, U); gamma and beta of the cell (U,); h after the step (before its projection), output, its stride from row to
    row, whether to write it; mask of the step, first counted step of each row, number of the step; peepholes (3, U),
    zoneout factors of c and h; U.
    """
    element, real = options.element, ELEMENTS[options.element]
    clip_gate, clip_cell = make_clip(element, options.gate_clip), make_clip(element, options.cell_clip)
    forms = options.activations
    act_i, act_f, act_g, act_o = (make_row_activation(form, element, threads, clip_gate) for form in forms[:4])
    act_c = make_row_activation(forms[4], element, threads, make_clip(element, None))
    measure_i, measure_f, measure_g, measure_o = act_i.measure, act_f.measure, act_g.measure, act_o.measure
    value_i, value_f, value_g, value_o = act_i.value, act_f.value, act_g.value, act_o.value
    measure_c, value_c = act_c.measure, act_c.value
    normed = options.epsilon is not None
    standardise = make_standardise(element, threads, 4, options.epsilon or 0.0)
    standardise_cell = make_standardise(element, threads, 1, options.epsilon or 0.0)
    finish, peephole, projection, coupled = make_finish(options), options.peephole, options.projection, options.coupled
    masked, zoneout_c, zoneout_h, keep_fresh = options.masked, *options.zoneout, options.fresh

    def row_step(
        xw, products, scales, gamma, h_in, c_in, c_out, fresh, room, cell_gamma, cell_beta, h_out, y, y_row, write,
        mask, first, t, peepholes, zone_c, zone_h, units,
    ):  # fmt: skip
        shared = cuda.shared.array(threads, real)
        tid, row = cuda.threadIdx.x, cuda.blockIdx.x
        at = row * units
        keep = not masked or mask[row] != 0
        if normed:
            scale = standardise(products, 4 * at, units, shared, tid)
            if tid == 0:
                scales[row] = scale
        for u in range(tid, units, threads):
            z = 4 * (at + u)
            for g in range(4):
                xw[z + g] += gamma[4 * u + g] * products[z + g] if normed else products[z + g]
            if peephole:
                xw[z] += peepholes[u] * c_in[at + u]
                xw[z + 1] += peepholes[units + u] * c_in[at + u]
        in_i = measure_i(xw, 4 * at, 4, units, shared, tid)
        in_f = measure_f(xw, 4 * at + 1, 4, units, shared, tid)
        in_g = measure_g(xw, 4 * at + 2, 4, units, shared, tid)
        for u in range(tid, units, threads):
            z, old = 4 * (at + u), c_in[at + u]
            i = value_i(clip_gate(xw[z]), in_i)
            f = real(1.0) - i if coupled else value_f(clip_gate(xw[z + 1]), in_f)
            c = clip_cell(f * old + i * value_g(clip_gate(xw[z + 2]), in_g))
            room[at + u] = c
            if keep_fresh:
                fresh[at + u] = c
            if peephole:
                xw[z + 3] += peepholes[2 * units + u] * c
            if zoneout_c:
                c = zone_c[at + u] * old + (real(1.0) - zone_c[at + u]) * c
            c_out[at + u] = c if keep else old
        if normed:
            standardise_cell(room, at, units, shared, tid)
            for u in range(tid, units, threads):
                room[at + u] = cell_gamma[u] * room[at + u] + cell_beta[u]
        in_o = measure_o(xw, 4 * at + 3, 4, units, shared, tid)
        in_c = measure_c(room, at, 1, units, shared, tid)
        for u in range(tid, units, threads):
            h = value_o(clip_gate(xw[4 * (at + u) + 3]), in_o) * value_c(room[at + u], in_c)
            if projection:
                h_out[at + u] = h
            else:
                zone = zone_h[at + u] if zoneout_h else real(0.0)
                h, out = finish(h, h_in[at + u], keep, masked and t > first[row], zone)
                h_out[at + u] = h
                if write:
                    y[row * y_row + u] = out

    arguments = "RRRRRRRRRRRRRliBIiRRRi"
    return Kernel("row_step", (*options, threads), row_step, arguments, threads)
