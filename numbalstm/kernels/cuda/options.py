"""What the kernels of a recurrence are made for."""

from typing import NamedTuple

ROWS = (1, 2, 4, 8)
"""Rows that there are grid kernels for."""

WARPS = 8
"""Warps of a block of the grid kernels; each owns a unit."""

CLUSTER_SIZES = {"tf32": (128, 256), "bf16": (128, 256, 512)}
"""Units that there are cluster kernels for, by mode: what the registers hold."""

CLUSTER_ROWS = 8
"""Rows of a cluster."""


class Options(NamedTuple):
    """What a step does; every field is a constant of its kernels.

    Attributes
    ----------
    element : str
        "float32" or "float64".
    activations : tuple of str
        Names of those of the gates i, f, g, o and of the cell's output.
    peephole, projection, coupled : bool
        `coupled`: the forget gate is 1 - i.
    gate_clip, cell_clip, projection_clip : float or None
        Bounds of the gates' sums, of the new c, of the projected h.
    factors : int
        Dropout factors of h: 0 none, 1 the same for all gates, 4 one set for each.
    masked, zero_output : bool
        Whether there is a mask; whether the steps that do not count output zeros instead of the latest output.
    zoneout : tuple of bool
        Whether factors of the old c, of the old h are given.
    record : bool
        Leave the gates' sums in xw, for the backward pass.
    """

    element: str
    activations: tuple[str, ...] = ("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh")
    peephole: bool = False
    projection: bool = False
    coupled: bool = False
    gate_clip: float | None = None
    cell_clip: float | None = None
    projection_clip: float | None = None
    factors: int = 0
    masked: bool = False
    zero_output: bool = False
    zoneout: tuple[bool, bool] = (False, False)
    record: bool = False
