"""Elementary functions: NumPy's in the interpreter, libm's on floats in a kernel, polynomials on SIMD vectors.

exp(x) = 2**n * (1 + p(r)) with n = round(x / ln 2) and p(r) = expm1(r) on |r| <= ln 2 / 2. The polynomials interpolate
(expm1(r) - r) / r**2 at Chebyshev nodes; relative errors 2.4e-8 (float32, under half an ulp) and 4e-17 (float64).
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing import signature
from numba.extending import intrinsic

from numbalstm.kernels.linked import linked, overload, register_jitable
from numbalstm.kernels.simd import (
    I32,
    Vector,
    absolute,
    fma,
    less,
    maximum,
    minimum,
    power_of_two,
    reciprocal,
    select,
    vector_type,
)

LOG2_E = 1.4426950408889634


# ---- on vectors


@linked
def _split32(x):
    """n + 2**23 * 1.5, n = round(x / ln 2), and r = x - n * ln 2."""
    shifted = fma(x, LOG2_E, 12582912.0)
    n = shifted - 12582912.0
    return shifted, n, fma(n, 2.12194440054690583e-4, fma(n, -0.693359375, x))


@linked
def _split64(x):
    shifted = fma(x, LOG2_E, 6755399441055744.0)
    n = shifted - 6755399441055744.0
    return shifted, n, fma(n, -1.90821492927058770002e-10, fma(n, -6.93147180369123816490e-01, x))


@linked
def _series32(r):
    """expm1(r)."""
    q = fma(r, 0.00139261835877, 0.00836317905272)
    q = fma(q, r, 0.0416665546172)
    q = fma(q, r, 0.166665769897)
    q = fma(q, r, 0.5)
    return fma(r * r, q, r)


@linked
def _series64(r):
    q = fma(r, 2.51003854955103191e-8, 2.76200884454097482e-7)
    q = fma(q, r, 2.75572684599970648e-6)
    q = fma(q, r, 2.48015212959543751e-5)
    q = fma(q, r, 1.98412698630536169e-4)
    q = fma(q, r, 1.38888889172137169e-3)
    q = fma(q, r, 8.33333333333006183e-3)
    q = fma(q, r, 0.0416666666666241279)
    q = fma(q, r, 0.166666666666666675)
    q = fma(q, r, 0.500000000000000102)
    return fma(r * r, q, r)


def _bounded(x, share):
    """x, kept to where e**x and e**-x, or with ``share=0.5`` products of two such, are normal numbers."""


@overload(_bounded)
def _bounded_overload(x, share):
    limit = 87.0 if x.dtype == types.float32 else 708.0
    return lambda x, share: minimum(maximum(x, -limit * share), limit * share)


def _scaled(x):
    """expm1(r) and 2**n of a bounded vector: exp(x) = 2**n * (1 + expm1(r))."""


@overload(_scaled)
def _scaled_overload(x):
    split, series = (_split32, _series32) if x.dtype == types.float32 else (_split64, _series64)

    def scaled(x):
        shifted, _, r = split(x)
        return series(r), power_of_two(shifted)

    return scaled


@linked
def _vector_sigmoid(x):
    p, scale = _scaled(-_bounded(x, 1.0))
    return reciprocal(fma(scale, p, scale + 1.0))


@linked
def _vector_tanh(x):
    p, scale = _scaled(_bounded(x + x, 1.0))
    grown = fma(scale, p, scale - 1.0)  # expm1(2x), so small x keep their relative precision
    return grown * reciprocal(grown + 2.0)


@linked(forceinline=True)
def gated_tanh(z, x):
    """Return sigmoid(z) * tanh(x), sigmoid(z) and tanh(x) of vectors with one division for all of them."""
    p, scale = _scaled(-_bounded(z, 0.48))
    closed = fma(scale, p, scale + 1.0)
    p, scale = _scaled(_bounded(x + x, 0.48))
    grown = fma(scale, p, scale - 1.0)
    more = grown + 2.0
    inverse = reciprocal(closed * more)
    return grown * inverse, more * inverse, grown * (closed * inverse)


def _exponential(x):
    """exp over the whole range of a vector: overflows to infinity, underflows through the subnormals."""


@overload(_exponential)
def _exponential_overload(x):
    if x.dtype == types.float32:
        split, series, magic, low, high = _split32, _series32, 12582912.0, -104.0, 89.0
    else:
        split, series, magic, low, high = _split64, _series64, 6755399441055744.0, -746.0, 710.0

    def exponential(x):
        _, n, r = split(minimum(maximum(x, low), high))
        # 2**n in two factors, since it may lie outside the normal numbers where the result does not
        half = fma(n, 0.5, magic)
        other = n - (half - magic) + magic
        return (series(r) + 1.0) * power_of_two(half) * power_of_two(other)

    return exponential


@linked
def _vector_expm1(x):
    p, scale = _scaled(_bounded(minimum(x, 1.0), 1.0))
    return select(less(x, 1.0), fma(scale, p, scale - 1.0), _exponential(x) - 1.0)


def _lane_by_lane(function):
    """A libm function on every lane of a vector: for formulas that are rare in LSTM layers."""

    @intrinsic
    def call(typingctx, x):
        def codegen(context, builder, sig, args):
            one = signature(x.dtype, x.dtype)
            scalar = context.get_function(function, one)
            result = ir.Constant(vector_type(x), ir.Undefined)
            for lane in range(x.lanes):
                value = scalar(builder, [builder.extract_element(args[0], I32(lane))])
                result = builder.insert_element(result, value, I32(lane))
            return result

        return x(x), codegen

    return call


_vector_log1p = _lane_by_lane(math.log1p)
_vector_erf = _lane_by_lane(math.erf)


# ---- what formulas call


def exp(x):
    """e**x; infinity where it overflows."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)


def expm1(x):
    """e**x - 1, precise for small x."""
    with np.errstate(over="ignore", under="ignore"):
        return np.expm1(x)


def log1p(x):
    """log(1 + x), precise for small x."""
    return np.log1p(x)


def erf(x):
    """The error function."""
    return np.vectorize(math.erf, otypes=[np.asarray(x).dtype])(x)[()]


def tanh(x):
    """The hyperbolic tangent."""
    return np.tanh(x)


@register_jitable
def _float_sigmoid(x):
    e = exp(-absolute(x))
    return select(less(x, 0.0), e, 1.0) / (1.0 + e)


def sigmoid(x):
    """1 / (1 + e**-x), precise for both signs."""
    return _float_sigmoid(x)


def _on_vectors_and_floats(operation, on_vectors, on_floats):
    @overload(operation)
    def choose(x):
        if isinstance(x, Vector):
            return lambda x: on_vectors(x)
        return lambda x: on_floats(x)


_on_vectors_and_floats(exp, _exponential, math.exp)
_on_vectors_and_floats(expm1, _vector_expm1, math.expm1)
_on_vectors_and_floats(log1p, _vector_log1p, math.log1p)
_on_vectors_and_floats(erf, _vector_erf, math.erf)
_on_vectors_and_floats(tanh, _vector_tanh, math.tanh)
_on_vectors_and_floats(sigmoid, _vector_sigmoid, _float_sigmoid)
