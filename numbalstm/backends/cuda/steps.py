"""The recurrence with one launch a step: every option, any size, float32 and float64."""

from typing import Any, NamedTuple

from numbalstm.backends.cuda import rows
from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.products import blocks
from numbalstm.backends.cuda.weights import Weights
from numbalstm.kernels.cuda.step import make_project, make_step
from numbalstm.kernels.cuda.step_backward import make_project_backward, make_step_backward


class States:
    """What the steps leave on the device: h and c before the first step and after each, or only the latest two.

    Parameters
    ----------
    device : device
    problem : Problem
    initial : (h0, c0) of device arrays, or None for zeros
    """

    def __init__(self, device: Any, problem: Problem, initial: tuple[Any, Any] | None) -> None:
        options, batch, units, width = problem.options, problem.batch, problem.units, problem.width
        self._nothing = device.nothing
        self.kept = problem.steps + 1 if options.record else 2
        count = problem.steps if options.record else 1

        def room(wanted: bool, *shape: int) -> Any:
            return device.empty(shape, options.element) if wanted else None

        self.h, self.c = room(True, self.kept, batch, width), room(True, self.kept, batch, units)
        for target, state in zip((self.h, self.c), initial or (None, None), strict=True):
            device.fill_first(target, state)
        self.cell = room(options.projection, count, batch, units)
        self.values = room(options.record and options.projection_clip is not None, count, batch, width)
        self.fresh = room(options.fresh, count, batch, units)
        self.products = room(options.by_rows, count if options.epsilon is not None else 1, batch, units, 4)
        self.scales = room(options.epsilon is not None, count, batch)
        self.row = room(options.by_rows, 1, batch, units)

    @property
    def nbytes(self) -> int:
        """Memory of all of them."""
        return sum(array.nbytes for array in vars(self).values() if hasattr(array, "nbytes"))

    def _at(self, array: Any, t: int) -> Any:
        return self._nothing if array is None else array.at(t % array.shape[0] * array.strides[0])

    def h_at(self, t: int) -> Any:
        """Return the pointer to h before step t."""
        return self._at(self.h, t)

    def c_at(self, t: int) -> Any:
        """Return the pointer to c before step t."""
        return self._at(self.c, t)

    def cell_at(self, t: int) -> Any:
        """Return the pointer to the cell's output of step t before its projection."""
        return self._at(self.cell, t)

    def values_at(self, t: int) -> Any:
        """Return the pointer to the projected values of step t before their clip."""
        return self._at(self.values, t)

    def fresh_at(self, t: int) -> Any:
        """Return the pointer to c of step t before its zoneout."""
        return self._at(self.fresh, t)

    def products_at(self, t: int) -> Any:
        """Return the pointer to the recurrent products of step t, (B, U, 4); normalised behind the step."""
        return self._at(self.products, t)

    def scales_at(self, t: int) -> Any:
        """Return the pointer to what the deviations of those products were multiplied with, (B,)."""
        return self._at(self.scales, t)


class Extras:
    """Masks and factors of a problem on the device."""

    def __init__(self, device: Any, problem: Problem) -> None:
        self._nothing, self._batch = device.nothing, problem.batch
        m_x, m_h = problem.request.dropout_masks or (None, None)
        self.m_x, self.m_h = (None if m is None else device.upload(m) for m in (m_x, m_h))
        self.mask, self._first = (None if a is None else device.upload(a) for a in (problem.mask, problem.first))
        self._zones = [None if zone is None else device.upload(zone) for zone in problem.zones]

    @property
    def per_gate(self) -> bool:
        """Whether the dropout factors of the input are one set for each gate."""
        return self.m_x is not None and len(self.m_x.shape) == 3

    @property
    def shared_factors(self) -> Any:
        """Pointer to the dropout factors of the input that all gates share, or None."""
        return None if self.m_x is None or self.per_gate else self.m_x.at()

    def mask_at(self, t: int) -> Any:
        """Return the pointer to the mask of step t."""
        return self._nothing if self.mask is None else self.mask.at(t * self._batch)

    @property
    def first(self) -> Any:
        """Pointer to the first counted steps."""
        return self._nothing if self._first is None else self._first.at()

    @property
    def factors(self) -> Any:
        """Pointer to the dropout factors of h."""
        return self._nothing if self.m_h is None else self.m_h.at()

    def zone_at(self, which: int, t: int) -> Any:
        """Return the pointer to the zoneout factors of c (0) or h (1) at step t."""
        zone = self._zones[which]
        return self._nothing if zone is None else zone.at(t * self.zone_step(which))

    def zone_step(self, which: int) -> int:
        """Return the distance from a step's zoneout factors to the next one's."""
        zone = self._zones[which]
        return 0 if zone is None or zone.shape[0] == 1 else zone.shape[1] * zone.shape[2]


class Adjoint(NamedTuple):
    """What a backward recurrence leaves, (T, B, ...).

    Attributes
    ----------
    dz : (T, B, U, 4)
        Cotangents of the gates' sums.
    products : (T, B, U, 4)
        Of the recurrent products: dz where these are not normalised.
    projected : (T, B, P) or None
        Of the projected h.
    cell, standard : (T, B, U) or None
        With layer normalisation: the cotangent of what the activation of the cell takes, and LN of the cell.
    """

    dz: Any
    products: Any
    projected: Any = None
    cell: Any = None
    standard: Any = None


def run(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, xw: Any, y: Any, start: int,
    stop: int,
) -> None:  # fmt: skip
    """Run steps start to stop, whose products `xw` begins with."""
    options, tile = problem.options, device.tile
    step = rows.Step(device, problem, weights) if options.by_rows else make_step(options, tile)
    project = make_project(options, tile) if options.projection else None
    batch, units, width = problem.batch, problem.units, problem.width
    across = blocks(batch, tile.rows)
    sequences = problem.request.return_sequences
    y_row = problem.steps * width if sequences else width
    peepholes = device.nothing if weights.peepholes is None else weights.peepholes.at()
    for t in range(start, stop):
        h_out = states.h_at(t + 1) if project is None else states.cell_at(t)
        output = (y.at(t * width if sequences else 0), y_row, sequences or t == problem.steps - 1)
        masks = (extras.mask_at(t), extras.first, t)
        sums, zones = xw.at((t - start) * batch * units * 4), (extras.zone_at(0, t), extras.zone_at(1, t))
        if isinstance(step, rows.Step):
            step.run(states, t, sums, h_out, output, masks, (peepholes, extras.factors, *zones))
        else:
            device.launch(
                step, across * blocks(units, tile.columns), sums, weights.recurrent.at(), states.h_at(t),
                states.c_at(t), states.c_at(t + 1), h_out, *output, *masks, peepholes, extras.factors, *zones,
                states.fresh_at(t), batch, units, width,
            )  # fmt: skip
        if project is not None:
            device.launch(
                project, across * blocks(width, tile.columns), states.cell_at(t), weights.projection.at(),
                states.h_at(t), states.h_at(t + 1), states.values_at(t), *output, *masks, zones[1], batch, units, width,
            )  # fmt: skip


def run_backward(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, z: Any, dy: Any, dh: Any, dc: Any
) -> Adjoint:
    """Go back over all steps; dh and dc become the cotangents of the initial states."""
    options, tile, nothing, element = problem.options, device.tile, device.nothing, problem.options.element
    batch, units, width, steps = problem.batch, problem.units, problem.width, problem.steps
    gather, across = make_step_backward(options, tile), blocks(batch, tile.rows)
    through = make_project_backward(options, tile) if options.projection and not options.by_rows else None
    split = options.projection or options.by_rows
    dz = device.empty((steps, batch, units, 4), element)
    adjoint = Adjoint(dz, dz, device.empty((steps, batch, width), element) if split else None)
    step = rows.StepBackward(device, problem, weights, adjoint) if options.by_rows else None
    if step is not None:
        adjoint = step.adjoint
    sequences = problem.request.return_sequences
    dy_row = steps * width if sequences else width
    peepholes = nothing if weights.peepholes is None else weights.peepholes.at()
    size = batch * units * 4
    for t in reversed(range(-1, steps)):
        inside = max(t, 0)  # at -1 only the cotangent of the initial h is gathered
        read = dy is not None and t >= 0 and (sequences or t == steps - 1)
        cotangents = (dy.at(t * width if sequences else 0) if read else nothing, dy_row, read, t >= 0)
        masks = (extras.mask_at(inside), extras.first, t)
        cell = (z.at(inside * size), states.c_at(inside), dc.at(), peepholes)
        projected = nothing if adjoint.projected is None else adjoint.projected.at(inside * batch * width)
        device.launch(
            gather, across * blocks(width, tile.columns), adjoint.products.at(min(t + 1, steps - 1) * size),
            t + 1 < steps, weights.recurrent.at(), extras.factors, dh.at(), *cotangents, *masks,
            extras.zone_at(0, inside), extras.zone_at(1, inside), *cell, dz.at(inside * size),
            states.values_at(inside), projected, batch, units, width,
        )  # fmt: skip
        if t >= 0 and step is not None:
            step.run(states, t, projected, masks[0], extras.zone_at(0, t), cell)
        elif t >= 0 and through is not None:
            device.launch(
                through, across * blocks(units, tile.columns), projected, weights.projection.at(), masks[0],
                extras.zone_at(0, t), *cell, dz.at(t * size), batch, units, width,
            )  # fmt: skip
    return adjoint
