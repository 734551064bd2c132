"""Requests on a given device: passes without and with a tape."""

from typing import Any

from numbalstm.backends import reference, reference_backward
from numbalstm.backends.cuda import checkpoints, elementwise, tape
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.choice import Choice, explain
from numbalstm.backends.cuda.mode import mode_of
from numbalstm.backends.cuda.problem import Problem, settle
from numbalstm.backends.interface import Forward, Gradients, Request, Tape


def forward(device: Any, request: Request) -> Forward:
    """Run a forward pass on a device."""
    problem = settle(request, record=False)
    if _nothing_to_compute(problem):
        return reference.forward(request)
    with device.turn(_given(request), _kind(problem)):
        made, h, c = _run(device, _masked_there(device, problem))
        return Forward(*_results(device, problem, made.y, h, c))


def record(device: Any, request: Request, checkpoint_every: int | None = None) -> tuple[Forward, Tape]:
    """Run a forward pass on a device and keep what its backward pass needs."""
    problem = settle(request, record=True)
    if _nothing_to_compute(problem):
        return reference_backward.record(request, checkpoint_every)
    every = None if checkpoint_every is None or checkpoint_every >= problem.steps else checkpoint_every
    with device.turn(_given(request), (_kind(problem), every)):
        problem = _masked_there(device, problem)
        if every is None:
            made, *states = _run(device, problem)
            y, kept = made.y, tape.CudaTape(device, problem, made)
        else:
            y, *states, kept = checkpoints.record(device, problem, _choice(device, problem), every)
        return Forward(*_results(device, problem, y, *states)), OrderedTape(device, kept)


class OrderedTape:
    """The tape of a pass on a device, whose way back is queued on the stream of the pass."""

    def __init__(self, device: Any, kept: tape.CudaTape) -> None:
        self.request, self._device, self._kept = kept.request, device, kept

    @property
    def nbytes(self) -> int:
        """Memory that the tape keeps on the device beside inputs and weights."""
        return self._kept.nbytes

    def seen_from(self, device: Any) -> "OrderedTape":
        """Return the tape with its way back on another stream of the GPU."""
        return OrderedTape(device, self._kept.seen_from(device))

    def pullback(self, d_outputs: Any, d_h: Any, d_c: Any) -> Gradients:
        """Return the gradients for cotangents of outputs and final states; None is zero."""
        given = [*(d_outputs if isinstance(d_outputs, list) else [d_outputs]), d_h, d_c]
        kind = ("backward", *(one is None for one in given[-3:]), _kind(self._kept._problem), self._kept.every)
        with self._device.turn([*given, *_given(self.request), *self._kept.held], kind):
            return self._kept.pullback(d_outputs, d_h, d_c)


def _given(request: Request) -> list[Any]:
    """Return everything of a request that may lie on a device."""
    states, factors = request.initial_state or (), request.dropout_masks or ()
    zones = request.variant.zoneout or ()
    return [request.x, request.mask, request.out, *states, *factors, *zones]


def _kind(problem: Problem) -> Any:
    """Return what says how much memory a pass takes, in which order."""
    request = problem.request
    return (*problem[1:6], problem.options, request.return_sequences, request.parameters.bias is None)


def _masked_there(device: Any, problem: Problem) -> Problem:
    """Return a problem whose mask, if it lies on a device, is in processing order too."""
    if not isinstance(problem.mask, DeviceArray):
        return problem
    mask, first = elementwise.ordered_mask(device, problem.mask, problem.reverse)
    return problem._replace(mask=mask, first=first)


def _nothing_to_compute(problem: Problem) -> bool:
    if problem.batch and problem.steps:
        return False
    if isinstance(problem.x, DeviceArray):
        raise ValueError(f"inputs on a GPU must have at least one row, got shape {problem.x.shape}.")
    return True


def _choice(device: Any, problem: Problem) -> Choice:
    mode, kernel = mode_of(problem.request.parameters)
    return explain(problem, mode, kernel, device.limits)


def _run(device: Any, problem: Problem) -> tuple[tape.Pass, Any, Any]:
    """Run a forward pass; returns it and the final states."""
    source, initial = tape.source_of(device, problem), tape.initial_of(device, problem)
    made = tape.run(device, problem, _choice(device, problem), source, initial)
    last = problem.steps % made.states.kept
    return made, device.item(made.states.h, last), device.item(made.states.c, last)


def _results(device: Any, problem: Problem, y: Any, h: Any, c: Any) -> tuple[Any, Any, Any]:
    """Return outputs and final states: on the device where the inputs are there, else on the host."""
    request = problem.request
    if isinstance(problem.x, DeviceArray):
        return elementwise.given_back(device, y, request.out), h, c
    y, h, c = device.download(y), device.download(h), device.download(c)
    device.check()
    if problem.lengths is not None and request.return_sequences:
        y = [row[:length].copy() for row, length in zip(y, problem.lengths, strict=True)]
    return elementwise.given_back(device, y, request.out), h, c
