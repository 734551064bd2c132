"""The update of a cell and its adjoint, with tanh and sigmoid inlined or the activations chosen while a kernel runs.

A tape keeps the four gates where their sums were; with activations chosen at run time it keeps the sums, which their
derivatives need.
"""

from collections import namedtuple

from numbalstm.kernels.cpu.choosing import activate, with_slope
from numbalstm.kernels.elementary import gated_tanh, sigmoid, tanh
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import item_size, lane_count, load, load_integer, load_some, splat, store
from numbalstm.kernels.simd import absolute, less, maximum, minimum, select

Spot = namedtuple("Spot", ("row", "time", "at", "left"))
"""Where a cell is: its row and timestep, its tile's first byte in a row of states, and how many units are left."""


def projects(tile, job):
    """Whether the outputs of the cells are projected."""


@overload(projects)
def _projects(tile, job):
    if tile.any_activation:
        return lambda tile, job: job.projection != 0
    return lambda tile, job: False


def update(tile, job, spot, z, c, h):
    """Return the new c and h of one row and tile, from the address of its sums and from its c and h."""


def adjoint(tile, job, spot, z, c, new_c, dh, dc):
    """Return the adjoints of the sums i, f, g, o and of c, from what `update` left at z and those of h and new c.

    Then those of h that bypass the gates, those of the peepholes of i, f and o, and the output that is projected.
    """


# `update` in parts, for a cell whose output sees something else than its state


def new_state(tile, job, spot, z, c):
    """Return the new c before its zoneout, from the address of the sums and from c."""


def output(tile, job, z, seen):
    """Return the output, from what is left at the address of the sums and from what the output sees of the state."""


def zoned(tile, job, spot, c, new_c, h, new_h):
    """Return c and h after zoneout."""


# `adjoint` in parts


def h_zoned_adjoint(tile, job, spot, dh):
    """Return the adjoints of the old h, as far as it bypasses the gates, and of the new one."""


def c_zoned_adjoint(tile, job, spot, dc):
    """Return the adjoints of the old c, as far as it bypasses the gates, and of the new one."""


def output_adjoint(tile, job, z, seen, dh):
    """Return the adjoints of the sum o and of what the output saw of the state, and the output."""


def state_adjoint(tile, job, spot, z, c, ds, d_o):
    """Return the adjoints of the sums i, f, g, of c and of the peepholes i, f, o, from those of new c and of sum o."""


@linked
def limited(x, limit):
    return minimum(maximum(x, -limit), limit)


@linked
def within(x, limit, value):
    """The value where x was not clipped, else 0."""
    return select(less(absolute(x), limit), value, value * 0.0)


@linked
def kept_share(tile, rows, step, spot):
    """How much of the old state zoneout keeps, from a table of row addresses."""
    return load_some(tile, load_integer(rows + 8 * spot.row) + spot.time * step + spot.at, spot.left)


@linked
def _peephole(tile, job, spot, gate):
    return load(tile, job.peephole + gate * job.state_row + spot.at)


# ---- tanh and sigmoid


@linked
def _plain_state(tile, job, spot, z, c):
    width = lane_count(tile) * item_size(tile)
    return sigmoid(load(tile, z + width)) * c + gated_tanh(load(tile, z), load(tile, z + 2 * width))[0]


@linked
def _plain_output(tile, job, z, seen):
    return gated_tanh(load(tile, z + 3 * lane_count(tile) * item_size(tile)), seen)[0]


@linked
def _taped_state(tile, job, spot, z, c):
    width = lane_count(tile) * item_size(tile)
    f = sigmoid(load(tile, z + width))
    product, i, g = gated_tanh(load(tile, z), load(tile, z + 2 * width))
    store(tile, z, i)
    store(tile, z + width, f)
    store(tile, z + 2 * width, g)
    return f * c + product


@linked
def _plain_update(tile, job, spot, z, c, h):
    new_c = _plain_state(tile, job, spot, z, c)
    return new_c, _plain_output(tile, job, z, new_c)


@linked
def _taped_update(tile, job, spot, z, c, h):
    new_c = _taped_state(tile, job, spot, z, c)
    at = z + 3 * lane_count(tile) * item_size(tile)
    new_h, o, _ = gated_tanh(load(tile, at), new_c)
    store(tile, at, o)
    return new_c, new_h


@linked
def _d_output(o, a, dh):
    """The adjoints of the sum o and of what the output saw, from o and its activation."""
    d_a = dh * o
    return d_a * a * (1.0 - o), d_a * (1.0 - a * a)


@linked
def _plain_output_adjoint(tile, job, z, seen, dh):
    m, o, a = gated_tanh(load(tile, z + 3 * lane_count(tile) * item_size(tile)), seen)
    d_o, d_seen = _d_output(o, a, dh)
    return d_o, d_seen, m


@linked
def _plain_state_adjoint(tile, job, spot, z, c, ds, d_o):
    width = lane_count(tile) * item_size(tile)
    i, f, g = load(tile, z), load(tile, z + width), load(tile, z + 2 * width)
    d_i, d_f, d_g = ds * g * (i * (1.0 - i)), ds * c * (f * (1.0 - f)), ds * i * (1.0 - g * g)
    nothing = splat(tile, 0.0)
    return d_i, d_f, d_g, ds * f, nothing, nothing, nothing


@linked
def _plain_adjoint(tile, job, spot, z, c, new_c, dh, dc):
    nothing = splat(tile, 0.0)
    o = load(tile, z + 3 * lane_count(tile) * item_size(tile))
    d_o, d_seen = _d_output(o, tanh(new_c), dh)
    d_i, d_f, d_g, d_c, _, _, _ = _plain_state_adjoint(tile, job, spot, z, c, dc + d_seen, d_o)
    return d_i, d_f, d_g, d_o, d_c, nothing, nothing, nothing, nothing, nothing


# ---- activations that are chosen at run time


@linked
def _chosen_state(tile, job, spot, z, c):
    width = lane_count(tile) * item_size(tile)
    z_i, z_f, z_o = load(tile, z), load(tile, z + width), load(tile, z + 3 * width)
    if job.peephole != 0:
        z_i, z_f = z_i + _peephole(tile, job, spot, 0) * c, z_f + _peephole(tile, job, spot, 1) * c
    store(tile, z, limited(z_i, job.gate_clip))
    store(tile, z + width, limited(z_f, job.gate_clip))
    store(tile, z + 2 * width, limited(load(tile, z + 2 * width), job.gate_clip))
    i = activate(job.i_activation, load(tile, z), job.i_alpha, job.i_beta)
    f = 1.0 - i if job.coupled != 0 else activate(job.f_activation, load(tile, z + width), job.f_alpha, job.f_beta)
    g = activate(job.g_activation, load(tile, z + 2 * width), job.g_alpha, job.g_beta)
    s = limited(f * c + i * g, job.cell_clip)
    if job.peephole != 0:
        z_o = z_o + _peephole(tile, job, spot, 2) * s
    store(tile, z + 3 * width, limited(z_o, job.gate_clip))
    return s


@linked
def _chosen_output(tile, job, z, seen):
    z_o = load(tile, z + 3 * lane_count(tile) * item_size(tile))
    o = activate(job.o_activation, z_o, job.o_alpha, job.o_beta)
    return o * activate(job.h_activation, seen, job.h_alpha, job.h_beta)


@linked
def _chosen_zoned(tile, job, spot, c, new_c, h, new_h):
    if job.c_zones != 0:
        kept = kept_share(tile, job.c_zones, job.c_zone_step, spot)
        new_c = kept * c + (1.0 - kept) * new_c
    if job.h_zones != 0 and job.projection == 0:
        kept = kept_share(tile, job.h_zones, job.h_zone_step, spot)
        new_h = kept * h + (1.0 - kept) * new_h
    return new_c, new_h


@linked
def _chosen_update(tile, job, spot, z, c, h):
    s = _chosen_state(tile, job, spot, z, c)
    return _chosen_zoned(tile, job, spot, c, s, h, _chosen_output(tile, job, z, s))


@linked
def _chosen_h_zoned_adjoint(tile, job, spot, dh):
    if job.h_zones == 0 or job.projection != 0:
        return splat(tile, 0.0), dh
    kept = kept_share(tile, job.h_zones, job.h_zone_step, spot)
    return kept * dh, (1.0 - kept) * dh


@linked
def _chosen_c_zoned_adjoint(tile, job, spot, dc):
    if job.c_zones == 0:
        return splat(tile, 0.0), dc
    kept = kept_share(tile, job.c_zones, job.c_zone_step, spot)
    return kept * dc, (1.0 - kept) * dc


@linked
def _gates(tile, job, z):
    """The gates i, f and g and their derivatives."""
    width = lane_count(tile) * item_size(tile)
    i, slope_i = with_slope(job.i_activation, load(tile, z), job.i_alpha, job.i_beta)
    f, slope_f = with_slope(job.f_activation, load(tile, z + width), job.f_alpha, job.f_beta)
    g, slope_g = with_slope(job.g_activation, load(tile, z + 2 * width), job.g_alpha, job.g_beta)
    return i, 1.0 - i if job.coupled != 0 else f, g, slope_i, slope_f, slope_g


@linked
def _chosen_output_adjoint(tile, job, z, seen, dh):
    z_o = load(tile, z + 3 * lane_count(tile) * item_size(tile))
    o, slope_o = with_slope(job.o_activation, z_o, job.o_alpha, job.o_beta)
    a, slope_a = with_slope(job.h_activation, seen, job.h_alpha, job.h_beta)
    return within(z_o, job.gate_clip, dh * a * slope_o), dh * o * slope_a, o * a


@linked
def _through_gates(tile, job, spot, z, c, gates, ds, d_o):
    """`state_adjoint` from the gates and their derivatives."""
    width = lane_count(tile) * item_size(tile)
    i, f, g, slope_i, slope_f, slope_g = gates
    nothing = splat(tile, 0.0)
    p_i, p_f, p_o = nothing, nothing, nothing
    whole = f * c + i * g
    if job.peephole != 0:
        ds, p_o = ds + d_o * _peephole(tile, job, spot, 2), d_o * limited(whole, job.cell_clip)
    ds = within(whole, job.cell_clip, ds)
    d_i, d_f = ds * g, ds * c
    if job.coupled != 0:
        d_i, d_f = d_i - d_f, nothing
    d_i = within(load(tile, z), job.gate_clip, d_i * slope_i)
    d_f = within(load(tile, z + width), job.gate_clip, d_f * slope_f)
    d_g = within(load(tile, z + 2 * width), job.gate_clip, ds * i * slope_g)
    d_c = ds * f
    if job.peephole != 0:
        d_c = d_c + d_i * _peephole(tile, job, spot, 0) + d_f * _peephole(tile, job, spot, 1)
        p_i, p_f = d_i * c, d_f * c
    return d_i, d_f, d_g, d_c, p_i, p_f, p_o


@linked
def _chosen_state_adjoint(tile, job, spot, z, c, ds, d_o):
    return _through_gates(tile, job, spot, z, c, _gates(tile, job, z), ds, d_o)


@linked
def _chosen_adjoint(tile, job, spot, z, c, new_c, dh, dc):
    gates = _gates(tile, job, z)
    i, f, g, _, _, _ = gates
    past_h, dh = _chosen_h_zoned_adjoint(tile, job, spot, dh)
    past_c, dc = _chosen_c_zoned_adjoint(tile, job, spot, dc)
    d_o, d_seen, m = _chosen_output_adjoint(tile, job, z, limited(f * c + i * g, job.cell_clip), dh)
    d_i, d_f, d_g, d_c, p_i, p_f, p_o = _through_gates(tile, job, spot, z, c, gates, dc + d_seen, d_o)
    return d_i, d_f, d_g, d_o, past_c + d_c, past_h, p_i, p_f, p_o, m


# ---- which of them


def _of_cell(part, plain, chosen, taped=None):
    """Overload a part: tanh and sigmoid, with a tape where that differs, or activations chosen at run time."""

    def choose(tile, *args):
        if tile.any_activation:
            return chosen.py_func
        return taped.py_func if tile.tape and taped is not None else plain.py_func

    overload(part, strict=False)(choose)


_of_cell(update, _plain_update, _chosen_update, _taped_update)
_of_cell(new_state, _plain_state, _chosen_state, _taped_state)
_of_cell(output, _plain_output, _chosen_output)
_of_cell(output_adjoint, _plain_output_adjoint, _chosen_output_adjoint)
_of_cell(state_adjoint, _plain_state_adjoint, _chosen_state_adjoint)
_of_cell(adjoint, _plain_adjoint, _chosen_adjoint)
_of_cell(zoned, linked(lambda tile, job, spot, c, new_c, h, new_h: (new_c, new_h)), _chosen_zoned)
_of_cell(h_zoned_adjoint, linked(lambda tile, job, spot, dh: (splat(tile, 0.0), dh)), _chosen_h_zoned_adjoint)
_of_cell(c_zoned_adjoint, linked(lambda tile, job, spot, dc: (splat(tile, 0.0), dc)), _chosen_c_zoned_adjoint)
