"""Activations that are chosen by their codes while a kernel runs."""

from numbalstm.kernels.elementary import sigmoid, tanh
from numbalstm.kernels.families import FAMILIES
from numbalstm.kernels.formulas import FORMULAS
from numbalstm.kernels.linked import register_jitable


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


activate = _by_code(lambda formula: formula.forward)
with_slope = _by_code(_with_slope)
