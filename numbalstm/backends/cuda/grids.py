"""The recurrence on the whole grid: launches of `numbalstm.kernels.cuda.grid` and its backward kernel."""

from typing import Any

import numpy as np

from numbalstm.backends.cuda.choice import FORWARD_STEP, blocks_for, padded, rows_for
from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.steps import Extras, States
from numbalstm.backends.cuda.weights import Weights, by_unit
from numbalstm.kernels.cuda.grid import make_grid
from numbalstm.kernels.cuda.grid_backward import make_grid_backward
from numbalstm.parameters import LSTMParameters


def recurrent(parameters: LSTMParameters, device: Any, size: int) -> Any:
    """Return the recurrent kernel on a device, (size, 4, size) with zeros beyond its units."""
    key = ("cuda", device.number, "recurrent", size)
    found = parameters.packed.get(key)
    if found is None:
        units = parameters.units
        host = np.zeros((size, 4, size), np.float32)
        host[:units, :, :units] = by_unit(parameters.recurrent_kernel)
        found = parameters.packed[key] = device.keep(host)
    return found


def run(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, xw: Any, y: Any, start: int,
    stop: int, fast: bool,
) -> None:  # fmt: skip
    """Run steps start to stop, whose products `xw` begins with."""
    request, batch, units = problem.request, problem.batch, problem.units
    size, rows, steps = padded(units, FORWARD_STEP), rows_for(batch), stop - start
    kernel = make_grid(problem.options, size, rows, fast, device.warps)
    after = start + 1 if problem.options.record else stop
    exchange, tag = device.exchange(2 * rows * size, steps)
    device.launch(
        kernel, blocks_for(units, device.warps), xw.at(), recurrent(request.parameters, device, size).at(),
        states.h_at(start), states.c_at(start), states.h_at(after), states.c_at(after),
        *outputs_of(problem, y, start), extras.mask_at(start), extras.first, start, peepholes_of(device, weights),
        exchange, device.trouble.at(), batch, units, steps, tag,
    )  # fmt: skip


def outputs_of(problem: Problem, y: Any, start: int) -> tuple[Any, int, int, int]:
    """Return where outputs go from a step on: pointer, strides of rows and steps, first step written."""
    width = problem.width
    if problem.request.return_sequences:
        return y.at(start * width), problem.steps * width, width, 0
    return y.at(), width, 0, problem.steps - 1 - start


def run_backward(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, z: Any, dy: Any, dh: Any, dc: Any
) -> Any:
    """Go back over all steps; dh and dc become the cotangents of the initial states. Returns dz (T, B, U, 4)."""
    request, batch, units = problem.request, problem.batch, problem.units
    size, steps = padded(units, 32 * device.warps), problem.steps
    kernel = make_grid_backward(problem.options, size, rows_for(batch), device.warps)
    dz = device.empty((steps, batch, units, 4), "float32")
    blocks = -(-units // device.warps)
    exchange, tag = device.exchange(2 * blocks * batch * size, steps)
    device.launch(
        kernel, blocks, recurrent(request.parameters, device, size).at(), z.at(), states.c_at(0),
        *cotangents_of(device, problem, dy), extras.mask_at(0), extras.first,
        peepholes_of(device, weights), dh.at(), dc.at(), dz.at(), exchange, device.trouble.at(), batch, units,
        steps, tag,
    )  # fmt: skip
    return dz


def cotangents_of(device: Any, problem: Problem, dy: Any) -> tuple[Any, int, int, int]:
    """Return where the outputs' cotangents are: pointer, strides of rows and steps, first step that has one."""
    steps, width = problem.steps, problem.width
    if dy is None:
        return device.nothing, 0, 0, steps
    return (dy.at(), steps * width, width, 0) if problem.request.return_sequences else (dy.at(), width, 0, steps - 1)


def peepholes_of(device: Any, weights: Weights) -> Any:
    """Return the pointer to the peepholes."""
    return device.nothing if weights.peepholes is None else weights.peepholes.at()
