"""The activations of a cell, chosen when a kernel is compiled or, for all but the default pair, while it runs."""

from numba.extending import overload, register_jitable

from numbalstm.kernels.elementary import gated_tanh, sigmoid
from numbalstm.kernels.formulas import FORMULAS, linear


def _chain(code, formula, otherwise):
    @register_jitable
    def choose(wanted, x):
        if wanted == code:
            return formula(x)
        return otherwise(wanted, x)

    return choose


@register_jitable
def _last(wanted, x):
    return linear(x)


activate = _last  # activate(code, x): the formula with that code
for _formula in {formula.code: formula for formula in FORMULAS.values()}.values():
    activate = _chain(_formula.code, _formula.forward, activate)


def gate(tile, job, z):
    """The recurrent activation."""


def gated(tile, job, z, x):
    """The recurrent activation of z times the activation of x: i * g, and o times the cell state's."""


@overload(gate)
def _gate(tile, job, z):
    if tile.any_activation:
        return lambda tile, job, z: activate(job.recurrent_activation, z)
    return lambda tile, job, z: sigmoid(z)


@overload(gated)
def _gated(tile, job, z, x):
    if tile.any_activation:
        return lambda tile, job, z, x: activate(job.recurrent_activation, z) * activate(job.activation, x)
    return lambda tile, job, z, x: gated_tanh(z, x)
