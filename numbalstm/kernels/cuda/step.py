"""Forward kernels of one step: a launch a step, every option of the layer, any size, float32 and float64.

Arrays: xw (B, U, 4), the input's product and the bias, gates innermost; ut (U, 4, P), the recurrent kernel of each
unit and gate; states c (B, U), h (B, P). Equations: `numbalstm.backends.reference`.
"""

from functools import cache

from numba import cuda

from numbalstm.kernels.cuda import activations
from numbalstm.kernels.cuda.dot import Tile, make_dot
from numbalstm.kernels.cuda.kernel import ELEMENTS, Kernel, device
from numbalstm.kernels.cuda.options import Options


def make_clip(element: str, bound: float | None):
    """Return the device function that keeps a value within -bound and bound; None: the identity."""
    real = ELEMENTS[element]
    if bound is None:
        return device(lambda x: x)

    @device
    def clip(x):
        return min(max(x, real(-bound)), real(bound))

    return clip


def make_finish(options: Options):
    """Return the device function that turns the new h of an element into the state and the output."""
    real = ELEMENTS[options.element]
    masked, zero_output, zoneout_h = options.masked, options.zero_output, options.zoneout[1]

    @device
    def finish(h, old, keep, seen, zone):
        """Return state and output; `seen`: an earlier step of the row counted."""
        if zoneout_h:
            h = zone * old + (real(1.0) - zone) * h
        if not masked or keep:
            return h, h
        return old, real(0.0) if zero_output or not seen else old

    return finish


@cache
def make_step(options: Options, tile: Tile = Tile()) -> Kernel:  # noqa: B008 - a tuple
    """Return the kernel of a step: recurrent product, gates, c, and h with the output (h before its projection).

    Arguments: xw, ut, h and c before the step, c and h after it, output, its stride from row to row, whether to write
    it; mask of the step, first counted step of each row, number of the step; peepholes (3, U), factors of h, zoneout
    factors of c and h; where to keep c before its zoneout, where that is asked for; B, U, P.
    """
    element, rows, columns = options.element, tile.rows, tile.columns
    real = ELEMENTS[element]
    dot = make_dot(
        element, tile, gates=4, left_gates=max(1, options.factors), factors=options.factors > 0, depth_first=True
    )
    act_i, act_f, act_g, act_o, act_c = (activations.value(name, element) for name in options.activations)
    clip_gate, clip_cell = make_clip(element, options.gate_clip), make_clip(element, options.cell_clip)
    finish = make_finish(options)
    peephole, projection, coupled = options.peephole, options.projection, options.coupled
    masked, zoneout_c, zoneout_h, record = options.masked, *options.zoneout, options.record
    keep_fresh = options.fresh

    def step(
        xw, ut, h_in, c_in, c_out, h_out, y, y_row, write, mask, first, t, peepholes, factors, zone_c, zone_h,
        fresh, batch, units, width,
    ):  # fmt: skip
        acc = cuda.local.array(4, real)
        across = (units + columns - 1) // columns
        row0 = cuda.blockIdx.x // across * rows
        column0 = cuda.blockIdx.x % across * columns
        dot(h_in, width, 1, 0, factors, ut, 4 * width, 1, width, row0, column0, batch, units, width, acc)
        row = row0 + cuda.threadIdx.x // columns
        unit = column0 + cuda.threadIdx.x % columns
        if row < batch and unit < units:
            at = row * units + unit
            old = c_in[at]
            z_i, z_f = xw[4 * at] + acc[0], xw[4 * at + 1] + acc[1]
            z_g, z_o = xw[4 * at + 2] + acc[2], xw[4 * at + 3] + acc[3]
            if peephole:
                z_i += peepholes[unit] * old
                z_f += peepholes[units + unit] * old
            i = act_i(clip_gate(z_i))
            f = real(1.0) - i if coupled else act_f(clip_gate(z_f))
            c = clip_cell(f * old + i * act_g(clip_gate(z_g)))
            if peephole:
                z_o += peepholes[2 * units + unit] * c
            h = act_o(clip_gate(z_o)) * act_c(c)
            if record:
                xw[4 * at], xw[4 * at + 1] = z_i, z_f
                xw[4 * at + 2], xw[4 * at + 3] = z_g, z_o
            if keep_fresh:
                fresh[at] = c
            if zoneout_c:
                c = zone_c[at] * old + (real(1.0) - zone_c[at]) * c
            keep = not masked or mask[row] != 0
            c_out[at] = c if keep else old
            if projection:
                h_out[at] = h
            else:
                zone = zone_h[at] if zoneout_h else real(0.0)
                h, out = finish(h, h_in[at], keep, masked and t > first[row], zone)
                h_out[at] = h
                if write:
                    y[row * y_row + unit] = out

    return Kernel("step", (*options, *tile), step, "RRRRRRRliBIiRRRRRiii", tile.threads)


@cache
def make_project(options: Options, tile: Tile = Tile()) -> Kernel:  # noqa: B008 - a tuple
    """Return the kernel of a step's projection: h from the cell's output, and the step's output.

    Arguments: cell output (B, U), projection (U, P), h before the step and after it, projected values before they are
    clipped (read only without a clip), output, its row stride, whether to write it; mask, first counted step, number
    of the step; zoneout factors of h; B, U, P.
    """
    element, rows, columns = options.element, tile.rows, tile.columns
    real = ELEMENTS[element]
    dot = make_dot(element, tile, gates=1, left_gates=1, factors=False, depth_first=False)
    clip, finish = make_clip(element, options.projection_clip), make_finish(options)
    masked, zoneout_h = options.masked, options.zoneout[1]
    keep_values = options.record and options.projection_clip is not None

    def project(
        cell, weights, h_in, h_out, values, y, y_row, write, mask, first, t, zone_h, batch, units, width
    ):  # fmt: skip
        acc = cuda.local.array(1, real)
        across = (width + columns - 1) // columns
        row0 = cuda.blockIdx.x // across * rows
        column0 = cuda.blockIdx.x % across * columns
        dot(cell, units, 1, 0, cell, weights, 1, width, 0, row0, column0, batch, width, units, acc)
        row = row0 + cuda.threadIdx.x // columns
        column = column0 + cuda.threadIdx.x % columns
        if row < batch and column < width:
            at = row * width + column
            if keep_values:
                values[at] = acc[0]
            zone = zone_h[at] if zoneout_h else real(0.0)
            keep = not masked or mask[row] != 0
            h, out = finish(clip(acc[0]), h_in[at], keep, masked and t > first[row], zone)
            h_out[at] = h
            if write:
                y[row * y_row + column] = out

    return Kernel("project", (*options, *tile), project, "RRRRRRliBIiRiii", tile.threads)
