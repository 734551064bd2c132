"""R's first argument: what to compose a new layer with."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.compat.arguments import forwarded
from numbalstm.layers.base import Layer
from numbalstm.layers.symbolic import SymbolicTensor
from numbalstm.models import Sequential


class _Required:
    """Stands where R has an argument without a default, behind `object`, which may be missing."""

    def __repr__(self) -> str:
        return "<required>"


REQUIRED: Any = _Required()


def made(function: str, layer: type, arguments: Mapping[str, Any], **fixed: Any) -> Any:
    """Make a layer and compose it with the function's `object`.

    Parameters
    ----------
    function : str
        Name of the R function, for messages.
    layer : type
    arguments : mapping
        The ``locals()`` of the function at its first line.
    **fixed
        More arguments of the layer.

    Returns
    -------
    The layer when `object` is None, the `Sequential` model when that is one, else the layer's output for `object`.

    Raises
    ------
    TypeError
        When an argument is missing, or `object` is nothing to compose with.
    """
    options = forwarded(arguments)
    check_object(function, arguments.get("object"), next(iter(options)))
    for name, value in options.items():
        if value is REQUIRED:
            raise TypeError(f"{function}: the argument {name!r} is missing.")
    if options.get("trainable", True) is None:  # R's NULL: not said
        del options["trainable"]
    for name in ("input_shape", "batch_input_shape"):
        if name in options:
            options[name] = as_shape(options[name])
    return composed(arguments.get("object"), layer(**options, **fixed))


def composed(object: Any, layer: Layer) -> Any:
    """Return the layer, the model with the layer added, or the layer's output, by what `object` is."""
    if object is None:
        return layer
    if isinstance(object, Sequential):
        object.add(layer)
        return object
    return layer(object)


def check_object(function: str, object: Any, first: str) -> None:
    """Raise TypeError when a layer cannot be composed with `object`."""
    if object is None or isinstance(object, (Sequential, SymbolicTensor)):
        return
    if isinstance(object, Layer):
        advice = "Give its output, or leave object out and call the layer yourself."
    elif isinstance(object, (list, tuple)) or (hasattr(object, "__array__") and np.ndim(object)):
        return
    else:
        advice = f"For the layer alone, name the arguments: {function}({first}=...)."
    raise TypeError(
        f"{function}: object must be None, a Sequential model, an array or a symbolic tensor, "
        f"got {checks.describe(object)}. {advice}"
    )


def as_shape(value: Any) -> Any:
    """Return a shape as R gives it: one number is a vector of length 1."""
    return value if value is None or isinstance(value, (list, tuple)) else (value,)
