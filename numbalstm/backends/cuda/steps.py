"""The recurrence with one launch a step: every option, any size, float32 and float64."""

from typing import Any

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
        element, record = problem.options.element, problem.options.record
        self.kept = problem.steps + 1 if record else 2
        self.batch, self.units, self.width = problem.batch, problem.units, problem.width
        self.h = device.empty((self.kept, self.batch, self.width), element)
        self.c = device.empty((self.kept, self.batch, self.units), element)
        for target, state in zip((self.h, self.c), initial or (None, None), strict=True):
            device.fill_first(target, state)
        projection, clip = problem.options.projection, problem.options.projection_clip is not None
        count = problem.steps if record else 1
        self.cell = device.empty((count, self.batch, self.units), element) if projection else None
        self.values = device.empty((count, self.batch, self.width), element) if record and clip else None
        self._record = record

    def h_at(self, t: int) -> Any:
        """Return the pointer to h before step t."""
        return self.h.at(t % self.kept * self.batch * self.width)

    def c_at(self, t: int) -> Any:
        """Return the pointer to c before step t."""
        return self.c.at(t % self.kept * self.batch * self.units)

    def cell_at(self, t: int) -> Any:
        """Return the pointer to the cell's output of step t before its projection."""
        return self.cell.at(t * self.batch * self.units if self._record else 0)

    def values_at(self, t: int) -> Any:
        """Return the pointer to the projected values of step t before their clip."""
        return self.values.at(t * self.batch * self.width)


class Extras:
    """Masks and factors of a problem on the device."""

    def __init__(self, device: Any, problem: Problem) -> None:
        self._nothing, self._batch = device.nothing, problem.batch
        m_x, m_h = problem.request.dropout_masks or (None, None)
        self.m_x, self.m_h = (None if m is None else device.upload(m) for m in (m_x, m_h))
        self.mask, self._first = (None if a is None else device.upload(a) for a in (problem.mask, problem.first))
        self._zones = [None if zone is None else device.upload(zone) for zone in problem.zones]

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
        if zone is None:
            return self._nothing
        return zone.at(0 if zone.shape[0] == 1 else t * zone.shape[1] * zone.shape[2])


def run(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, xw: Any, y: Any, start: int,
    stop: int,
) -> None:  # fmt: skip
    """Run steps start to stop, whose products `xw` begins with."""
    options, tile, nothing = problem.options, device.tile, device.nothing
    step = make_step(options, tile)
    project = make_project(options, tile) if options.projection else None
    batch, units, width = problem.batch, problem.units, problem.width
    across = blocks(batch, tile.rows)
    sequences = problem.request.return_sequences
    y_row = problem.steps * width if sequences else width
    peepholes = nothing if weights.peepholes is None else weights.peepholes.at()
    for t in range(start, stop):
        h_out = states.h_at(t + 1) if project is None else states.cell_at(t)
        output = (y.at(t * width if sequences else 0), y_row, sequences or t == problem.steps - 1)
        masks = (extras.mask_at(t), extras.first, t)
        device.launch(
            step, across * blocks(units, tile.columns), xw.at((t - start) * batch * units * 4), weights.recurrent.at(),
            states.h_at(t), states.c_at(t), states.c_at(t + 1), h_out, *output, *masks, peepholes, extras.factors,
            extras.zone_at(0, t), extras.zone_at(1, t), batch, units, width,
        )  # fmt: skip
        if project is not None:
            values = nothing if states.values is None else states.values_at(t)
            device.launch(
                project, across * blocks(width, tile.columns), states.cell_at(t), weights.projection.at(),
                states.h_at(t), states.h_at(t + 1), values, *output, *masks, extras.zone_at(1, t), batch, units, width,
            )  # fmt: skip


def run_backward(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, z: Any, dy: Any, dh: Any, dc: Any
) -> tuple[Any, Any]:
    """Go back over all steps; dh and dc become the cotangents of the initial states.

    Returns the cotangents of the sums, (T, B, U, 4), and of the projected h, (T, B, P) or None.
    """
    options, tile, nothing, element = problem.options, device.tile, device.nothing, problem.options.element
    batch, units, width, steps = problem.batch, problem.units, problem.width, problem.steps
    gather, across = make_step_backward(options, tile), blocks(batch, tile.rows)
    through = make_project_backward(options, tile) if options.projection else None
    dz = device.empty((steps, batch, units, 4), element)
    d_projected = device.empty((steps, batch, width), element) if options.projection else None
    sequences = problem.request.return_sequences
    dy_row = steps * width if sequences else width
    peepholes = nothing if weights.peepholes is None else weights.peepholes.at()
    size = batch * units * 4
    for t in reversed(range(-1, steps)):
        inside = max(t, 0)  # at -1 only the cotangent of the initial h is gathered
        read = dy is not None and t >= 0 and (sequences or t == steps - 1)
        cotangents = (dy.at(t * width if sequences else 0) if read else nothing, dy_row, read, t >= 0)
        masks = (extras.mask_at(inside), extras.first, t)
        cell = (z.at(inside * size), states.c_at(inside), dc.at(), peepholes, dz.at(inside * size))
        projected = nothing if d_projected is None else d_projected.at(inside * batch * width)
        device.launch(
            gather, across * blocks(width, tile.columns), dz.at(min(t + 1, steps - 1) * size), t + 1 < steps,
            weights.recurrent.at(), extras.factors, dh.at(), *cotangents, *masks, extras.zone_at(0, inside),
            extras.zone_at(1, inside), *cell, nothing if states.values is None else states.values_at(inside),
            projected, batch, units, width,
        )  # fmt: skip
        if through is not None and t >= 0:
            device.launch(
                through, across * blocks(units, tile.columns), projected, weights.projection.at(), masks[0],
                extras.zone_at(0, t), *cell, batch, units, width,
            )  # fmt: skip
    return dz, d_projected
