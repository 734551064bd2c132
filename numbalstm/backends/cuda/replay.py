"""Launches that come again: the memory that they had, and graphs of them.

A step kernel takes a launch a step, and each costs the host more than the device. Where the same launches come again,
with the same pointers, a graph of them is launched instead. `Slots` lets the pointers come again: the n-th array of a
pass gets the memory of the n-th array of the pass before, once nobody holds that any more. `Graphs` knows launches by
everything that they follow from, so a pointer that did change costs time and nothing else.
"""

import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.problem import Problem

KINDS = 4  # of passes whose memory is kept
SPARE = 3  # pieces of memory kept for one array of a pass: callers may hold the results of some passes
GRAPHS = 16
PLAIN = object()  # in the place of a graph: there is none
LARGEST = 64 << 20  # bytes of an array that is kept


class Slots:
    """Memory of earlier turns, by their kind and the order of allocation."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[Any, list[list[tuple[int, Any, weakref.ref]]]] = OrderedDict()
        self._slots: list[list[tuple[int, Any, weakref.ref]]] | None = None
        self._next = 0

    @contextmanager
    def of(self, kind: Any) -> Iterator[None]:
        """Serve the allocations of a turn; None serves none, and leaves an outer turn as it is."""
        if kind is None:
            yield
            return
        before = self._slots, self._next
        self._slots, self._next = self._kinds.setdefault(kind, []), 0
        self._kinds.move_to_end(kind)
        if len(self._kinds) > KINDS:
            self._kinds.popitem(last=False)
        try:
            yield
        finally:
            self._slots, self._next = before

    def take(self, size: int) -> Any:
        """Return memory of this size that the array at this place of an earlier turn had, or None."""
        if self._slots is None or size > LARGEST or self._next >= len(self._slots):
            return None
        for had, owner, user in self._slots[self._next]:
            if had == size and user() is None:
                return owner
        return None

    def note(self, size: int, made: DeviceArray) -> None:
        """Remember the memory of the array that was made at this place."""
        if self._slots is None or size > LARGEST:
            return
        if self._next == len(self._slots):
            self._slots.append([])
        slot = self._slots[self._next]
        slot[:] = [entry for entry in slot if entry[1] is not made.owner][-(SPARE - 1) :]
        slot.append((size, made.owner, weakref.ref(made)))
        self._next += 1

    def cleared(self) -> "Slots":
        """Return slots of the same place in a turn, without memory of their own."""
        return Slots()


class Graphs:
    """Graphs of launches of one stream, by what the launches follow from."""

    def __init__(self) -> None:
        self._known: OrderedDict[Any, Any] = OrderedDict()
        self._made: list[DeviceArray] | None = None
        self.replayed = 0

    def run(self, device: Any, body: Any, arguments: tuple) -> Any:
        """Return ``body(*arguments)``: at the first time as it is, then captured, from then on as a graph."""
        key = (body.__module__, body.__qualname__, *map(fingerprint, arguments))
        if key not in self._known:
            self._remember(key, None)
            return body(*arguments)
        self._known.move_to_end(key)
        if self._known[key] is None:
            self._known[key] = self._captured(device, body, arguments)
        if self._known[key] is PLAIN:
            return body(*arguments)
        graph, result, _ = self._known[key]
        graph.launch(device.stream)
        self.replayed += 1
        return result

    def _remember(self, key: Any, value: Any) -> None:
        self._known[key] = value
        if len(self._known) > GRAPHS:
            self._known.popitem(last=False)

    def _captured(self, device: Any, body: Any, arguments: tuple) -> Any:
        """Return a graph, what the body returned, and the arrays that it made, which live as long as the graph."""
        self._made = []
        try:
            with device.capturing() as builder:
                result = body(*arguments)
            return builder.complete(), result, self._made
        except MemoryError:
            raise
        except NotImplementedError:
            return PLAIN
        except Exception:  # a driver that does not capture: launches one by one do as well
            device.card.graphs = False
            return PLAIN
        finally:
            self._made = None

    def note(self, made: DeviceArray) -> None:
        """Remember an array that was made during a capture."""
        if self._made is not None:
            self._made.append(made)

    def cleared(self) -> "Graphs":
        """Return a store without graphs, which goes on with a capture that is under way."""
        fresh = Graphs()
        fresh._made, fresh.replayed = self._made, self.replayed
        return fresh


def fingerprint(value: Any) -> Any:
    """Return what the launches of a body depend on in one of its arguments, so that equal means alike."""
    if isinstance(value, DeviceArray):
        return value.pointer, value.shape, value.strides
    if isinstance(value, Problem):
        return value.options, value.batch, value.steps, value.features, value.request.return_sequences
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return tuple(map(fingerprint, value))
    if hasattr(value, "launch"):
        return None  # the device, of which a store knows one only
    return tuple(map(fingerprint, vars(value).values()))
