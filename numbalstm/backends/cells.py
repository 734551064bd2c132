"""The cell of a request as the compiled kernels want it: codes, limits, and where peepholes and zoneout factors lie."""

from typing import Any, NamedTuple

import numpy as np

from numbalstm import activations
from numbalstm.backends.interface import Request, activations_of
from numbalstm.backends.plan import stride
from numbalstm.kernels.cpu.packing import address, aligned, pack_columns
from numbalstm.kernels.simd import Tile
from numbalstm.parameters import PEEPHOLE_GATES, LSTMParameters

NO_LIMIT = float("inf")


class Cell(NamedTuple):
    """What a cell computes.

    Attributes
    ----------
    forms : tuple of (code, alpha, beta)
        Of the activations of i, f, g, o and of the cell state: their `numbalstm.activations.Activation.kernel_form`.
    coupled : bool
    gate_clip, cell_clip, projection_clip : float
        As in `numbalstm.backends.interface.Variant`; infinite for none.
    peepholes, projects, zoned : bool
    """

    forms: tuple[tuple[int, float, float], ...]
    coupled: bool = False
    gate_clip: float = NO_LIMIT
    cell_clip: float = NO_LIMIT
    projection_clip: float = NO_LIMIT
    peepholes: bool = False
    projects: bool = False
    zoned: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is the cell that the kernels have inlined."""
        return self == PLAIN_CELL

    def fields(self, tile: Tile, parameters: LSTMParameters) -> dict[str, Any]:
        """What every job of the cell says."""
        values: dict[str, Any] = {}
        for gate, form in zip("ifgoh", self.forms, strict=True):
            values |= zip((f"{gate}_activation", f"{gate}_alpha", f"{gate}_beta"), form, strict=True)
        return {
            **values,
            "coupled": self.coupled,
            "gate_clip": self.gate_clip,
            "cell_clip": self.cell_clip,
            "peephole": address(_packed_peepholes(parameters, tile)) if self.peepholes else 0,
            "projection": 0 if parameters.projection_kernel is None else address(_packed_projection(parameters, tile)),
            "projection_clip": self.projection_clip,
        }


TANH, SIGMOID = activations.get("tanh").kernel_form, activations.get("sigmoid").kernel_form
PLAIN_CELL = Cell((SIGMOID, SIGMOID, TANH, SIGMOID, TANH))


def cell_of(request: Request) -> Cell:
    """Return the cell of a request that `unsupported_cell` has no objection to."""
    variant, parameters = request.variant, request.parameters
    limits = (variant.gate_clip, variant.cell_clip, variant.projection_clip)
    return Cell(
        tuple(activation.kernel_form for activation in activations_of(request)),
        variant.coupled,
        *(NO_LIMIT if limit is None else limit for limit in limits),
        parameters.peephole_kernel is not None,
        parameters.projection_kernel is not None,
        variant.zoneout is not None,
    )


def unsupported_cell(request: Request) -> str | None:
    """Why no kernel has the cell of a request, or None."""
    for activation in activations_of(request):
        if activation.code is None:
            return f"the activation {activation.name!r}"
    return None


def _packed_peepholes(parameters: LSTMParameters, tile: Tile) -> np.ndarray:
    """The peepholes of i, f and o, each filled up to a row of states; made at the first use."""
    key = ("peepholes", tile.lanes)
    found = parameters.common.get(key)
    if found is None:
        found = aligned((len(PEEPHOLE_GATES), stride(parameters.units, tile)), tile.dtype)
        found.fill(0)
        found[:, : parameters.units] = parameters.peephole_kernel
        parameters.common[key] = found
    return found


def _packed_projection(parameters: LSTMParameters, tile: Tile) -> np.ndarray:
    """The projection as `kernels.cpu.blocks.wide_panel` reads it; made at the first use."""
    key = ("projection", tile.lanes)
    found = parameters.common.get(key)
    if found is None:
        found = parameters.common[key] = pack_columns(parameters.projection_kernel, tile.lanes)
    return found


class Zones(NamedTuple):
    """Zoneout factors: for each row of the batch the address of its first processed step, and the bytes of a step."""

    rows: np.ndarray
    step: int
    keep: Any


def zones_of(request: Request, part: int) -> Zones | None:
    """Return the factors of c (`part` 0) or of h (1), None where there are none."""
    given = None if request.variant.zoneout is None else request.variant.zoneout[part]
    if given is None:
        return None
    dtype, x = request.parameters.dtype, request.x
    width = request.parameters.output_size if part else request.parameters.units
    if isinstance(given, float):
        one = np.full(width, given, dtype)
        return Zones(np.full(len(x), address(one)), 0, one)
    arrays = [np.ascontiguousarray(row) for row in given]
    step = width * dtype.itemsize
    backwards = request.go_backwards
    rows = [address(row) + ((len(row) - 1) * step if backwards else 0) for row in arrays]
    return Zones(np.array(rows, np.int64), -step if backwards else step, arrays)


def set_zones(job: Any, zones: tuple[Zones | None, Zones | None], rows: Any, keep: list) -> None:
    """Tell a job the zoneout factors of these rows of the batch."""
    for name, factors in zip("ch", zones, strict=True):
        if factors is not None:
            table = np.ascontiguousarray(factors.rows[rows])
            keep.append(table)
            job[f"{name}_zones"], job[f"{name}_zone_step"] = address(table), factors.step
