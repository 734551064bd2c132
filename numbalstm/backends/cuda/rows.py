"""Steps whose units depend on their whole row: what a launch of `numbalstm.kernels.cuda.step` is elsewhere."""

from typing import Any

from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.products import blocks, product
from numbalstm.backends.cuda.weights import Weights
from numbalstm.kernels.cuda.step_rows import make_normalise, make_recurrent, make_row_step
from numbalstm.kernels.cuda.step_rows_backward import make_normalise_backward, make_row_backward


class Step:
    """The launches of a step up to its projection."""

    def __init__(self, device: Any, problem: Problem, weights: Weights) -> None:
        self._device, self._problem, self._weights = device, problem, weights
        self._recurrent = make_recurrent(problem.options, device.tile)
        self._row = make_row_step(problem.options, device.threads)

    def run(self, states: Any, t: int, sums: Any, h_out: Any, output: tuple, masks: tuple, others: tuple) -> None:
        """Run step t; `others` are peepholes, factors of h, zoneout factors of c and of h."""
        device, problem, weights, tile = self._device, self._problem, self._weights, self._device.tile
        batch, units, products = problem.batch, problem.units, states.products_at(t)
        peepholes, factors, *zones = others
        device.launch(
            self._recurrent, blocks(batch, tile.rows) * blocks(units, tile.columns), states.h_at(t),
            weights.recurrent.at(), factors, products, batch, units, problem.width,
        )  # fmt: skip
        gamma, cell_gamma, cell_beta = _norm_of(device, weights)
        device.launch(
            self._row, batch, sums, products, states.scales_at(t), gamma, states.h_at(t), states.c_at(t),
            states.c_at(t + 1), states.fresh_at(t), states.row.at(), cell_gamma, cell_beta, h_out, *output, *masks,
            peepholes, *zones, units,
        )  # fmt: skip


class StepBackward:
    """The launches of a step behind the gathering of its dh.

    Attributes
    ----------
    adjoint : numbalstm.backends.cuda.steps.Adjoint
        What was given, with room for what layer normalisation leaves.
    """

    def __init__(self, device: Any, problem: Problem, weights: Weights, adjoint: Any) -> None:
        options, batch, units = problem.options, problem.batch, problem.units
        steps = problem.steps if options.epsilon is not None else 1
        self._device, self._problem, self._weights = device, problem, weights
        self._row = make_row_backward(options, device.threads)
        self._dm = device.empty((batch, units), options.element) if options.projection else None
        self._rooms = [device.empty((steps, batch, units), options.element) for _ in range(2)]
        if options.epsilon is not None:
            products = device.empty((steps, batch, units, 4), options.element)
            adjoint = adjoint._replace(products=products, cell=self._rooms[0], standard=self._rooms[1])
        self.adjoint = adjoint

    def run(self, states: Any, t: int, d_output: Any, mask: Any, zone: Any, cell: tuple) -> None:
        """Go through step t; `cell` are sums, c before the step, dc, peepholes."""
        device, problem, weights = self._device, self._problem, self._weights
        batch, units, width, element = problem.batch, problem.units, problem.width, problem.options.element
        if self._dm is not None:
            a, b = (d_output, width, 1), (weights.projection.at(), width, 1)
            product(device, element, a, b, (self._dm.at(), units, 1), (batch, units, width))
            d_output = self._dm.at()
        size = batch * units
        d_cell, standard = (room.at(t % room.shape[0] * size) for room in self._rooms)
        gamma, cell_gamma, cell_beta = _norm_of(device, weights)
        device.launch(
            self._row, batch, d_output, mask, zone, *cell, states.products_at(t), states.scales_at(t), gamma,
            cell_gamma, cell_beta, self.adjoint.dz.at(t * size * 4), self.adjoint.products.at(t * size * 4), standard,
            d_cell, units,
        )  # fmt: skip


def _norm_of(device: Any, weights: Weights) -> list[Any]:
    """Return the pointers to the recurrent products' gamma and to gamma and beta of the cell."""
    norm = weights.norm
    if norm is None:
        return [device.nothing] * 3
    return [norm.recurrent_gamma.at(), norm.cell_gamma.at(), norm.cell_beta.at()]


def normalise(
    device: Any, problem: Problem, weights: Weights, values: Any, rows: int, standard: Any, scales: Any
) -> None:  # fmt: skip
    """Normalise rows of input products (U, 4) and add the bias; keep LN and scales where there is room for them."""
    kernel = make_normalise(problem.options.element, problem.options.epsilon, standard is not None, device.threads)
    kept = [device.nothing if room is None else room.at() for room in (standard, scales)]
    norm = weights.norm
    device.launch(kernel, rows, values.at(), norm.kernel_gamma.at(), weights.bias.at(), *kept, problem.units)


def normalise_backward(device: Any, problem: Problem, weights: Weights, dz: Any, standard: Any, scales: Any) -> Any:
    """Return the cotangent (T, B, U, 4) of the input products that were normalised."""
    kernel = make_normalise_backward(problem.options.element, device.threads)
    made = device.empty(dz.shape, problem.options.element)
    arrays = (dz, weights.norm.kernel_gamma, standard, scales, made)
    device.launch(kernel, dz.shape[0] * dz.shape[1], *(array.at() for array in arrays), problem.units)
    return made
