"""What a layer says of its input's shape: in its constructor's arguments, and as a rule for every call."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from numbalstm import checks
from numbalstm.layers.symbolic import Shape


class InputSpec(NamedTuple):
    """What a layer demands of its input's shape: `rank` or at least `min_rank` axes, and sizes by axis in `axes`."""

    rank: int | None = None
    min_rank: int = 0
    axes: Mapping[int, int] = {}


def shape_hint(where: str, input_shape: Any, batch_input_shape: Any, batch_size: int | None) -> Shape | None:
    """Return the batch input shape that the three constructor arguments give together; None without them."""
    if batch_input_shape is not None:
        if input_shape is not None or batch_size is not None:
            raise ValueError(f"{where}: give batch_input_shape, or input_shape and batch_size, not both.")
        return _sizes(where, "batch_input_shape", batch_input_shape)
    if input_shape is None:
        if batch_size is not None:
            raise ValueError(f"{where}: batch_size needs input_shape.")
        return None
    if batch_size is not None:
        batch_size = checks.positive_integer(where, "batch_size", batch_size)
    return (batch_size, *_sizes(where, "input_shape", input_shape))


def _sizes(where: str, name: str, shape: Any) -> Shape:
    """Return a shape argument as a tuple; TypeError where it is none."""
    if not isinstance(shape, (list, tuple)):
        raise TypeError(f"{where}: {name} must be a tuple of integers and None, got {checks.describe(shape)}.")
    return tuple(None if size is None else checks.integer(where, name, size, minimum=0) for size in shape)
