"""Passes that keep the states of some steps only, and compute the steps between them again on the way back.

A part of a pass, from one such step to the next, is a problem of its own that goes through the same kernels with the
same numbers: the same bits come out. What the gradients are summed from is put together again, so that the sums are
those of a pass that kept everything.
"""

from typing import Any

from numbalstm.backends.cuda import products, tape
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.choice import Choice
from numbalstm.backends.cuda.gradients import Trail
from numbalstm.backends.cuda.problem import Problem


def part(problem: Problem, start: int, stop: int) -> Problem:
    """Return steps start to stop of a problem as one of its own."""
    mask, first = problem.mask, problem.first
    if mask is not None:
        mask, first = mask[start:stop], first - start
    zones = tuple(zone if zone is None or zone.shape[0] == 1 else zone[start:stop] for zone in problem.zones)
    return problem._replace(steps=stop - start, mask=mask, first=first, zones=zones)


def record(device: Any, problem: Problem, choice: Choice, every: int) -> tuple[Any, Any, Any, "CheckpointTape"]:
    """Run a forward pass; returns outputs, final h and c, and the tape."""
    if isinstance(problem.first, DeviceArray):
        problem = problem._replace(first=device.download(problem.first))
    source, initial = tape.source_of(device, problem), tape.initial_of(device, problem)
    batch, steps, width = problem.batch, problem.steps, problem.width
    sequences, element = problem.request.return_sequences, problem.options.element
    y = device.empty((batch, steps, width), element) if sequences else None
    kept = []
    for start in range(0, steps, every):
        one = part(problem, start, min(start + every, steps))
        made = tape.run(device, one, choice, source, initial, start)
        initial = device.item(made.states.h, one.steps), device.item(made.states.c, one.steps)
        kept.append(initial)
        if y is None or not sequences:
            y = made.y
        else:
            target = (y.at(start * width), width, steps * width, 1)
            products.scatter(device, element, made.y.at(), target, (batch, one.steps, width), None, False)
    return y, *kept[-1], CheckpointTape(device, problem, choice, every, kept[:-1])


class CheckpointTape(tape.CudaTape):
    """The tape of a pass that kept the states behind every so manieth step."""

    def __init__(self, device: Any, problem: Problem, choice: Choice, every: int, kept: list[tuple[Any, Any]]) -> None:
        self.request = problem.request
        self._device, self._problem, self._choice, self._every, self._kept = device, problem, choice, every, kept

    @property
    def nbytes(self) -> int:
        """Memory that the tape keeps on the device beside inputs and weights."""
        return sum(state.nbytes for states in self._kept for state in states)

    @property
    def every(self) -> int:
        """How many steps lie between those whose states are kept."""
        return self._every

    @property
    def held(self) -> list[Any]:
        """Arrays that the way back reads."""
        return [state for states in self._kept for state in states]

    def seen_from(self, device: Any) -> "CheckpointTape":
        """Return the tape with its way back on another stream of the GPU."""
        return CheckpointTape(device, self._problem, self._choice, self._every, self._kept)

    def _back(self, dy: Any, dh: Any, dc: Any) -> tuple[Trail, tape.Pass]:
        device, problem, every = self._device, self._problem, self._every
        source, trail = tape.source_of(device, problem), None
        for number in reversed(range(len(self._kept) + 1)):
            start, stop = number * every, min((number + 1) * every, problem.steps)
            one = part(problem, start, stop)
            initial = self._kept[number - 1] if number else tape.initial_of(device, problem)
            made = tape.run(device, one, self._choice, source, initial, start)
            d_part = self._cotangents(dy, start, stop)
            trail = self._joined(trail, tape.run_backward(device, one, made, d_part, dh, dc), start, one.steps)
        return trail, made

    def _cotangents(self, dy: Any, start: int, stop: int) -> Any:
        """Return the part of the outputs' cotangents that steps start to stop have."""
        device, problem = self._device, self._problem
        if dy is None or not problem.request.return_sequences:
            return dy if stop == problem.steps else None
        element, steps, width = problem.options.element, problem.steps, problem.width
        made = device.empty((problem.batch, stop - start, width), element)
        given = (dy.at(start * width), width, steps * width, 1)
        products.gather(device, element, given, made.at(), (problem.batch, stop - start, width), None, None)
        return made

    def _joined(self, whole: Trail | None, found: Trail, start: int, steps: int) -> Trail:
        """Return the trail of the whole pass with that of a part in its place."""
        device, element = self._device, self._problem.options.element
        known: dict[int, Any] = {id(None): None}
        for array, target in zip(found, whole or found, strict=True):
            if id(array) not in known:
                if whole is None:
                    shape = (array.shape[0] - steps + self._problem.steps, *array.shape[1:])
                    target = device.empty(shape, element)
                products.copy(device, element, array.at(), target.at(start * array.strides[0]), array.size)
                known[id(array)] = target
        return Trail(*(known[id(array)] for array in found))
