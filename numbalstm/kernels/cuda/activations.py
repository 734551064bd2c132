"""The activations of `numbalstm.kernels.formulas` and `families` as device functions.

A formula is not written again: its Python function is bound anew, its constants in the kernel's type (a Python float
would make Numba compute in float64) and its elementary functions from CUDA's mathematical library.
"""

import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from numbalstm.kernels import elementary, simd
from numbalstm.kernels.cuda import ptx
from numbalstm.kernels.cuda.kernel import device
from numbalstm.kernels.families import FAMILIES
from numbalstm.kernels.formulas import FORMULAS

LOG2_E = np.float32(elementary.LOG2_E)


@device
def less(a, b):
    return a < b


@device
def select(condition, a, b):
    return a if condition else b


@device
def minimum(x, bound):
    return bound if bound < x else x


@device
def maximum(x, bound):
    return bound if x < bound else x


@device
def absolute(x):
    return abs(x)


OPERATIONS = {
    elementary.exp: math.exp,
    elementary.expm1: math.expm1,
    elementary.log1p: math.log1p,
    elementary.erf: math.erf,
    elementary.tanh: math.tanh,
    simd.less: less,
    simd.select: select,
    simd.minimum: minimum,
    simd.maximum: maximum,
    simd.absolute: absolute,
}


@device
def fast_sigmoid(x):
    """Return the sigmoid from one power and one reciprocal of the special function unit, 2e-7 absolute."""
    return ptx.rcp_approx(np.float32(1.0) + ptx.ex2_approx(-x * LOG2_E))


@device
def fast_tanh(x):
    """Return tanh(x) = 2 sigmoid(2x) - 1, 4e-7 absolute."""
    twice = np.float32(2.0)
    return twice * fast_sigmoid(twice * x) - np.float32(1.0)


FAST = {"sigmoid": fast_sigmoid, "tanh": fast_tanh}


def value(activation: Any, element: str, fast: bool = False) -> Any:
    """Return the device function f(x) of an activation, by its name or (name, alpha, beta), in float32 or float64.

    ``fast`` takes the short forms where there are such.
    """
    return FAST[activation] if fast and activation in FAST else _function(activation, "forward", element)


def slope(activation: Any, element: str) -> Any:
    """Return the device function f'(x) of an activation."""
    return _function(activation, "derivative", element)


def _function(activation: Any, which: str, element: str) -> Any:
    real = np.dtype(element).type
    if isinstance(activation, str):
        return _bound(getattr(FORMULAS[activation], which), real, {})
    name, alpha, beta = activation
    function, alpha, beta = _bound(getattr(FAMILIES[name], which), real, {}), real(alpha), real(beta)
    return device(lambda x: function(x, alpha, beta))


def _bound(function: Callable, real: type, known: dict[Callable, Any]) -> Any:
    """Return a formula's function as a device function whose constants are of the type `real`."""
    if function in OPERATIONS:
        return OPERATIONS[function]
    if function is elementary.sigmoid:
        function = elementary._float_sigmoid
    if function not in known:
        code, names = function.__code__, function.__globals__
        code = code.replace(co_consts=tuple(_cast(constant, real, known) for constant in code.co_consts))
        found = {name: _cast(names[name], real, known) for name in code.co_names if name in names}
        known[function] = device(types.FunctionType(code, found, function.__name__))
    return known[function]


def _cast(constant: Any, real: type, known: dict[Callable, Any]) -> Any:
    if type(constant) is float:
        return real(constant)
    return _bound(constant, real, known) if isinstance(constant, types.FunctionType) else constant
