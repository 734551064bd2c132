"""Losses by the names of Keras 2 and 3, with their gradients.

``loss(y_true, y_pred)`` is the loss of a batch, ``loss.value_and_gradient(y_true, y_pred)`` adds the gradient with
respect to the predictions.
"""

from collections.abc import Callable, Mapping
from typing import Any

from numbalstm import checks, objects
from numbalstm.losses.base import Loss
from numbalstm.losses.hinge import CategoricalHinge, Hinge, SquaredHinge
from numbalstm.losses.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    SparseCategoricalCrossentropy,
)
from numbalstm.losses.regression import (
    CosineSimilarity,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
)

CLASSES = {
    loss.__name__: loss
    for loss in (
        BinaryCrossentropy,
        CategoricalCrossentropy,
        CategoricalHinge,
        CosineSimilarity,
        Hinge,
        Huber,
        KLDivergence,
        LogCosh,
        MeanAbsoluteError,
        MeanAbsolutePercentageError,
        MeanSquaredError,
        MeanSquaredLogarithmicError,
        Poisson,
        SparseCategoricalCrossentropy,
        SquaredHinge,
    )
}

_SHORT: dict[str, type[Loss]] = {
    "bce": BinaryCrossentropy,
    "kld": KLDivergence,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "mse": MeanSquaredError,
    "msle": MeanSquaredLogarithmicError,
}

NAMED: dict[str, type[Loss]] = {
    **{loss.default_name: loss for loss in CLASSES.values()},
    **_SHORT,
    **{name.upper(): loss for name, loss in _SHORT.items()},
    "huber": Huber,
    "kullback_leibler_divergence": KLDivergence,
    "logcosh": LogCosh,
}
"""Names of functions in Keras 2 and 3."""

__all__ = ["Loss", "get", "serialize", *CLASSES]


def get(identifier: Any, where: str = "loss") -> Loss:
    """Return the loss that `identifier` stands for.

    Parameters
    ----------
    identifier : str, class, Loss or dict
        The name of a function ("mse", "sparse_categorical_crossentropy") or class of Keras, a class, a `Loss`, or the
        dict of a Keras 2 or Keras 3 config.  A loss of one's own is a subclass of `Loss`.
    where : str
        Opens the messages, for example ``"compile: loss"``.

    Returns
    -------
    Loss
        Made from a name, it carries that name.

    Raises
    ------
    ValueError
        When the name or a setting is unknown.
    TypeError
        When it is a callable that knows no gradient.

    Examples
    --------
    >>> get("mse")([[1.0], [2.0]], [[1.5], [2.0]])
    0.125
    """
    if isinstance(identifier, type) and issubclass(identifier, Loss):
        return identifier()
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, Mapping):
        name, config = objects.class_and_config(where, "loss", identifier)
        if name == "function":
            return get(config, where)
        if name not in CLASSES:
            raise checks.unknown(where, "loss", name, CLASSES)
        # The function in a config of Keras 2 is the one that its class stands for.
        return objects.build(where, CLASSES[name], {key: config[key] for key in config if key != "fn"})
    if callable(identifier):
        raise TypeError(
            f"{where}: a callable has no gradient, got {checks.describe(identifier)}. Subclass numbalstm.losses.Loss."
        )
    if not isinstance(identifier, str) or identifier not in NAMED | CLASSES:
        raise checks.unknown(where, "loss", identifier, NAMED)
    return CLASSES[identifier]() if identifier in CLASSES else NAMED[identifier](name=identifier)


def serialize(loss: Loss) -> dict:
    """Return what a Keras 3 config holds for a loss."""
    return objects.serialize(loss, "keras.losses")


def __getattr__(name: str) -> Callable:
    if name in NAMED:
        return NAMED[name](name=name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
