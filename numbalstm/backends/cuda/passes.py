"""Requests on a given device: passes without and with a tape."""

from typing import Any

from numbalstm.backends import reference, reference_backward
from numbalstm.backends.cuda import tape
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.choice import Choice, explain
from numbalstm.backends.cuda.mode import mode_of
from numbalstm.backends.cuda.problem import Problem, settle
from numbalstm.backends.interface import Forward, Request, Tape


def forward(device: Any, request: Request) -> Forward:
    """Run a forward pass on a device."""
    problem = settle(request, record=False)
    if _nothing_to_compute(problem):
        return reference.forward(request)
    return Forward(*_results(device, problem, tape.run(device, problem, _choice(device, problem))))


def record(device: Any, request: Request) -> tuple[Forward, Tape]:
    """Run a forward pass on a device and keep what its backward pass needs."""
    problem = settle(request, record=True)
    if _nothing_to_compute(problem):
        return reference_backward.record(request, None)
    made = tape.run(device, problem, _choice(device, problem))
    return Forward(*_results(device, problem, made)), tape.CudaTape(device, problem, made)


def _nothing_to_compute(problem: Problem) -> bool:
    if problem.batch and problem.steps:
        return False
    if isinstance(problem.x, DeviceArray):
        raise ValueError(f"inputs on a GPU must have at least one row, got shape {problem.x.shape}.")
    return True


def _choice(device: Any, problem: Problem) -> Choice:
    mode, kernel = mode_of(problem.request.parameters)
    return explain(problem, mode, kernel, device.limits)


def _results(device: Any, problem: Problem, made: tape.Pass) -> tuple[Any, Any, Any]:
    """Return outputs and final states: on the device where the inputs are there, else on the host."""
    request, states = problem.request, made.states
    last = problem.steps % states.kept
    h, c = device.item(states.h, last), device.item(states.c, last)
    if isinstance(problem.x, DeviceArray):
        return made.y, h, c
    y, h, c = device.download(made.y), device.download(h), device.download(c)
    device.check()
    if request.out is not None:
        request.out[...] = y
        y = request.out
    if problem.lengths is not None and request.return_sequences:
        y = [row[:length].copy() for row, length in zip(y, problem.lengths, strict=True)]
    return y, h, c
