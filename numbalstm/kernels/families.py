"""Activations f(x, alpha, beta) with numbers of their own, as the ONNX operator LSTM has them; see `formulas`.

Those without a beta take one all the same.
"""

from numbalstm.kernels.elementary import tanh
from numbalstm.kernels.formulas import (
    Formula,
    clipped_line,
    d_clipped_line,
    d_exponential_below,
    d_leaky,
    d_tanh,
    exponential_below,
    leaky,
    zero,
)
from numbalstm.kernels.linked import register_jitable
from numbalstm.kernels.simd import less, select


@register_jitable
def affine(x, alpha, beta):
    return alpha * x + beta


@register_jitable
def d_affine(x, alpha, beta):
    return zero(x) + alpha


@register_jitable
def scaled_tanh(x, alpha, beta):
    return alpha * tanh(beta * x)


@register_jitable
def d_scaled_tanh(x, alpha, beta):
    return alpha * beta * d_tanh(beta * x)


@register_jitable
def thresholded(x, alpha, beta):
    return select(less(x, alpha), zero(x), x)


@register_jitable
def d_thresholded(x, alpha, beta):
    return select(less(alpha, x), 1.0, zero(x))


FAMILIES = {
    "Affine": Formula(25, affine, d_affine),
    "Elu": Formula(26, exponential_below, d_exponential_below),
    "HardSigmoid": Formula(27, clipped_line, d_clipped_line),
    "LeakyRelu": Formula(28, leaky, d_leaky),
    "ScaledTanh": Formula(29, scaled_tanh, d_scaled_tanh),
    "ThresholdedRelu": Formula(30, thresholded, d_thresholded),
}
"""By their names in ONNX; the codes go on where those of `formulas.FORMULAS` end."""
