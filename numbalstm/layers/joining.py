"""How the outputs of the two directions of a `Bidirectional` become one array, and back."""

from collections.abc import Callable
from typing import Any

import numpy as np

from numbalstm.backends.cuda import dispatch
from numbalstm.backends.cuda.arrays import DeviceArray

Merge = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
Unmerge = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

MERGES: dict[str, tuple[Merge, Unmerge]] = {
    "sum": (lambda y, y_b, out: np.add(y, y_b, out=out), lambda dy, y, y_b: (dy, dy)),
    "mul": (lambda y, y_b, out: np.multiply(y, y_b, out=out), lambda dy, y, y_b: (dy * y_b, dy * y)),
    "ave": (
        lambda y, y_b, out: np.multiply(np.add(y, y_b, out=out), 0.5, out=out),
        lambda dy, y, y_b: (dy / 2, dy / 2),
    ),
    "concat": (
        lambda y, y_b, out: np.concatenate([y, y_b], axis=-1),
        lambda dy, y, y_b: (dy[..., : y.shape[-1]], dy[..., y.shape[-1] :]),
    ),
}
"""What joins the outputs of the two directions, in the memory `out` where that has the size, and what takes it back."""


def merged(mode: str, y: Any, y_b: Any, in_place: bool) -> Any:
    """Return the joined outputs, arrays or lists of them; `in_place` lets them take the memory of `y`."""
    if isinstance(y, list):
        return [merged(mode, *pair, in_place) for pair in zip(y, y_b, strict=True)]
    if isinstance(y, DeviceArray):
        return dispatch.joined(mode, [y, y_b])
    return MERGES[mode][0](y, y_b, y if in_place else None)


def unmerged(mode: str, cotangent: Any, y: Any, y_b: Any) -> tuple[Any, Any]:
    """Return the cotangents of both outputs, of arrays or lists of them; None is zero."""
    if cotangent is None:
        return None, None
    if not isinstance(cotangent, list):
        return MERGES[mode][1](cotangent, y, y_b)
    pairs = [unmerged(mode, *item) for item in zip(cotangent, y, y_b, strict=True)]
    return [first for first, _ in pairs], [second for _, second in pairs]
