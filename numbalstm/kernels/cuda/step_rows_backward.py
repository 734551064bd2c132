"""Backward kernels of one step whose units depend on their whole row, for those of `numbalstm.kernels.cuda.step_rows`.

The cotangent of h is gathered by `numbalstm.kernels.cuda.step_backward`; a block for each row goes on from there. Steps
and their numbers: `numbalstm.backends.reference_backward`.
"""

from functools import cache

from numba import cuda

from numbalstm.kernels.cuda.kernel import ELEMENTS, Kernel
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.rows import make_row_activation, make_standardise, make_standardise_backward
from numbalstm.kernels.cuda.step import make_clip
from numbalstm.kernels.cuda.step_backward import make_within


@cache
def make_normalise_backward(element: str, threads: int) -> Kernel:
    """Return the kernel that pulls cotangents back through the rows of `step_rows.make_normalise`.

    Arguments: cotangents (rows, U, 4), gamma (U, 4), LN(v), what its deviations were multiplied with (rows,), result;
    U. A block for each row.
    """
    real, pull = ELEMENTS[element], make_standardise_backward(element, threads, 4)

    def normalise_backward(d, gamma, standard, scales, target, units):
        shared = cuda.shared.array(threads, real)
        tid, row = cuda.threadIdx.x, cuda.blockIdx.x
        at = 4 * row * units
        pull(d, at, gamma, standard, scales[row], units, target, at, 1, shared, tid)

    return Kernel("normalise_backward", (element, threads), normalise_backward, "RRRRRi", threads)


@cache
def make_row_backward(options: Options, threads: int) -> Kernel:
    """Return the kernel that goes from the cotangent of the cell's output through the cell, a block for each row.

    Arguments: cotangent of the cell's output (B, U); mask of the step; zoneout factors of c; sums z, c before the step,
    dc (replaced), peepholes; LN of the recurrent products, what its deviations were multiplied with, gamma; gamma and
    beta of the cell; dz of this step, the cotangent of the recurrent products (with layer normalisation), LN of the
    cell and the cotangent of gamma LN + beta (without: room); U.
    """
    element, real = options.element, ELEMENTS[options.element]
    clip_gate, clip_cell = make_clip(element, options.gate_clip), make_clip(element, options.cell_clip)
    within_gate, within_cell = make_within(element, options.gate_clip), make_within(element, options.cell_clip)
    forms = options.activations
    act_i, act_f, act_g, act_o = (make_row_activation(form, element, threads, clip_gate) for form in forms[:4])
    act_c = make_row_activation(forms[4], element, threads, make_clip(element, None))
    measure_i, measure_f, measure_g, measure_o = act_i.measure, act_f.measure, act_g.measure, act_o.measure
    collect_i, collect_f, collect_g, collect_o = act_i.collect, act_f.collect, act_g.collect, act_o.collect
    value_i, value_f, value_g, value_o = act_i.value, act_f.value, act_g.value, act_o.value
    pull_i, pull_f, pull_g, pull_o = act_i.pull, act_f.pull, act_g.pull, act_o.pull
    measure_c, value_c, collect_c, pull_c = act_c
    normed, masked, zoneout_c = options.epsilon is not None, options.masked, options.zoneout[0]
    peephole, coupled = options.peephole, options.coupled
    standardise_cell = make_standardise(element, threads, 1, options.epsilon or 0.0)
    through_cell = make_standardise_backward(element, threads, 1)
    through_products = make_standardise_backward(element, threads, 4)

    def row_backward(
        dm, mask, zone_c, sums, c_in, dc, peepholes, standard, scales, gamma, cell_gamma, cell_beta, dz, d_products,
        cell, d_cell, units,
    ):  # fmt: skip
        shared = cuda.shared.array(threads, real)
        tid, row = cuda.threadIdx.x, cuda.blockIdx.x
        at = row * units
        if masked and mask[row] == 0:
            for u in range(tid, units, threads):
                cell[at + u] = d_cell[at + u] = real(0.0)
                for e in range(4 * (at + u), 4 * (at + u) + 4):
                    dz[e] = real(0.0)
                    if normed:
                        d_products[e] = real(0.0)
            return
        # forward again: the new c, LN of it in `cell`, what the activation of the cell sees in `d_cell`
        in_i = measure_i(sums, 4 * at, 4, units, shared, tid)
        in_f = measure_f(sums, 4 * at + 1, 4, units, shared, tid)
        in_g = measure_g(sums, 4 * at + 2, 4, units, shared, tid)
        in_o = measure_o(sums, 4 * at + 3, 4, units, shared, tid)
        for u in range(tid, units, threads):
            z = 4 * (at + u)
            i = value_i(clip_gate(sums[z]), in_i)
            f = real(1.0) - i if coupled else value_f(clip_gate(sums[z + 1]), in_f)
            cell[at + u] = clip_cell(f * c_in[at + u] + i * value_g(clip_gate(sums[z + 2]), in_g))
            d_cell[at + u] = cell[at + u]
        scale = real(1.0)
        if normed:
            scale = standardise_cell(cell, at, units, shared, tid)
            for u in range(tid, units, threads):
                d_cell[at + u] = cell_gamma[u] * cell[at + u] + cell_beta[u]
        in_c = measure_c(d_cell, at, 1, units, shared, tid)
        # 3. output, 4. gate o
        for u in range(tid, units, threads):
            z = 4 * (at + u)
            dz[z] = dm[at + u] * value_o(clip_gate(sums[z + 3]), in_o)
            dz[z + 3] = dm[at + u] * value_c(d_cell[at + u], in_c)
        all_c = collect_c(d_cell, at, 1, dz, 4 * at, 4, units, in_c, shared, tid)
        all_o = collect_o(sums, 4 * at + 3, 4, dz, 4 * at + 3, 4, units, in_o, shared, tid)
        for u in range(tid, units, threads):
            z = 4 * (at + u)
            z_o = clip_gate(sums[z + 3])
            d_cell[at + u] = pull_c(d_cell[at + u], in_c, dz[z], all_c)
            dz[z + 3] = pull_o(z_o, in_o, dz[z + 3], all_o) * within_gate(sums[z + 3])
            dz[z] = d_cell[at + u]
        if normed:
            through_cell(d_cell, at, cell_gamma, cell, scale, units, dz, 4 * at, 4, shared, tid)
        # 5. cell: the cotangent of the new c has come as far as dz of gate i
        for u in range(tid, units, threads):
            z, old = 4 * (at + u), c_in[at + u]
            through, ds = real(0.0), dc[at + u]
            if zoneout_c:
                through, ds = zone_c[at + u] * ds, (real(1.0) - zone_c[at + u]) * ds
            ds += dz[z]
            if peephole:
                ds += dz[z + 3] * peepholes[2 * units + u]
            i, g = value_i(clip_gate(sums[z]), in_i), value_g(clip_gate(sums[z + 2]), in_g)
            f = real(1.0) - i if coupled else value_f(clip_gate(sums[z + 1]), in_f)
            ds *= within_cell(f * old + i * g)
            dc[at + u] = through + ds * f
            dz[z], dz[z + 1], dz[z + 2] = ds * g, ds * old, ds * i
            if coupled:
                dz[z] -= ds * old
        # 6. gates
        all_i = collect_i(sums, 4 * at, 4, dz, 4 * at, 4, units, in_i, shared, tid)
        all_f = collect_f(sums, 4 * at + 1, 4, dz, 4 * at + 1, 4, units, in_f, shared, tid)
        all_g = collect_g(sums, 4 * at + 2, 4, dz, 4 * at + 2, 4, units, in_g, shared, tid)
        for u in range(tid, units, threads):
            z = 4 * (at + u)
            z_i, z_f, z_g = sums[z], sums[z + 1], sums[z + 2]
            dz[z] = pull_i(clip_gate(z_i), in_i, dz[z], all_i) * within_gate(z_i)
            dz[z + 1] = real(0.0) if coupled else pull_f(clip_gate(z_f), in_f, dz[z + 1], all_f) * within_gate(z_f)
            dz[z + 2] = pull_g(clip_gate(z_g), in_g, dz[z + 2], all_g) * within_gate(z_g)
            if peephole:
                dc[at + u] += dz[z] * peepholes[u] + dz[z + 1] * peepholes[units + u]
        # 7. products
        if normed:
            through_products(dz, 4 * at, gamma, standard, scales[row], units, d_products, 4 * at, 1, shared, tid)

    return Kernel("row_backward", (*options, threads), row_backward, "RBRRRRRRRRRRRRRRi", threads)
