"""A pass on a device: the input's products, the recurrence, and the gradients around its backward pass."""

from typing import Any, NamedTuple

import numpy as np

from numbalstm.backends.cuda import clusters, grids, products, steps
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.choice import Choice
from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.weights import Weights, by_gate, on_device
from numbalstm.backends.interface import Gradients, Request

CHUNK = 24 << 20  # bytes of input products made before the recurrence reads them: they stay in the L2 cache


class Pass(NamedTuple):
    """What a forward pass leaves on the device.

    Attributes
    ----------
    y : (B, T, P) or (B, P)
    states : steps.States
    x : (T, B, F) in processing order, zeros under the mask; None when nothing was recorded
    z : (T, B, U, 4)
        The gates' sums; None when nothing was recorded.
    extras : steps.Extras
    weights : Weights
    choice : Choice
    """

    y: Any
    states: steps.States
    x: Any
    z: Any
    extras: steps.Extras
    weights: Weights
    choice: Choice


def run(device: Any, problem: Problem, choice: Choice) -> Pass:
    """Run a forward pass with the kernels chosen."""
    element, request = problem.options.element, problem.request
    weights, extras = on_device(request.parameters, device), steps.Extras(device, problem)
    x = problem.x if isinstance(problem.x, DeviceArray) else device.upload(problem.x)
    initial = None if request.initial_state is None else tuple(device.upload(state) for state in request.initial_state)
    states = steps.States(device, problem, initial)
    batch, features, units = problem.batch, problem.features, problem.units
    shape = (batch, problem.steps, problem.width) if request.return_sequences else (batch, problem.width)
    y = device.empty(shape, element)
    row_bytes = batch * 4 * units * np.dtype(element).itemsize
    chunk = problem.steps if problem.options.record else min(problem.steps, max(1, CHUNK // row_bytes))
    packed = device.empty((chunk, batch, features), element)
    xw = device.empty((chunk, batch, units, 4), element)
    begin, strides = products.strides_in_order(problem, x.strides)
    for start in range(0, problem.steps, chunk):
        count = min(chunk, problem.steps - start)
        source = (x.at(begin + start * strides[1]), *strides)
        _input_products(device, problem, weights, extras, source, packed, xw, start, count, choice.product)
        where = (device, problem, weights, extras, states, xw, y, start, start + count)
        if choice.forward == "grid":
            grids.run(*where, fast=choice.mode == "fp32-fast")
        elif choice.forward == "cluster":
            clusters.run(*where, mode=choice.mode)
        else:
            steps.run(*where)
    recorded = (packed, xw) if problem.options.record else (None, None)
    return Pass(y, states, *recorded, extras, weights, choice)


def _input_products(
    device: Any, problem: Problem, weights: Weights, extras: steps.Extras, source: tuple, packed: Any, xw: Any,
    start: int, count: int, mode: str,
) -> None:  # fmt: skip
    """Fill xw (count, B, U, 4) with the products of the input and the bias."""
    element, features, units = problem.options.element, problem.features, problem.units
    rows, m_x = count * problem.batch, extras.m_x
    shape = (count, problem.batch, features)
    mask = None if extras.mask is None else extras.mask_at(start)
    per_gate = m_x is not None and len(m_x.shape) == 3
    factors = None if m_x is None or per_gate else m_x.at()
    products.gather(device, element, source, packed.at(), shape, factors, mask)
    if not per_gate:
        a, b = (packed.at(), features, 1), (weights.kernel.at(), features, 1)
        c = (xw.at(), 4 * units, 1)
        products.product(device, element, a, b, c, (rows, 4 * units, features), weights.bias.at(), mode=mode)
        return
    scaled = device.empty(shape, element)
    contiguous = (features, problem.batch * features, 1)
    for gate in range(4):
        factors = m_x.at(gate * problem.batch * features)
        products.gather(device, element, (packed.at(), *contiguous), scaled.at(), shape, factors, None)
        a, b = (scaled.at(), features, 1), (weights.kernel.at(gate * features), 4 * features, 1)
        c, bias = (xw.at(gate), 4 * units, 4), weights.gate_bias.at(gate * units)
        products.product(device, element, a, b, c, (rows, units, features), bias)


class CudaTape:
    """The tape of a pass on a device: `numbalstm.backends.interface.Tape`."""

    def __init__(self, device: Any, problem: Problem, made: Pass) -> None:
        self.request: Request = problem.request
        self._device, self._problem, self._made = device, problem, made

    @property
    def nbytes(self) -> int:
        """Memory that the tape keeps on the device beside inputs and weights."""
        made, states = self._made, self._made.states
        return sum(a.nbytes for a in (made.x, made.z, states.h, states.c, states.cell, states.values) if a is not None)

    def pullback(self, d_outputs: Any, d_h: np.ndarray | None, d_c: np.ndarray | None) -> Gradients:
        """Return the gradients for cotangents of outputs and final states; None is zero."""
        device, problem, made = self._device, self._problem, self._made
        element, sizes = problem.options.element, (problem.batch, problem.width)
        dh = device.zeros(sizes, element) if d_h is None else device.upload_copy(d_h)
        shape = (problem.batch, problem.units)
        dc = device.zeros(shape, element) if d_c is None else device.upload_copy(d_c)
        dy = None if d_outputs is None else device.upload(self._padded(d_outputs))
        where = (device, problem, made.weights, made.extras, made.states, made.z, dy, dh, dc)
        if made.choice.backward == "grid":
            dz, d_projected = grids.run_backward(*where), None
        else:
            dz, d_projected = steps.run_backward(*where)
        dx, weights = self._input_gradient(dz), self._weights(dz, d_projected)
        device.check()
        if isinstance(problem.x, DeviceArray):
            return Gradients(dx, dh, dc, weights)
        return Gradients(self._split(dx), device.download(dh), device.download(dc), weights)

    def _padded(self, d_outputs: Any) -> Any:
        if not isinstance(d_outputs, list):
            return d_outputs
        problem = self._problem
        padded = np.zeros((problem.batch, problem.steps, problem.width), problem.options.element)
        for row, sequence in zip(padded, d_outputs, strict=True):
            row[: len(sequence)] = sequence
        return padded

    def _split(self, dx: Any) -> Any:
        """Return the gradient of the input as the input came."""
        dx, lengths = self._device.download(dx), self._problem.lengths
        if lengths is None:
            return dx
        step = -1 if self.request.go_backwards else 1
        return [row[:length][::step].copy() for row, length in zip(dx, lengths, strict=True)]

    def _input_gradient(self, dz: Any) -> Any:
        device, problem, weights, m_x = self._device, self._problem, self._made.weights, self._made.extras.m_x
        element, batch, features, units = problem.options.element, problem.batch, problem.features, problem.units
        shape, rows = (problem.steps, batch, features), problem.steps * batch
        packed = device.empty(shape, element)
        dx = device.empty((batch, problem.steps, features), element)
        begin, strides = products.strides_in_order(problem, (problem.steps * features, features, 1))
        target = (dx.at(begin), *strides)
        c = (packed.at(), features, 1)
        if m_x is None or len(m_x.shape) == 2:
            a, b = (dz.at(), 4 * units, 1), (weights.kernel.at(), 1, features)
            products.product(device, element, a, b, c, (rows, features, 4 * units), mode=self._made.choice.product)
            factors = None if m_x is None else m_x.at()
            products.scatter(device, element, packed.at(), target, shape, factors, False)
            return dx
        for gate in range(4):
            a, b = (dz.at(gate), 4 * units, 4), (weights.kernel.at(gate * features), 1, 4 * features)
            products.product(device, element, a, b, c, (rows, features, units))
            factors = m_x.at(gate * batch * features)
            products.scatter(device, element, packed.at(), target, shape, factors, gate > 0)
        return dx

    def _weights(self, dz: Any, d_projected: Any) -> dict[str, np.ndarray]:
        device, problem, made, request = self._device, self._problem, self._made, self.request
        element, units, width = problem.options.element, problem.units, problem.width
        rows, parameters, states = problem.steps * problem.batch, request.parameters, made.states
        m_x, m_h = made.extras.m_x, made.extras.m_h
        x_factors = m_x if m_x is not None and len(m_x.shape) == 3 else None  # else they are in made.x
        found = {
            "kernel": self._kernel_gradient(dz, made.x, problem.features, x_factors),
            "recurrent_kernel": self._kernel_gradient(dz, states.h, width, m_h),
        }
        if parameters.bias is not None:
            sums = device.download(products.column_sums(device, element, dz.at(), rows, 4 * units))
            found["bias"] = by_gate(sums.reshape(units, 4, 1)).reshape(-1)
        if parameters.peephole_kernel is not None:
            before = products.column_sums(device, element, dz.at(), rows, 4 * units, states.c_at(0))
            after = products.column_sums(device, element, dz.at(), rows, 4 * units, states.c_at(1))
            before, after = (device.download(sums).reshape(units, 4) for sums in (before, after))
            found["peephole_kernel"] = np.stack([before[:, 0], before[:, 1], after[:, 3]])
        if parameters.projection_kernel is not None:
            gradient = device.empty((units, width), element)
            a, b = (states.cell.at(), 1, units), (d_projected.at(), 1, width)
            products.product(device, element, a, b, (gradient.at(), width, 1), (units, width, rows))
            found["projection_kernel"] = device.download(gradient)
        return found

    def _kernel_gradient(self, dz: Any, left: Any, width: int, factors: Any) -> np.ndarray:
        """Return the sum over all steps of left (T, B, width), times its factors, with dz, as (width, 4 U)."""
        device, problem = self._device, self._problem
        element, units, batch = problem.options.element, problem.units, problem.batch
        rows = problem.steps * batch
        gradient = device.empty((units, 4, width), element)
        if factors is None:
            a, b = (dz.at(), 1, 4 * units), (left.at(), 1, width)
            sizes, mode = (4 * units, width, rows), self._made.choice.product
            products.product(device, element, a, b, (gradient.at(), width, 1), sizes, mode=mode)
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
