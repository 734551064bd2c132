"""Each elementwise activation f(x) and its derivative f'(x), written once; those with numbers of their own: `families`.

The functions take NumPy arrays and floats in the interpreter, and floats and SIMD vectors inside ``@njit``.  A vector
has no branches, so both sides of a `select` are computed: neither may trap, and the side not taken may overflow.
All hold for every finite x in float32 and float64 without cancellation that a rearrangement avoids, reach the right
limits at infinity, and give NaN for NaN.

Names and defaults are Keras's.  At a kink the derivative is the one of the flat or lower side: relu'(0) = 0, a clip
has slope 0 at and beyond its ends, leaky_relu'(0) = 0.2.
"""

from collections.abc import Callable
from typing import NamedTuple

from numbalstm.kernels.elementary import erf, exp, expm1, log1p, sigmoid, tanh
from numbalstm.kernels.linked import register_jitable
from numbalstm.kernels.simd import absolute, less, maximum, minimum, select

SELU_SCALE = 1.0507009873554804934
SELU_ALPHA = 1.6732632423543772848
LEAKY_SLOPE = 0.2
SHRINK = 0.5
SQRT_HALF = 0.70710678118654752440
INVERSE_SQRT_TWO_PI = 0.39894228040143267794

# ---- pieces


@register_jitable
def clip(x, low, high):
    return minimum(maximum(x, low), high)


@register_jitable
def zero(x):
    """Return 0 in the type of x, NaN for NaN (x - x would be NaN at infinity too)."""
    return clip(x, 0.0, 0.0)


@register_jitable
def slope_within(x, low, high, slope):
    """Return the derivative of a clipped line: `slope` for low < x < high, 0 elsewhere."""
    flat = zero(x)
    return select(less(x, high), select(less(low, x), slope, flat), flat)


@register_jitable
def decay(x):
    """Return e^-|x|, which never overflows."""
    return exp(-absolute(x))


# ---- saturating


@register_jitable
def linear(x):
    return x


@register_jitable
def d_linear(x):
    return zero(x) + 1.0


@register_jitable
def d_tanh(x):
    e = decay(2.0 * x)
    return 4.0 * e / ((1.0 + e) * (1.0 + e))  # 1 - tanh^2 without its cancellation at large |x|


@register_jitable
def d_sigmoid(x):
    e = decay(x)
    return e / ((1.0 + e) * (1.0 + e))


@register_jitable
def log_sigmoid(x):
    return minimum(x, 0.0) - log1p(decay(x))


@register_jitable
def d_log_sigmoid(x):
    return sigmoid(-x)


@register_jitable
def clipped_line(x, alpha, beta):
    return clip(alpha * x + beta, 0.0, 1.0)


@register_jitable
def d_clipped_line(x, alpha, beta):
    return slope_within(alpha * x + beta, 0.0, 1.0, alpha)


@register_jitable
def hard_sigmoid(x):
    return clipped_line(x, 1.0 / 6.0, 0.5)


@register_jitable
def d_hard_sigmoid(x):
    return slope_within(x, -3.0, 3.0, 1.0 / 6.0)


@register_jitable
def hard_sigmoid_keras2(x):
    return clipped_line(x, 0.2, 0.5)


@register_jitable
def d_hard_sigmoid_keras2(x):
    return slope_within(x, -2.5, 2.5, 0.2)


@register_jitable
def sparse_sigmoid(x):
    return clipped_line(x, 0.5, 0.5)


@register_jitable
def d_sparse_sigmoid(x):
    return slope_within(x, -1.0, 1.0, 0.5)


@register_jitable
def hard_tanh(x):
    return clip(x, -1.0, 1.0)


@register_jitable
def d_hard_tanh(x):
    return slope_within(x, -1.0, 1.0, 1.0)


@register_jitable
def softsign(x):
    x = clip(x, -1e30, 1e30)  # +-1 there already; infinity / infinity would be NaN
    return x / (1.0 + absolute(x))


@register_jitable
def d_softsign(x):
    s = 1.0 / (1.0 + absolute(x))
    return s * s


# ---- rectifiers


@register_jitable
def relu(x):
    return maximum(x, 0.0)


@register_jitable
def d_relu(x):
    return select(less(0.0, x), 1.0, zero(x))


@register_jitable
def relu6(x):
    return clip(x, 0.0, 6.0)


@register_jitable
def d_relu6(x):
    return slope_within(x, 0.0, 6.0, 1.0)


@register_jitable
def leaky(x, alpha, beta):
    return select(less(x, 0.0), alpha * x, x)


@register_jitable
def d_leaky(x, alpha, beta):
    return select(less(0.0, x), 1.0, zero(x) + alpha)


@register_jitable
def leaky_relu(x):
    return leaky(x, LEAKY_SLOPE, 0.0)


@register_jitable
def d_leaky_relu(x):
    return d_leaky(x, LEAKY_SLOPE, 0.0)


@register_jitable
def exponential_below(x, alpha, beta):
    return select(less(x, 0.0), alpha * expm1(minimum(x, 0.0)), x)


@register_jitable
def d_exponential_below(x, alpha, beta):
    return select(less(0.0, x), 1.0, alpha * exp(minimum(x, 0.0)))


@register_jitable
def elu(x):
    return exponential_below(x, 1.0, 0.0)


@register_jitable
def d_elu(x):
    return exp(minimum(x, 0.0))


@register_jitable
def selu(x):
    return SELU_SCALE * exponential_below(x, SELU_ALPHA, 0.0)


@register_jitable
def d_selu(x):
    return SELU_SCALE * d_exponential_below(x, SELU_ALPHA, 0.0)


@register_jitable
def softplus(x):
    return maximum(x, 0.0) + log1p(decay(x))


@register_jitable
def sparse_plus(x):
    ramp = clip(x, -1.0, 1.0) + 1.0
    return select(less(x, 1.0), 0.25 * ramp * ramp, x)


@register_jitable
def hypotenuse(x):
    """Return sqrt(x^2 + 4) without overflow, from the functions a vector has."""
    size = absolute(x)
    longer = maximum(size, 2.0)
    ratio = minimum(size, 2.0) / longer
    return longer * exp(0.5 * log1p(ratio * ratio))


@register_jitable
def squareplus(x):
    total = absolute(x) + hypotenuse(x)
    return select(less(x, 0.0), 2.0 / total, 0.5 * total)


@register_jitable
def d_squareplus(x):
    root = hypotenuse(x)
    rest = 2.0 / (absolute(x) + root) / root
    return select(less(x, 0.0), rest, 1.0 - rest)


# ---- x times a gate; x is clipped where the gate is 0, because -infinity * 0 would be NaN


@register_jitable
def silu(x):
    return maximum(x, -1e3) * sigmoid(x)


@register_jitable
def d_silu(x):
    x = clip(x, -1e3, 1e3)
    return sigmoid(x) * (1.0 + x * sigmoid(-x))


@register_jitable
def hard_silu(x):
    return maximum(x, -3.0) * hard_sigmoid(x)


@register_jitable
def d_hard_silu(x):
    return hard_sigmoid(x) + clip(x, -3.0, 3.0) * d_hard_sigmoid(x)


@register_jitable
def gelu(x):
    return maximum(x, -1e3) * (0.5 + 0.5 * erf(SQRT_HALF * x))


@register_jitable
def d_gelu(x):
    x = clip(x, -1e3, 1e3)
    return 0.5 + 0.5 * erf(SQRT_HALF * x) + INVERSE_SQRT_TWO_PI * x * exp(-0.5 * x * x)


@register_jitable
def tanh_softplus(x):
    """Return t = tanh(softplus(x)) and 1 - t as ratios of polynomials in e^-|x|."""
    e = decay(x)
    negative = less(x, 0.0)
    top = select(negative, e * (e + 2.0), 1.0 + 2.0 * e)
    rest = select(negative, 2.0, 2.0 * e * e)
    bottom = top + rest
    return top / bottom, rest / bottom


@register_jitable
def mish(x):
    return maximum(x, -1e3) * tanh_softplus(x)[0]


@register_jitable
def d_mish(x):
    x = clip(x, -1e3, 1e3)
    t, rest = tanh_softplus(x)
    return t + x * sigmoid(x) * rest * (1.0 + t)


# ---- shrinking and growing


@register_jitable
def tanh_shrink(x):
    return x - tanh(x)


@register_jitable
def d_tanh_shrink(x):
    t = tanh(x)
    return t * t


@register_jitable
def soft_shrink(x):
    return x - clip(x, -SHRINK, SHRINK)


@register_jitable
def hard_shrink(x):
    return select(less(SHRINK, absolute(x)), x, zero(x))


@register_jitable
def d_shrink(x):
    return select(less(SHRINK, absolute(x)), 1.0, zero(x))


# ---- the table


class Formula(NamedTuple):
    """An activation's run-time code for the compute kernels, and its functions f and f'."""

    code: int
    forward: Callable
    derivative: Callable


FORMULAS = {
    "linear": Formula(0, linear, d_linear),
    "tanh": Formula(1, tanh, d_tanh),
    "sigmoid": Formula(2, sigmoid, d_sigmoid),
    "hard_sigmoid": Formula(3, hard_sigmoid, d_hard_sigmoid),
    "hard_sigmoid_keras2": Formula(4, hard_sigmoid_keras2, d_hard_sigmoid_keras2),
    "relu": Formula(5, relu, d_relu),
    "relu6": Formula(6, relu6, d_relu6),
    "leaky_relu": Formula(7, leaky_relu, d_leaky_relu),
    "elu": Formula(8, elu, d_elu),
    "celu": Formula(8, elu, d_elu),  # the same function at its default parameter
    "selu": Formula(9, selu, d_selu),
    "exponential": Formula(10, exp, exp),
    "softplus": Formula(11, softplus, sigmoid),
    "softsign": Formula(12, softsign, d_softsign),
    "silu": Formula(13, silu, d_silu),
    "hard_silu": Formula(14, hard_silu, d_hard_silu),
    "gelu": Formula(15, gelu, d_gelu),
    "mish": Formula(16, mish, d_mish),
    "log_sigmoid": Formula(17, log_sigmoid, d_log_sigmoid),
    "sparse_sigmoid": Formula(18, sparse_sigmoid, d_sparse_sigmoid),
    "sparse_plus": Formula(19, sparse_plus, sparse_sigmoid),
    "squareplus": Formula(20, squareplus, d_squareplus),
    "tanh_shrink": Formula(21, tanh_shrink, d_tanh_shrink),
    "soft_shrink": Formula(22, soft_shrink, d_shrink),
    "hard_shrink": Formula(23, hard_shrink, d_shrink),
    "hard_tanh": Formula(24, hard_tanh, d_hard_tanh),
}
