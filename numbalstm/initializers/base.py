"""What an initializer is, and those that draw nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numbalstm import checks, dtypes, objects

Seed = int | np.random.Generator | None


class Initializer(objects.Configurable):
    """Base of all initializers."""

    def __call__(self, shape: Sequence[int], dtype: Any = "float32", seed: Seed = None) -> np.ndarray:
        """Return the first value of a weight.

        Parameters
        ----------
        shape : sequence of int
            Shape of the weight.
        dtype : dtype or name of a dtype policy, default "float32"
            Type of the result.
        seed : int, numpy.random.Generator or None
            Seed of a fresh stream, or the stream to draw from.  None draws unpredictable numbers.

        Raises
        ------
        ValueError
            When the shape does not suit the initializer, or dtype or seed is not one of these.
        """
        where = type(self).__name__
        if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence):
            raise TypeError(f"{where}: shape must be a sequence of integers, got {checks.describe(shape)}.")
        shape = tuple(checks.integer(where, "a size in shape", size, minimum=0) for size in shape)
        policy = dtypes.policy(dtype, where=f"{where}: dtype")
        return policy.to_variable(self._values(shape, policy.variable, generator(where, seed)))

    def _values(self, shape: tuple[int, ...], dtype: np.dtype, random: np.random.Generator) -> np.ndarray:
        raise NotImplementedError


class Zeros(Initializer):
    """Zeros."""

    def _values(self, shape, dtype, random):
        return np.zeros(shape, dtype)


class Ones(Initializer):
    """Ones."""

    def _values(self, shape, dtype, random):
        return np.ones(shape, dtype)


class Constant(Initializer):
    """One value everywhere.

    Parameters
    ----------
    value : float, default 0
    """

    def __init__(self, value: float = 0.0) -> None:
        self.value = checks.number("Constant", "value", value)

    def _values(self, shape, dtype, random):
        return np.full(shape, self.value)

    def get_config(self) -> dict:
        return {"value": self.value}


class Identity(Initializer):
    """gain * eye(rows, columns), for matrices only.

    Parameters
    ----------
    gain : float, default 1
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = checks.number("Identity", "gain", gain)

    def _values(self, shape, dtype, random):
        if len(shape) != 2:
            raise ValueError(f"Identity: shape must be (rows, columns), got {checks.format_shape(shape)}.")
        return self.gain * np.eye(*shape)

    def get_config(self) -> dict:
        return {"gain": self.gain}


class FromCallable(Initializer):
    """A user's ``function(shape, dtype)``."""

    def __init__(self, function: Callable) -> None:
        self.function = function

    def _values(self, shape, dtype, random):
        name = getattr(self.function, "__name__", type(self.function).__name__)
        values = np.asarray(self.function(shape, dtype))
        checks.shape(f"initializer {name}", "its result", values, shape)
        return values

    def get_config(self) -> dict:
        return {"function": self.function}


class FromArray(Initializer):
    """A given array; the weight must have exactly its shape."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = np.array(array)

    def _values(self, shape, dtype, random):
        checks.shape("initializer", "the array", self.array, shape)
        return self.array.copy()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FromArray) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash((self.array.shape, self.array.dtype))

    def get_config(self) -> dict:
        return {"array": self.array.copy()}


def checked_seed(where: str, seed: Any) -> Seed:
    """Return a seed as given, the number of a serialized SeedGenerator of Keras 3, or raise ValueError."""
    if isinstance(seed, Mapping) and seed.get("class_name") == "SeedGenerator":
        seed = seed.get("config", {}).get("seed")
    if seed is None or isinstance(seed, np.random.Generator):
        return seed
    try:
        return checks.integer(where, "seed", seed, minimum=0)
    except TypeError:
        raise ValueError(
            f"{where}: seed must be None, an integer or a numpy.random.Generator, got {checks.describe(seed)}."
        ) from None


def generator(where: str, seed: Any) -> np.random.Generator:
    return np.random.default_rng(checked_seed(where, seed))
