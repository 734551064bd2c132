"""A pass on a device: the input's products, the recurrence, and its way back."""

from typing import Any, NamedTuple

import numpy as np

from numbalstm.backends.cuda import clusters, gradients, grids, products, rows, steps, tiles
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.choice import Choice
from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.weights import Weights, on_device
from numbalstm.backends.interface import Gradients, Request

CHUNK = 24 << 20  # bytes of input products made before the recurrence reads them: they stay in the L2 cache


class Source(NamedTuple):
    """The input on a device in processing order: pointer to an element by its step, and strides of b, t, f."""

    x: Any
    begin: int
    strides: tuple[int, int, int]

    def at(self, t: int) -> tuple:
        """Return pointer and strides from a step on."""
        return (self.x.at(self.begin + t * self.strides[1]), *self.strides)


def source_of(device: Any, problem: Problem) -> Source:
    """Return the input of a problem on a device."""
    x = problem.x if isinstance(problem.x, DeviceArray) else device.upload(problem.x)
    return Source(x, *products.strides_in_order(problem, x.strides))


def initial_of(device: Any, problem: Problem) -> tuple[Any, Any] | None:
    """Return the initial states of a problem on a device; None: zeros."""
    given = problem.request.initial_state
    return None if given is None else (device.upload(given[0]), device.upload(given[1]))


class Pass(NamedTuple):
    """What a forward pass leaves on the device.

    Attributes
    ----------
    y : (B, T, P) or (B, P)
    states : steps.States
    x : (T, B, F) in processing order, zeros under the mask; None when nothing was recorded
    z : (T, B, U, 4)
        The gates' sums; None when nothing was recorded.
    standard, scales : (T, B, U, 4) and (T, B)
        With layer normalisation: LN of the input's products, and what their deviations were multiplied with.
    extras : steps.Extras
    weights : Weights
    choice : Choice
    """

    y: Any
    states: steps.States
    x: Any
    z: Any
    standard: Any
    scales: Any
    extras: steps.Extras
    weights: Weights
    choice: Choice


def run(device: Any, problem: Problem, choice: Choice, source: Source, initial: Any, first: int = 0) -> Pass:
    """Run a forward pass with the kernels chosen; step 0 of the problem is step `first` of the source."""
    options, batch, features, units = problem.options, problem.batch, problem.features, problem.units
    element = options.element
    weights, extras = on_device(problem.request.parameters, device), steps.Extras(device, problem)
    states = steps.States(device, problem, initial)
    shape = (batch, problem.steps, problem.width) if problem.request.return_sequences else (batch, problem.width)
    y = device.empty(shape, element)
    row_bytes = batch * 4 * units * np.dtype(element).itemsize
    chunk = problem.steps if options.record else min(problem.steps, max(1, CHUNK // row_bytes))
    packed = device.empty((chunk, batch, features), element)
    xw = device.empty((chunk, batch, units, 4), element)
    standard = scales = None
    if options.record and options.epsilon is not None:
        standard, scales = device.empty(xw.shape, element), device.empty((chunk, batch), element)
    for start in range(0, problem.steps, chunk):
        count = min(chunk, problem.steps - start)
        mask = None if extras.mask is None else extras.mask_at(start)
        where, shape = source.at(first + start), (count, batch, features)
        products.gather(device, element, where, packed.at(), shape, extras.shared_factors, mask)
        _input_products(device, problem, weights, extras, packed, xw, count, choice.product)
        if options.epsilon is not None:
            rows.normalise(device, problem, weights, xw, count * batch, standard, scales)
        where = (device, problem, weights, extras, states, xw, y, start, start + count)
        if choice.forward == "grid":
            grids.run(*where, fast=choice.mode == "fp32-fast")
        elif choice.forward == "tiles":
            tiles.run(*where, mode=choice.mode)
        elif choice.forward == "cluster":
            clusters.run(*where, mode=choice.mode)
        else:
            device.replay(steps.run, *where)
    recorded = (packed, xw) if options.record else (None, None)
    return Pass(y, states, *recorded, standard, scales, extras, weights, choice)


def _input_products(
    device: Any, problem: Problem, weights: Weights, extras: steps.Extras, packed: Any, xw: Any, count: int, mode: str
) -> None:
    """Fill xw (count, B, U, 4) with the products of the input and, where they are not normalised, the bias."""
    element, batch, features, units = problem.options.element, problem.batch, problem.features, problem.units
    m_x, normed = extras.m_x, problem.options.epsilon is not None
    like = problem.whole * batch  # the choice of a kernel must not depend on how many steps come at once
    if not extras.per_gate:
        a, b, c = (packed.at(), features, 1), (weights.kernel.at(), features, 1), (xw.at(), 4 * units, 1)
        sizes, bias = (count * batch, 4 * units, features), None if normed else weights.bias.at()
        products.product(device, element, a, b, c, sizes, bias, mode=mode, like=(like, *sizes[1:]))
        return
    shape, contiguous = (count, batch, features), (features, batch * features, 1)
    scaled = device.empty(shape, element)
    for gate in range(4):
        factors = m_x.at(gate * batch * features)
        products.gather(device, element, (packed.at(), *contiguous), scaled.at(), shape, factors, None)
        a, b = (scaled.at(), features, 1), (weights.kernel.at(gate * features), 4 * features, 1)
        c, bias = (xw.at(gate), 4 * units, 4), None if normed else weights.gate_bias.at(gate * units)
        products.product(device, element, a, b, c, (count * batch, units, features), bias)


def run_backward(device: Any, problem: Problem, made: Pass, dy: Any, dh: Any, dc: Any) -> gradients.Trail:
    """Go back over a pass; dh and dc become the cotangents of the initial states."""
    where = (device, problem, made.weights, made.extras, made.states, made.z, dy, dh, dc)
    name, mode = made.choice.backward, made.choice.mode
    if name == "step":
        adjoint = device.replay(steps.run_backward, *where)
    else:
        options = {} if name == "grid" else {"mode": mode}
        dz = {"grid": grids, "tiles": tiles, "cluster": clusters}[name].run_backward(*where, **options)
        adjoint = steps.Adjoint(dz, dz)
    inputs = adjoint.dz
    if made.standard is not None:
        inputs = rows.normalise_backward(device, problem, made.weights, adjoint.dz, made.standard, made.scales)
    states = made.states
    c = states.c if problem.options.peephole else None
    normed = (None, None) if made.standard is None else (made.standard, states.products)
    return gradients.Trail(made.x, states.h, c, states.fresh, states.cell, *normed, inputs, *adjoint)


class CudaTape:
    """The tape of a pass on a device: `numbalstm.backends.interface.Tape`."""

    def __init__(self, device: Any, problem: Problem, made: Pass) -> None:
        self.request: Request = problem.request
        self._device, self._problem, self._made = device, problem, made

    @property
    def nbytes(self) -> int:
        """Memory that the tape keeps on the device beside inputs and weights."""
        made = self._made
        arrays = (made.x, made.z, made.standard, made.scales)
        return made.states.nbytes + sum(array.nbytes for array in arrays if array is not None)

    @property
    def every(self) -> int | None:
        """How many steps lie between those whose states are kept; None: everything is."""
        return None

    @property
    def held(self) -> list[Any]:
        """Arrays that the way back reads."""
        return [self._made.y, self._made.x, self._made.z]

    def seen_from(self, device: Any) -> "CudaTape":
        """Return the tape with its way back on another stream of the GPU."""
        return CudaTape(device, self._problem, self._made)

    def pullback(self, d_outputs: Any, d_h: Any, d_c: Any) -> Gradients:
        """Return the gradients for cotangents of outputs and final states; None is zero."""
        device, problem = self._device, self._problem
        element, sizes = problem.options.element, (problem.batch, problem.width)
        dh = device.zeros(sizes, element) if d_h is None else device.upload_copy(d_h)
        shape = (problem.batch, problem.units)
        dc = device.zeros(shape, element) if d_c is None else device.upload_copy(d_c)
        dy = None if d_outputs is None else device.upload(self._padded(d_outputs))
        trail, made = self._back(dy, dh, dc)
        dx = gradients.of_input(device, problem, made.weights, made.extras, made.choice, trail)
        weights = gradients.of_weights(device, problem, made.extras, made.choice, trail)
        device.check()
        if isinstance(problem.x, DeviceArray):
            return Gradients(dx, dh, dc, weights)
        return Gradients(self._split(dx), device.download(dh), device.download(dc), weights)

    def _back(self, dy: Any, dh: Any, dc: Any) -> tuple[gradients.Trail, Pass]:
        """Return what the gradients are summed from, and a pass with the weights, factors and kernels of this one."""
        return run_backward(self._device, self._problem, self._made, dy, dh, dc), self._made

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
