"""Backward kernels of one step, for the forward ones of `numbalstm.kernels.cuda.step`.

They take the gates' sums z (B, U, 4) that the forward pass recorded and the states before the step, and compute the
gates again: c is not kept twice. Equations: `numbalstm.backends.reference_backward`.
"""

from functools import cache

from numba import cuda

from numbalstm.kernels.cuda import activations
from numbalstm.kernels.cuda.dot import Tile, make_dot
from numbalstm.kernels.cuda.kernel import ELEMENTS, Kernel, device
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.step import make_clip


def make_coefficients(options: Options):
    """Return the device function of the numbers that the cotangents of one unit depend on linearly.

    With dh and dc the cotangents of the cell's output and of the new c, and A, B, I, F, G, D the six numbers::

        dc' = dc + dh B
        dz  = dc' I, dc' F, dc' G, dh A        of the gates i, f, g, o
        dc of the step before = dc' D
    """
    element = options.element
    real = ELEMENTS[element]
    act_i, act_f, act_g, act_o, act_c = (activations.value(name, element) for name in options.activations)
    der_i, der_f, der_g, der_o, der_c = (activations.slope(name, element) for name in options.activations)
    clip_gate, clip_cell = make_clip(element, options.gate_clip), make_clip(element, options.cell_clip)
    peephole, coupled = options.peephole, options.coupled
    within, within_cell = make_within(element, options.gate_clip), make_within(element, options.cell_clip)
    cell_clip = options.cell_clip is not None

    @device
    def coefficients(z_i, z_f, z_g, z_o, c_old, p_i, p_f, p_o):
        z_i, in_i = clip_gate(z_i), within(z_i)
        z_f, in_f = clip_gate(z_f), within(z_f)
        z_g, in_g = clip_gate(z_g), within(z_g)
        z_o, in_o = clip_gate(z_o), within(z_o)
        i, g = act_i(z_i), act_g(z_g)
        f = real(1.0) - i if coupled else act_f(z_f)
        free = f * c_old + i * g
        c = clip_cell(free)
        to_o = act_c(c) * der_o(z_o) * in_o
        to_c = act_o(z_o) * der_c(c)
        to_i, to_g = g * der_i(z_i) * in_i, i * der_g(z_g) * in_g
        to_f, back = c_old * der_f(z_f) * in_f, f
        if coupled:
            to_i -= c_old * der_i(z_i) * in_i
            to_f = real(0.0)
        if peephole:
            to_c += to_o * p_o
            back += to_i * p_i + to_f * p_f
        if cell_clip and within_cell(free) == real(0.0):
            to_i = to_f = to_g = back = real(0.0)
        return to_o, to_c, to_i, to_f, to_g, back

    return coefficients


def make_cell_backward(options: Options):
    """Return the device function that writes dz of one unit, 4 values, and returns the cotangent of the old c."""
    real = ELEMENTS[options.element]
    coefficients = make_coefficients(options)
    peephole, zoneout_c = options.peephole, options.zoneout[0]

    @device
    def backward(z, at, c_old, dh, dc, zone, peepholes, unit, units, dz):
        p_i = peepholes[unit] if peephole else real(0.0)
        p_f = peepholes[units + unit] if peephole else real(0.0)
        p_o = peepholes[2 * units + unit] if peephole else real(0.0)
        to_o, to_c, to_i, to_f, to_g, back = coefficients(
            z[4 * at], z[4 * at + 1], z[4 * at + 2], z[4 * at + 3], c_old, p_i, p_f, p_o
        )
        through = real(0.0)
        if zoneout_c:
            through = zone * dc
            dc = (real(1.0) - zone) * dc
        dc += dh * to_c
        dz[4 * at], dz[4 * at + 1] = dc * to_i, dc * to_f
        dz[4 * at + 2], dz[4 * at + 3] = dc * to_g, dh * to_o
        return through + dc * back

    return backward


@device
def no_cell(z, at, c_old, dh, dc, zone, peepholes, unit, units, dz):
    """Stand for the cell where another kernel goes through it."""
    return dc


def make_within(element: str, bound: float | None):
    """Return the slope of a clip: 0 at its ends and beyond, else 1."""
    real = ELEMENTS[element]
    if bound is None:
        return device(lambda x: real(1.0))

    @device
    def within(x):
        return real(1.0) if -real(bound) < x and x < real(bound) else real(0.0)

    return within


@cache
def make_step_backward(options: Options, tile: Tile = Tile()) -> Kernel:  # noqa: B008 - a tuple
    """Return the kernel that gathers the cotangent of h and goes through the cell: unless something comes before that.

    Arguments: dz of the step after this one and whether there is one; ut; factors of h; dh that went past the steps
    behind (B, P), which is replaced; dy, its row stride, whether to add it; whether to go on after the gathering (else
    the sum is left in dh: the cotangent of the initial h); mask, first counted step, number of the step; zoneout
    factors of c and h; z, c before the step, dc (replaced), peepholes, dz of this step; instead, with a projection or a
    cell that takes whole rows, the values before their clip and the cotangent of h before its zoneout; B, U, P.
    """
    element, rows, columns = options.element, tile.rows, tile.columns
    real = ELEMENTS[element]
    dot = make_dot(element, tile, gates=4, left_gates=4, factors=False, depth_first=False)
    factor_sets, masked, split = options.factors, options.masked, options.projection or options.by_rows
    within, cell = make_within(element, options.projection_clip), no_cell if split else make_cell_backward(options)
    zero_output, zoneout_c, zoneout_h = options.zero_output, *options.zoneout
    projection_clip = options.projection_clip is not None

    def step_backward(
        dz_next, more, ut, factors, passed, dy, dy_row, read, go_on, mask, first, t, zone_c, zone_h,
        z, c_old, dc, peepholes, dz, values, d_projected, batch, units, width,
    ):  # fmt: skip
        acc = cuda.local.array(4, real)
        across = (width + columns - 1) // columns
        row0 = cuda.blockIdx.x // across * rows
        column0 = cuda.blockIdx.x % across * columns
        for g in range(4):
            acc[g] = real(0.0)
        if more:
            dot(dz_next, 4 * units, 4, 1, dz_next, ut, 1, 4 * width, width, row0, column0, batch, width, units, acc)
        row = row0 + cuda.threadIdx.x // columns
        column = column0 + cuda.threadIdx.x % columns
        if row < batch and column < width:
            at = row * width + column
            dh = passed[at]
            if factor_sets == 4:
                for g in range(4):
                    dh += acc[g] * factors[g * batch * width + at]
            elif factor_sets == 1:
                dh += (acc[0] + acc[1] + acc[2] + acc[3]) * factors[at]
            else:
                dh += (acc[0] + acc[1]) + (acc[2] + acc[3])
            keep = not masked or mask[row] != 0
            if read and (keep or (not zero_output and t > first[row])):
                dh += dy[row * dy_row + column]
            if not go_on or not keep:
                passed[at] = dh
            elif zoneout_h:
                passed[at] = zone_h[at] * dh
                dh = (real(1.0) - zone_h[at]) * dh
            else:
                passed[at] = real(0.0)
            if go_on:
                if split:
                    if projection_clip and keep:
                        dh *= within(values[at])
                    d_projected[at] = dh if keep else real(0.0)
                elif keep:
                    zone = zone_c[at] if zoneout_c else real(0.0)
                    dc[at] = cell(z, at, c_old[at], dh, dc[at], zone, peepholes, column, units, dz)
                else:
                    for g in range(4):
                        dz[4 * at + g] = real(0.0)

    arguments = "RiRRRRliiBIiRRRRRRRRRiii"
    return Kernel("step_backward", (*options, *tile), step_backward, arguments, tile.threads)


@cache
def make_project_backward(options: Options, tile: Tile = Tile()) -> Kernel:  # noqa: B008 - a tuple
    """Return the kernel that goes from the cotangent of the projected h through projection and cell.

    Arguments: cotangent of the projected h (B, P), projection (U, P), mask, zoneout factors of c, z, c before the step,
    dc (replaced), peepholes, dz of this step; B, U, P.
    """
    element, rows, columns = options.element, tile.rows, tile.columns
    real = ELEMENTS[element]
    dot = make_dot(element, tile, gates=1, left_gates=1, factors=False, depth_first=True)
    cell, masked, zoneout_c = make_cell_backward(options), options.masked, options.zoneout[0]

    def project_backward(d_projected, weights, mask, zone_c, z, c_old, dc, peepholes, dz, batch, units, width):
        acc = cuda.local.array(1, real)
        across = (units + columns - 1) // columns
        row0 = cuda.blockIdx.x // across * rows
        column0 = cuda.blockIdx.x % across * columns
        dot(d_projected, width, 1, 0, d_projected, weights, width, 1, 0, row0, column0, batch, units, width, acc)
        row = row0 + cuda.threadIdx.x // columns
        unit = column0 + cuda.threadIdx.x % columns
        if row < batch and unit < units:
            at = row * units + unit
            if not masked or mask[row] != 0:
                zone = zone_c[at] if zoneout_c else real(0.0)
                dc[at] = cell(z, at, c_old[at], acc[0], dc[at], zone, peepholes, unit, units, dz)
            else:
                for g in range(4):
                    dz[4 * at + g] = real(0.0)

    return Kernel("project_backward", (*options, *tile), project_backward, "RRBRRRRRRiii", tile.threads)
