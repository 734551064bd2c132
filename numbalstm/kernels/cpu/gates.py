"""The update of a cell and its adjoint, with tanh and sigmoid inlined or the activations chosen while a kernel runs.

A tape keeps the four gates where their sums were; with activations chosen at run time it keeps the sums, which their
derivatives need.
"""

from collections import namedtuple

from numbalstm.kernels.elementary import gated_tanh, sigmoid, tanh
from numbalstm.kernels.families import FAMILIES
from numbalstm.kernels.formulas import FORMULAS
from numbalstm.kernels.linked import linked, overload, register_jitable
from numbalstm.kernels.memory import item_size, lane_count, load, load_integer, load_some, splat, store
from numbalstm.kernels.simd import absolute, less, maximum, minimum, select


def _leaf(formula, make):
    """The end of a search by code: what `make` makes of one formula."""
    one = make(formula)
    if formula in FAMILIES.values():
        return register_jitable(lambda code, x, alpha, beta: one(x, alpha, beta))
    return register_jitable(lambda code, x, alpha, beta: one(x))


def _pick(formulas, make):
    """A function (code, x, alpha, beta) of what `make` makes of each formula, by halving: few calls inside each other.

    Numba takes long to compile deep ones.
    """
    if len(formulas) == 1:
        return _leaf(formulas[0], make)
    middle = len(formulas) // 2
    first = formulas[middle].code
    below, above = _pick(formulas[:middle], make), _pick(formulas[middle:], make)

    @register_jitable
    def choose(code, x, alpha, beta):
        if code < first:
            return below(code, x, alpha, beta)
        return above(code, x, alpha, beta)

    return choose


def _by_code(make):
    """As `_pick` for all formulas; the default pair, the most frequent in variants, is asked for first."""
    others = _pick(sorted({*FORMULAS.values(), *FAMILIES.values()}), make)
    first, second = make(FORMULAS["sigmoid"]), make(FORMULAS["tanh"])
    first_code, second_code = FORMULAS["sigmoid"].code, FORMULAS["tanh"].code

    @register_jitable
    def choose(code, x, alpha, beta):
        if code == first_code:
            return first(x)
        if code == second_code:
            return second(x)
        return others(code, x, alpha, beta)

    return choose


def _with_slope(formula):
    """The formula's value and derivative, from one evaluation where the value tells the derivative."""
    value, derivative = formula.forward, formula.derivative

    @register_jitable
    def saturating(x):
        v = value(x)
        return v, v * (1.0 - v)

    @register_jitable
    def odd_and_saturating(x):
        v = value(x)
        return v, 1.0 - v * v

    @register_jitable
    def any_other(x):
        return value(x), derivative(x)

    @register_jitable
    def of_family(x, alpha, beta):
        return value(x, alpha, beta), derivative(x, alpha, beta)

    if formula in FAMILIES.values():
        return of_family
    return {sigmoid: saturating, tanh: odd_and_saturating}.get(value, any_other)


Spot = namedtuple("Spot", ("row", "time", "at", "left"))
"""Where a cell is: its row and timestep, its tile's first byte in a row of states, and how many units are left."""

activate = _by_code(lambda formula: formula.forward)
with_slope = _by_code(_with_slope)


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


@linked
def _chosen_update(tile, job, spot, z, c, h):
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
    z_o = limited(z_o, job.gate_clip)
    store(tile, z + 3 * width, z_o)
    o = activate(job.o_activation, z_o, job.o_alpha, job.o_beta)
    new_h = o * activate(job.h_activation, s, job.h_alpha, job.h_beta)
    if job.c_zones != 0:
        kept = kept_share(tile, job.c_zones, job.c_zone_step, spot)
        s = kept * c + (1.0 - kept) * s
    if job.h_zones != 0 and job.projection == 0:
        kept = kept_share(tile, job.h_zones, job.h_zone_step, spot)
        new_h = kept * h + (1.0 - kept) * new_h
    return s, new_h


@overload(update)
def _update(tile, job, spot, z, c, h):
    if tile.any_activation:
        return lambda tile, job, spot, z, c, h: _chosen_update(tile, job, spot, z, c, h)

    def fused(tile, job, spot, z, c, h):
        width = lane_count(tile) * item_size(tile)
        new_c = sigmoid(load(tile, z + width)) * c + gated_tanh(load(tile, z), load(tile, z + 2 * width))[0]
        return new_c, gated_tanh(load(tile, z + 3 * width), new_c)[0]

    def taped(tile, job, spot, z, c, h):
        width = lane_count(tile) * item_size(tile)
        f = sigmoid(load(tile, z + width))
        product, i, g = gated_tanh(load(tile, z), load(tile, z + 2 * width))
        new_c = f * c + product
        new_h, o, _ = gated_tanh(load(tile, z + 3 * width), new_c)
        store(tile, z, i)
        store(tile, z + width, f)
        store(tile, z + 2 * width, g)
        store(tile, z + 3 * width, o)
        return new_c, new_h

    return taped if tile.tape else fused


@linked
def _chosen_adjoint(tile, job, spot, z, c, dh, dc):
    width = lane_count(tile) * item_size(tile)
    nothing = splat(tile, 0.0)
    z_i, z_f, z_g = load(tile, z), load(tile, z + width), load(tile, z + 2 * width)
    z_o = load(tile, z + 3 * width)
    i, slope_i = with_slope(job.i_activation, z_i, job.i_alpha, job.i_beta)
    f, slope_f = with_slope(job.f_activation, z_f, job.f_alpha, job.f_beta)
    if job.coupled != 0:
        f = 1.0 - i
    g, slope_g = with_slope(job.g_activation, z_g, job.g_alpha, job.g_beta)
    whole = f * c + i * g
    s = limited(whole, job.cell_clip)
    past_h, past_c, p_i, p_f, p_o = nothing, nothing, nothing, nothing, nothing
    if job.h_zones != 0 and job.projection == 0:
        kept = kept_share(tile, job.h_zones, job.h_zone_step, spot)
        past_h, dh = kept * dh, (1.0 - kept) * dh
    if job.c_zones != 0:
        kept = kept_share(tile, job.c_zones, job.c_zone_step, spot)
        past_c, dc = kept * dc, (1.0 - kept) * dc
    o, slope_o = with_slope(job.o_activation, z_o, job.o_alpha, job.o_beta)
    a, slope_a = with_slope(job.h_activation, s, job.h_alpha, job.h_beta)
    d_o = within(z_o, job.gate_clip, dh * a * slope_o)
    dc = dc + dh * o * slope_a
    if job.peephole != 0:
        dc, p_o = dc + d_o * _peephole(tile, job, spot, 2), d_o * s
    dc = within(whole, job.cell_clip, dc)
    d_i, d_f = dc * g, dc * c
    if job.coupled != 0:
        d_i, d_f = d_i - d_f, nothing
    d_i = within(z_i, job.gate_clip, d_i * slope_i)
    d_f = within(z_f, job.gate_clip, d_f * slope_f)
    d_g = within(z_g, job.gate_clip, dc * i * slope_g)
    past_c = past_c + dc * f
    if job.peephole != 0:
        past_c = past_c + d_i * _peephole(tile, job, spot, 0) + d_f * _peephole(tile, job, spot, 1)
        p_i, p_f = d_i * c, d_f * c
    return d_i, d_f, d_g, d_o, past_c, past_h, p_i, p_f, p_o, o * a


@overload(adjoint)
def _adjoint(tile, job, spot, z, c, new_c, dh, dc):
    if tile.any_activation:
        return lambda tile, job, spot, z, c, new_c, dh, dc: _chosen_adjoint(tile, job, spot, z, c, dh, dc)

    def fused(tile, job, spot, z, c, new_c, dh, dc):
        width = lane_count(tile) * item_size(tile)
        i, f = load(tile, z), load(tile, z + width)
        g, o = load(tile, z + 2 * width), load(tile, z + 3 * width)
        a = tanh(new_c)
        d_a = dh * o
        dc = dc + d_a * (1.0 - a * a)
        d_i, d_f, d_g = dc * g * (i * (1.0 - i)), dc * c * (f * (1.0 - f)), dc * i * (1.0 - g * g)
        nothing = splat(tile, 0.0)
        return d_i, d_f, d_g, d_a * a * (1.0 - o), dc * f, nothing, nothing, nothing, nothing, nothing

    return fused
