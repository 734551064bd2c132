"""What the kernels of a recurrence are made for."""

from typing import Any, NamedTuple

ROWS = (1, 2, 4, 8)
"""Rows that there are grid kernels for."""

WARPS = 8
"""Warps of a block of the grid kernels; each owns a unit."""

CLUSTER_SIZES = {"fp32": (128, 256), "fp32-fast": (128, 256), "tf32": (128, 256), "bf16": (128, 256, 512)}
"""Units that there are cluster kernels for, by mode: what the registers hold."""


class ClusterShape(NamedTuple):
    """What a cluster computes.

    Attributes
    ----------
    size : int
        Units that its weights are for, zeros beyond those that there are.
    rows : int
        Of the batch.
    blocks : int
    block_units : int
        Units whose gates a block computes.
    """

    size: int
    rows: int
    blocks: int
    block_units: int


WHOLE_ROWS = ("softmax", "log_softmax", "sparsemax")
"""Activations whose values depend on all units of a row."""


class Options(NamedTuple):
    """What a step does; every field is a constant of its kernels.

    Attributes
    ----------
    element : str
        "float32" or "float64".
    activations : tuple of str, or (str, alpha, beta)
        Names of those of the gates i, f, g, o and of the cell's output, with the numbers that a family of them takes.
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
    epsilon : float or None
        Of layer normalisation; None: there is none.
    """

    element: str
    activations: tuple[Any, ...] = ("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh")
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
    epsilon: float | None = None

    @property
    def by_rows(self) -> bool:
        """Whether a unit's step depends on the other units of its row otherwise than by the recurrent product."""
        return self.epsilon is not None or any(form in WHOLE_ROWS for form in self.activations)

    @property
    def fresh(self) -> bool:
        """Whether the backward pass has to know c as the output's peephole saw it, before zoneout."""
        return self.record and self.peephole and self.zoneout[0]
