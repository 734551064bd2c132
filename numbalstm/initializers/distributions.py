"""Initializers that draw; all draw in float64 and cast at the end."""

from math import prod, sqrt

import numpy as np

from numbalstm import checks
from numbalstm.initializers.base import Initializer, Seed, checked_seed, generator

TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a standard normal that is redrawn outside two standard deviations."""


class RandomInitializer(Initializer):
    """Base of the initializers that draw.

    Parameters
    ----------
    seed : int, numpy.random.Generator or None
        An int gives the same numbers at each call; a generator goes on; None follows the call's seed.
    """

    def __init__(self, seed: Seed = None) -> None:
        self.seed = checked_seed(type(self).__name__, seed)

    def _values(self, shape, dtype, random):
        where = type(self).__name__
        return self._draw(shape, random if self.seed is None else generator(where, self.seed))

    def _draw(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def get_config(self) -> dict:
        return {"seed": self.seed}


class RandomUniform(RandomInitializer):
    """Uniform numbers in [minval, maxval).

    Parameters
    ----------
    minval, maxval : float, default -0.05 and 0.05
    seed : int, numpy.random.Generator or None
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Seed = None) -> None:
        super().__init__(seed)
        self.minval = checks.number("RandomUniform", "minval", minval)
        self.maxval = checks.number("RandomUniform", "maxval", maxval, minimum=self.minval)

    def _draw(self, shape, random):
        return random.uniform(self.minval, self.maxval, shape)

    def get_config(self) -> dict:
        return {"minval": self.minval, "maxval": self.maxval, "seed": self.seed}


class RandomNormal(RandomInitializer):
    """Normal numbers.

    Parameters
    ----------
    mean, stddev : float, default 0 and 0.05
    seed : int, numpy.random.Generator or None
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Seed = None) -> None:
        super().__init__(seed)
        self.mean = checks.number(type(self).__name__, "mean", mean)
        self.stddev = checks.number(type(self).__name__, "stddev", stddev, minimum=0.0)

    def _draw(self, shape, random):
        return self.mean + self.stddev * random.standard_normal(shape)

    def get_config(self) -> dict:
        return {"mean": self.mean, "stddev": self.stddev, "seed": self.seed}


class TruncatedNormal(RandomNormal):
    """Normal numbers, redrawn where they lie more than two standard deviations from the mean.

    Parameters
    ----------
    mean, stddev : float, default 0 and 0.05
        Of the normal distribution before truncation.
    seed : int, numpy.random.Generator or None
    """

    def _draw(self, shape, random):
        return self.mean + self.stddev * _truncated_normal(shape, random)


class VarianceScaling(RandomInitializer):
    """Numbers whose variance is scale / n, where n counts the connections of a unit.

    Parameters
    ----------
    scale : float, default 1
        Positive.
    mode : {"fan_in", "fan_out", "fan_avg"}
        What n is; 1 at least.
    distribution : {"truncated_normal", "normal", "untruncated_normal", "uniform"}
        "normal" is an older name of "truncated_normal".
    seed : int, numpy.random.Generator or None

    Raises
    ------
    ValueError
        When scale is not positive, or mode or distribution is unknown.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        where = type(self).__name__
        self.scale = checks.number(where, "scale", scale)
        if self.scale <= 0.0:
            raise ValueError(f"{where}: scale must be positive, got {self.scale:g}.")
        self.mode = checks.one_of(where, "mode", mode, ("fan_in", "fan_out", "fan_avg"))
        if distribution == "normal":
            distribution = "truncated_normal"
        self.distribution = checks.one_of(
            where, "distribution", distribution, ("truncated_normal", "untruncated_normal", "uniform")
        )

    def _draw(self, shape, random):
        fan_in, fan_out = _fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = sqrt(3.0 * variance)
            return random.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return sqrt(variance) * random.standard_normal(shape)
        return sqrt(variance) / TRUNCATED_STD * _truncated_normal(shape, random)

    def get_config(self) -> dict:
        return {"scale": self.scale, "mode": self.mode, "distribution": self.distribution, "seed": self.seed}


class _Named(VarianceScaling):
    """A variance scaling under its own name; its only setting is the seed."""

    SETTINGS: tuple[float, str, str]

    def __init__(self, seed: Seed = None) -> None:
        super().__init__(*self.SETTINGS, seed)

    def get_config(self) -> dict:
        return {"seed": self.seed}


class GlorotUniform(_Named):
    """Uniform, variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""

    SETTINGS = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named):
    """Truncated normal, variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""

    SETTINGS = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Named):
    """Uniform, variance 2 / fan_in (He et al. 2015)."""

    SETTINGS = (2.0, "fan_in", "uniform")


class HeNormal(_Named):
    """Truncated normal, variance 2 / fan_in (He et al. 2015)."""

    SETTINGS = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Named):
    """Uniform, variance 1 / fan_in (LeCun et al. 1998)."""

    SETTINGS = (1.0, "fan_in", "uniform")


class LecunNormal(_Named):
    """Truncated normal, variance 1 / fan_in (LeCun et al. 1998)."""

    SETTINGS = (1.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """A matrix with orthonormal rows or columns, whichever are fewer, times a gain (Saxe et al. 2014).

    Parameters
    ----------
    gain : float, default 1
    seed : int, numpy.random.Generator or None

    Notes
    -----
    The recurrent kernel of an LSTM, (units, 4 * units), gets orthonormal rows across its four gates together.  A shape
    with more than two axes is drawn as a matrix of all but the last axis by the last, as in Keras.
    """

    def __init__(self, gain: float = 1.0, seed: Seed = None) -> None:
        super().__init__(seed)
        self.gain = checks.number("Orthogonal", "gain", gain)

    def _draw(self, shape, random):
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: shape must have two axes or more, got {checks.format_shape(shape)}.")
        rows, columns = prod(shape[:-1]), shape[-1]
        basis = _orthonormal(random.standard_normal((max(rows, columns), min(rows, columns))))
        return self.gain * (basis if rows >= columns else basis.T).reshape(shape)

    def get_config(self) -> dict:
        return {"gain": self.gain, "seed": self.seed}


def _truncated_normal(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    values = random.standard_normal(shape)
    while (outside := np.abs(values) > 2.0).any():
        values[outside] = random.standard_normal(np.count_nonzero(outside))
    return values


def _orthonormal(z: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the columns of z (r, c), r >= c; the signs make it uniform over all of them."""
    q, r = np.linalg.qr(z)
    return q * np.where(np.diag(r) < 0.0, -1.0, 1.0)


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return fan_in and fan_out: a matrix's sizes, a vector's length twice, Keras's rule for a convolution kernel."""
    if len(shape) < 2:
        size = prod(shape)
        return size, size
    field = prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


class ChronoInitializer(RandomInitializer):
    """A bias for LSTM gates that start with memories of up to `max_time` steps (Tallec and Ollivier 2018).

    The forget gate starts at log(u), u uniform in [1, max_time - 1), the input gate at minus the same, the candidate
    and the output gate at 0.  As ``bias_initializer`` of an `numbalstm.LSTM` it goes before ``unit_forget_bias``.

    Parameters
    ----------
    max_time : float, at least 2
        Longest dependency to expect, in steps.
    seed : int, numpy.random.Generator or None
    """

    def __init__(self, max_time: float, seed: Seed = None) -> None:
        super().__init__(seed)
        self.max_time = checks.number("ChronoInitializer", "max_time", max_time, minimum=2.0)

    def _draw(self, shape, random):
        if len(shape) != 1 or shape[0] % 4:
            raise ValueError(
                f"ChronoInitializer: shape must be (4 * units,), the bias of an LSTM, got {checks.format_shape(shape)}."
            )
        forget = np.log(random.uniform(1.0, self.max_time - 1.0, shape[0] // 4))
        nothing = np.zeros_like(forget)
        return np.concatenate([-forget, forget, nothing, nothing])

    def get_config(self) -> dict:
        return {"max_time": self.max_time, "seed": self.seed}
