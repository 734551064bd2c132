"""Activations with numbers of their own, as the ONNX operator LSTM has them: f(x) and f'(x) of NumPy arrays.

At a kink the derivative is that of the flat or lower side, as in `numbalstm.kernels.formulas`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from numbalstm.kernels.formulas import FORMULAS

TANH = FORMULAS["tanh"]


def affine(x, alpha, beta):
    return alpha * x + beta


def d_affine(x, alpha, beta):
    return np.where(np.isnan(x), x, alpha)


def leaky_relu(x, alpha):
    return np.where(x < 0, alpha * x, x)


def d_leaky_relu(x, alpha):
    return np.where(x > 0, 1, d_affine(x, alpha, 0))


def thresholded_relu(x, alpha):
    return np.where(x < alpha, 0, x)


def d_thresholded_relu(x, alpha):
    return np.where(x > alpha, 1, d_affine(x, 0, 0))


def scaled_tanh(x, alpha, beta):
    return alpha * TANH.forward(beta * x)


def d_scaled_tanh(x, alpha, beta):
    return alpha * beta * TANH.derivative(beta * x)


def hard_sigmoid(x, alpha, beta):
    return np.clip(alpha * x + beta, 0, 1)


def d_hard_sigmoid(x, alpha, beta):
    line = alpha * x + beta
    return np.where((line > 0) & (line < 1), alpha, d_affine(x, 0, 0))


def elu(x, alpha):
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def d_elu(x, alpha):
    return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


class Family(NamedTuple):
    """A function of x and of `alpha`, maybe `beta`; the defaults of these, None where there is none to fall back on."""

    function: Callable
    derivative: Callable
    defaults: tuple[float | None, ...]


FAMILIES = {
    "Affine": Family(affine, d_affine, (None, None)),
    "Elu": Family(elu, d_elu, (1.0,)),
    "HardSigmoid": Family(hard_sigmoid, d_hard_sigmoid, (0.2, 0.5)),
    "LeakyRelu": Family(leaky_relu, d_leaky_relu, (0.01,)),
    "ScaledTanh": Family(scaled_tanh, d_scaled_tanh, (None, None)),
    "ThresholdedRelu": Family(thresholded_relu, d_thresholded_relu, (1.0,)),
}

FIXED = {"Relu": "relu", "Sigmoid": "sigmoid", "Softplus": "softplus", "Softsign": "softsign", "Tanh": "tanh"}
"""ONNX functions without numbers, and their names here."""

EQUAL = {
    ("Affine", 1.0, 0.0): "linear",
    ("Elu", 1.0, None): "elu",
    ("HardSigmoid", 0.2, 0.5): "hard_sigmoid_keras2",
    ("LeakyRelu", 0.2, None): "leaky_relu",
    ("ScaledTanh", 1.0, 1.0): "tanh",
}
"""ONNX functions that are one of ours at these numbers."""
