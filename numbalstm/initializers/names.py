"""Initializers by name, and their form in a layer config."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numbalstm import objects
from numbalstm.initializers.base import Constant, FromArray, FromCallable, Identity, Initializer, Ones, Zeros
from numbalstm.initializers.distributions import (
    ChronoInitializer,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)

_CLASSES = (
    (Zeros, "zeros", "zero"),
    (Ones, "ones", "one"),
    (Constant, "constant"),
    (Identity, "identity", "IdentityInitializer"),
    (RandomUniform, "random_uniform", "uniform"),
    (RandomNormal, "random_normal", "normal"),
    (TruncatedNormal, "truncated_normal"),
    (VarianceScaling, "variance_scaling"),
    (GlorotUniform, "glorot_uniform"),
    (GlorotNormal, "glorot_normal"),
    (HeUniform, "he_uniform"),
    (HeNormal, "he_normal"),
    (LecunUniform, "lecun_uniform"),
    (LecunNormal, "lecun_normal"),
    (Orthogonal, "orthogonal", "OrthogonalInitializer"),
    (ChronoInitializer,),
)

NAMED: dict[str, type[Initializer]] = {name: cls for cls, *names in _CLASSES for name in (cls.__name__, *names)}


def get(identifier: Any, default: Any = None, where: str = "initializer") -> Initializer | None:
    """Return the initializer that `identifier` stands for.

    Parameters
    ----------
    identifier : str, class, Initializer, callable, array, dict or None
        A name ("glorot_uniform" or "GlorotUniform"), a class, a ``function(shape, dtype)``, an array of exactly the
        weight's shape, or the dict of a Keras 2 or Keras 3 config.
    default : like `identifier`
        What None stands for; None for None.
    where : str
        Opens the messages, for example ``"LSTM: kernel_initializer"``.

    Raises
    ------
    ValueError
        When the name or a setting is unknown.

    Examples
    --------
    >>> get("orthogonal")((2, 8), seed=0).shape
    (2, 8)
    """
    if identifier is None:
        identifier = default
    if isinstance(identifier, np.ndarray):
        return FromArray(identifier)
    if isinstance(identifier, Mapping):
        identifier = {**identifier, "config": _portable(where, identifier.get("config", {}))}
    found = objects.resolve(where, "initializer", identifier, NAMED)
    return found if found is None or isinstance(found, Initializer) else FromCallable(found)


def serialize(initializer: Initializer | None, generation: str = "keras3") -> Any:
    """Return what a layer config of `generation` ("keras3" or "keras2") holds for an initializer.

    A user's function or array has no such form and stays itself; None stays None.
    """
    if isinstance(initializer, FromCallable):
        return initializer.function
    if isinstance(initializer, FromArray):
        return initializer.array.copy()
    if initializer is None:
        return None
    config = initializer.get_config()
    if generation == "keras3":
        if isinstance(initializer, VarianceScaling):
            config |= {"input_axes": None, "output_axes": None}
        elif config == {"gain": 1.0} and isinstance(initializer, Identity):
            config = {}
    return objects.serialize(initializer, "keras.initializers", config)


def _portable(where: str, config: Any) -> Any:
    """Return a config without the settings that some versions of Keras write and that change nothing here."""
    if not isinstance(config, Mapping):
        return config
    for axes in ("input_axes", "output_axes"):
        if config.get(axes) is not None:
            raise ValueError(f"{where}: {axes} of an initializer must be None, got {config[axes]!r}.")
    # TensorFlow 1 wrote a dtype; the weight's own decides.
    return {name: value for name, value in config.items() if name not in ("input_axes", "output_axes", "dtype")}
