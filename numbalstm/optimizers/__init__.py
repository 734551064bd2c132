"""Optimizers by the names of Keras, and schedules of their learning rate."""

from collections.abc import Mapping
from typing import Any

from numbalstm import checks, objects
from numbalstm.optimizers.adam import Adam, AdamW, Nadam
from numbalstm.optimizers.adaptive import Adagrad, RMSprop
from numbalstm.optimizers.base import Optimizer
from numbalstm.optimizers.gradient_descent import SGD
from numbalstm.optimizers.schedules import (
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
)

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "Nadam",
    "Optimizer",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "RMSprop",
    "get",
    "serialize",
]

NAMED = {optimizer.__name__.lower(): optimizer for optimizer in (SGD, RMSprop, Adam, AdamW, Adagrad, Nadam)}

# Settings in configs of Keras that change nothing at these values; at others they are refused as unknown.
_WITHOUT_EFFECT: dict[str, tuple] = {
    "use_ema": (False,),
    "ema_momentum": (0.99,),
    "ema_overwrite_frequency": (None,),
    "loss_scale_factor": (None,),
    "gradient_accumulation_steps": (None,),
    "decay": (None, 0.0),
    "is_legacy_optimizer": (False, True),
    "jit_compile": (False, True),
}


def get(identifier: Any, where: str = "optimizer") -> Optimizer:
    """Return the optimizer that `identifier` stands for.

    Parameters
    ----------
    identifier : str, class, Optimizer or dict
        A name in any case ("adam", "SGD"), a class, an `Optimizer` (returned as it is, with its state), or the dict of
        a Keras 2 or Keras 3 config.
    where : str
        Opens the messages, for example ``"compile: optimizer"``.

    Raises
    ------
    ValueError
        When the name or a setting is unknown.
    """
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        return identifier()
    if isinstance(identifier, Optimizer):
        return identifier
    name: Any = identifier
    config: Mapping = {}
    if isinstance(identifier, Mapping):
        name, config = objects.class_and_config(where, "optimizer", identifier)
    if not isinstance(name, str) or name.lower() not in NAMED:
        raise checks.unknown(where, "optimizer", name, NAMED)
    effective = {key: value for key, value in config.items() if value not in _WITHOUT_EFFECT.get(key, ())}
    return objects.build(where, NAMED[name.lower()], effective)


def serialize(optimizer: Optimizer) -> dict:
    """Return what a Keras 3 config holds for an optimizer; its state is not in it."""
    return objects.serialize(optimizer, "keras.optimizers")
