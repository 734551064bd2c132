"""Initializers: how weights start.

An initializer is called as ``initializer(shape, dtype="float32", seed=None)``.  `seed` counts where the initializer was
made without one of its own.  Only distributions are those of Keras, never the numbers drawn.
"""

from numbalstm.initializers.base import Constant, Identity, Initializer, Ones, Zeros
from numbalstm.initializers.distributions import (
    ChronoInitializer,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    RandomInitializer,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)
from numbalstm.initializers.names import get, serialize

__all__ = [
    "ChronoInitializer",
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomInitializer",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "get",
    "serialize",
]
