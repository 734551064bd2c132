"""The gradients of input and weights, once a backward recurrence has left the cotangents of every step."""

from typing import Any, NamedTuple

import numpy as np

from numbalstm.backends.cuda import products
from numbalstm.backends.cuda.choice import Choice
from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.weights import Weights, by_gate


class Trail(NamedTuple):
    """What the gradients are summed from, each (T, B, ...) in processing order, None where there is no such thing.

    Attributes
    ----------
    x : (T, B, F)
    h, c : (T + 1, B, P) and (T + 1, B, U)
        Before each step and behind the last.
    fresh : (T, B, U)
        c before its zoneout, where that is not the next c.
    cell : (T, B, U)
        The cell's output before its projection.
    standard_inputs, standard_products : (T, B, U, 4)
        LN of the products of input and h.
    d_inputs, dz, d_products : (T, B, U, 4)
        Cotangents of the products of the input, of the gates' sums, of the products of h; the same array without
        layer normalisation.
    d_projected : (T, B, P)
    d_cell, standard_cell : (T, B, U)
        The cotangent of gamma LN(c) + beta, and LN(c).
    """

    x: Any
    h: Any
    c: Any
    fresh: Any
    cell: Any
    standard_inputs: Any
    standard_products: Any
    d_inputs: Any
    dz: Any
    d_products: Any
    d_projected: Any
    d_cell: Any
    standard_cell: Any


def of_input(device: Any, problem: Problem, weights: Weights, extras: Any, choice: Choice, trail: Trail) -> Any:
    """Return the gradient of the input (B, T, F) on the device."""
    element, batch, features, units = problem.options.element, problem.batch, problem.features, problem.units
    shape, rows, dz, m_x = (problem.steps, batch, features), problem.steps * batch, trail.d_inputs, extras.m_x
    packed = device.empty(shape, element)
    dx = device.empty((batch, problem.steps, features), element)
    begin, strides = products.strides_in_order(problem, (problem.steps * features, features, 1))
    target = (dx.at(begin), *strides)
    c = (packed.at(), features, 1)
    if not extras.per_gate:
        a, b = (dz.at(), 4 * units, 1), (weights.kernel.at(), 1, features)
        products.product(device, element, a, b, c, (rows, features, 4 * units), mode=choice.product)
        products.scatter(device, element, packed.at(), target, shape, extras.shared_factors, False)
        return dx
    for gate in range(4):
        a, b = (dz.at(gate), 4 * units, 4), (weights.kernel.at(gate * features), 1, 4 * features)
        products.product(device, element, a, b, c, (rows, features, units))
        factors = m_x.at(gate * batch * features)
        products.scatter(device, element, packed.at(), target, shape, factors, gate > 0)
    return dx


def of_weights(
    device: Any, problem: Problem, extras: Any, choice: Choice, trail: Trail
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the gradients of the weights on the host."""
    element, units, width = problem.options.element, problem.units, problem.width
    rows, parameters, size = problem.steps * problem.batch, problem.request.parameters, problem.batch * problem.units
    found = {
        "kernel": _of_kernel(
            device, problem, choice, trail.d_inputs, trail.x, problem.features, extras.m_x if extras.per_gate else None
        ),
        "recurrent_kernel": _of_kernel(device, problem, choice, trail.d_products, trail.h, width, extras.m_h),
    }

    def sums(cotangents: Any, columns: int, factors: Any = None, group: int = 4) -> np.ndarray:
        return device.download(products.column_sums(device, element, cotangents, rows, columns, factors, group))

    def of_gates(vector: np.ndarray) -> np.ndarray:
        return by_gate(vector.reshape(units, 4, 1)).reshape(-1)

    if parameters.bias is not None or parameters.norm is not None:
        bias = of_gates(sums(trail.dz.at(), 4 * units))
    if parameters.bias is not None:
        found["bias"] = bias
    if parameters.peephole_kernel is not None:
        seen = trail.c.at(size) if trail.fresh is None else trail.fresh.at()
        before, after = (sums(trail.dz.at(), 4 * units, c).reshape(units, 4) for c in (trail.c.at(), seen))
        found["peephole_kernel"] = np.stack([before[:, 0], before[:, 1], after[:, 3]])
    if parameters.projection_kernel is not None:
        gradient = device.empty((units, width), element)
        a, b = (trail.cell.at(), 1, units), (trail.d_projected.at(), 1, width)
        products.product(device, element, a, b, (gradient.at(), width, 1), (units, width, rows))
        found["projection_kernel"] = device.download(gradient)
    if parameters.norm is not None:
        for name, standard in (("kernel", trail.standard_inputs), ("recurrent", trail.standard_products)):
            found[f"{name}_gamma"] = of_gates(sums(trail.dz.at(), 4 * units, standard.at(), 1))
            found[f"{name}_beta"] = bias.copy()
        found["cell_gamma"] = sums(trail.d_cell.at(), units, trail.standard_cell.at(), 1)
        found["cell_beta"] = sums(trail.d_cell.at(), units)
    return found


def _of_kernel(
    device: Any, problem: Problem, choice: Choice, dz: Any, left: Any, width: int, factors: Any
) -> np.ndarray:  # fmt: skip
    """Return the sum over all steps of left (T, B, width), times its factors, with dz, as (width, 4 U)."""
    element, units, batch = problem.options.element, problem.units, problem.batch
    rows = problem.steps * batch
    gradient = device.empty((units, 4, width), element)
    if factors is None:
        a, b = (dz.at(), 1, 4 * units), (left.at(), 1, width)
        products.product(
            device, element, a, b, (gradient.at(), width, 1), (4 * units, width, rows), mode=choice.product
        )  # fmt: skip
        return by_gate(device.download(gradient))
    shape, strides = (problem.steps, batch, width), (width, batch * width, 1)
    scaled = device.empty(shape, element)
    per_gate = len(factors.shape) == 3
    for gate in range(4):
        if per_gate or gate == 0:
            factor = factors.at(gate * batch * width)
            products.gather(device, element, (left.at(), *strides), scaled.at(), shape, factor, None)
        a, b = (dz.at(gate), 4, 4 * units), (scaled.at(), 1, width)
        products.product(device, element, a, b, (gradient.at(gate * width), 4 * width, 1), (units, width, rows))
    return by_gate(device.download(gradient))
