"""Passes of the compiled kernels that can be pulled back: what is kept, in segments of timesteps, and the way back.

A segment's tape holds, for each real timestep of each row and each unit, the four gates, c and h: 6 numbers, units
rounded up to whole vectors. With layer normalisation they are 10: x K and h R in place of the gates, four numbers each.
With checkpoints only the states between the segments stay, and a segment is computed again when the backward pass comes
to it: the same jobs on the same numbers, so the same bits.
"""

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from numbalstm.backends import hardware, parallel
from numbalstm.backends.cells import cell_of, set_zones, unsupported_cell, zones_of
from numbalstm.backends.compiled_backward import BackwardPass
from numbalstm.backends.cpu import packed_weights, run
from numbalstm.backends.interface import Forward, Gradients, Request
from numbalstm.backends.normed import norm_record, sums_beside
from numbalstm.backends.plan import Layout, Plan, Rows, address, can_share, fill, set_cell, split, stride
from numbalstm.backends.sequences import Arrays, Share, arrays_at, finish_outputs, plain, real_steps, scaled
from numbalstm.kernels.cpu.job import JOB
from numbalstm.kernels.cpu.packing import LINE, aligned
from numbalstm.kernels.simd import Tile

FORWARD_NUMBERS = 1 << 23  # of a segment whose tape nobody reads: enough that few are needed


@cache
def taped_tile(dtype: np.dtype, any_activation: bool, dropout: bool) -> Tile:
    """The register block of a pass with a tape."""
    base = hardware.tile(dtype, any_activation)
    return Tile(base.dtype, base.lanes, base.rows, any_activation, "native", True, dropout)


def unsupported(request: Request) -> str | None:
    """Why the kernels cannot run a forward pass, or None."""
    return unsupported_cell(request)


def unsupported_record(request: Request) -> str | None:
    """Why the kernels cannot record a request, or None."""
    variant = request.variant
    zone = None if variant.zoneout is None else variant.zoneout[1]
    if variant.projection_clip is not None and any(np.any((one != 0) & (one != 1)) for one in _arrays(zone)):
        return "gradients of a clipped projection whose zoneout mixes old and new values"
    return unsupported_cell(request)


def _arrays(zone: Any) -> list[Any]:
    """Return zoneout factors as arrays."""
    return [] if zone is None else zone if isinstance(zone, list) else [np.asarray(zone)]


def forward(request: Request) -> Forward:
    """Run a forward pass that `cpu.forward` cannot: with dropout by gate, or of the states."""
    rows = len(request.x)
    each_step = 6 * max(rows, 1) * request.parameters.units
    return CompiledTape(request, max(FORWARD_NUMBERS // each_step, 1)).forward()


def record(request: Request, checkpoint_every: int | None) -> tuple[Forward, "CompiledTape"]:
    """Run a forward pass and keep what its backward pass needs."""
    tape = CompiledTape(request, checkpoint_every)
    return tape.forward(), tape


class CompiledTape:
    """The tape of a pass of the compiled kernels.  See `numbalstm.backends.interface.Tape`."""

    def __init__(self, request: Request, checkpoint_every: int | None) -> None:
        self.request = request
        self.x_factors = None
        if (
            request.dropout_masks is not None
            and request.dropout_masks[1] is None
            and request.dropout_masks[0].ndim == 2
        ):
            self.x_factors = request.dropout_masks[0]  # of all gates at once: x is multiplied beforehand
            request = request._replace(x=scaled(request.x, self.x_factors), dropout_masks=None)
        parameters = request.parameters
        cell = cell_of(request)
        self.tile = taped_tile(parameters.dtype, not cell.is_plain, request.dropout_masks is not None)
        self.cell = cell.fields(self.tile, parameters)
        self.packed = packed_weights(parameters, self.tile)
        self.strides = stride(parameters.output_size, self.tile), stride(parameters.units, self.tile)
        x = request.x
        self._x = [plain(row) for row in x] if isinstance(x, list) else plain(x)
        self.order, self.lengths, self._positions = real_steps(request)
        self._steps = int(self.lengths[0]) if len(self.lengths) else 0
        self._every = checkpoint_every or max(self._steps, 1)
        self.zones = zones_of(request, 0), zones_of(request, 1)
        self.factors = _factors(request, self.order, self.strides[0])
        self.workers, self._share_units = self._split()
        self.bounds = _bounds(self.lengths, 1 if self._share_units else self.workers)
        self._states: list[tuple[np.ndarray, np.ndarray]] = []
        self._segment: list[Share] | None = None

    def _split(self) -> tuple[int, bool]:
        rows = np.searchsorted(-self.lengths, -0.5)  # those with any timestep
        threads = parallel.threads(self.request.threads)
        shares = can_share(self.packed, self.cell)
        return split(rows, self._steps, self.packed.tiles, self.packed, threads, shares)

    @property
    def nbytes(self) -> int:
        """Memory kept beside inputs and weights."""
        kept = [state for pair in self._states for state in pair]
        for share in self._segment or ():
            kept += [share.z, share.h, share.c, *(share.beside or ())]
        return sum(array.nbytes for array in kept)

    # Forward

    def forward(self) -> Forward:
        """Run all segments."""
        request = self.request
        y, outputs = self._outputs()
        h, c = self._initial_states()
        for first in range(0, max(self._steps, 1), self._every):
            self._states.append((h, c))
            segment = self._run_segment(first, y, h, c)
            h, c = _final_states(segment, h, c)
        if self._every >= self._steps:
            self._segment, self._states = segment, self._states[:0]
        finals = np.empty_like(h), np.empty_like(c)
        for final, state in zip(finals, (h, c), strict=True):
            final[self.order] = state
        widths = request.parameters.output_size, request.parameters.units
        finish_outputs(request, outputs)
        if request.out is not None:
            request.out[...] = outputs
            outputs = request.out
        h, c = (np.ascontiguousarray(final[:, :width]) for final, width in zip(finals, widths, strict=True))
        return Forward(outputs, h, c)

    def _initial_states(self) -> tuple[np.ndarray, np.ndarray]:
        states = []
        for state, width in zip(self.request.initial_state or (None, None), self.strides, strict=True):
            padded = aligned((len(self.order), width), self.tile.dtype)
            padded.fill(0)
            if state is not None:
                padded[:, : state.shape[1]] = state[self.order]
            states.append(padded)
        return states[0], states[1]

    def _outputs(self) -> tuple[Arrays, Any]:
        """Where the kernels write, and what is returned."""
        request, units = self.request, self.request.parameters.output_size
        if isinstance(request.x, list):
            if request.return_sequences:
                outputs = [np.empty((len(x), units), self.tile.dtype) for x in self._x]
                return arrays_at(outputs, self.order, False), outputs
            outputs = np.zeros((len(request.x), units), self.tile.dtype)
        elif request.return_sequences:
            outputs = np.empty((*request.x.shape[:2], units), self.tile.dtype)
            return arrays_at(outputs, self.order, False), outputs
        else:
            outputs = np.zeros((len(request.x), units), self.tile.dtype)
        return Arrays(address(outputs) + self.order * outputs.strides[0], 0, outputs), outputs

    def _run_segment(self, first: int, y: Arrays, h: np.ndarray, c: np.ndarray) -> list[Share]:
        """Compute the timesteps from `first` on, up to the next checkpoint, with their tape."""
        lengths = np.clip(self.lengths - first, 0, self._every)
        shares = [self._share(lengths, first, start, stop, h, c) for start, stop in self.bounds]
        x = arrays_at(self._x, self.order, self.request.go_backwards)
        workers = self.workers if self._share_units else 1
        flags = aligned((self.workers + 1, LINE // 8), np.int64) if self._share_units else None
        jobs = np.zeros(len(shares) * workers, JOB)
        keep: list[Any] = [x, y, shares]
        for number, job in enumerate(jobs):
            share = shares[0 if self._share_units else number]
            self._fill(job, share, lengths, x, y, keep)
            if self._share_units:
                tiles = self.packed.tiles
                job["first_tile"], job["last_tile"] = tiles * number // workers, tiles * (number + 1) // workers
                job["z"] += job["first_tile"] * job["z_tile"]
                job["barrier"], job["worker"], job["workers"] = address(flags), number, workers
        run(self.tile, Plan(jobs, h, c, flags, keep, self.packed.norm is not None), 0, 0)
        return shares

    def _share(self, lengths: np.ndarray, first: int, start: int, stop: int, h: np.ndarray, c: np.ndarray) -> Share:
        active = _active(lengths[start:stop])
        offsets = np.concatenate([[0], np.cumsum(active)]).astype(np.int64)
        rows, count = int(offsets[-1]), stop - start
        times = first + np.repeat(np.arange(len(active)), active)
        if self._positions is not None:
            times = self._positions[start + np.arange(rows) - np.repeat(offsets[:-1], active), times]
        # an odd number of rows, so that the tiles of one row share no set of a cache
        z = aligned((self.packed.tiles, rows | 1, 4, self.tile.lanes), self.tile.dtype)
        states = []
        for state in (h, c):
            taped = aligned((count + rows, state.shape[1]), self.tile.dtype)
            taped[:count] = state[start:stop]
            states.append(taped)
        beside = None if self.packed.norm is None else sums_beside(self.tile, *z.shape[:2])
        return Share(start, stop, offsets, times, z, *states, beside)

    def _fill(self, job: Any, share: Share, lengths: np.ndarray, x: Arrays, y: Arrays, keep: list) -> None:
        mine = slice(share.start, share.stop)
        item = self.tile.dtype.itemsize
        rows = Rows(*(np.ascontiguousarray(table[mine]) for table in (lengths, x.rows, y.rows)), None)
        layout = Layout(x.step, item, y.step, 0, 0, 0, False)
        fill(job, self.tile, self.packed, rows, layout, keep)
        job["z"], job["z_tile"], job["keeps"] = address(share.z), share.z.strides[0], 1
        job["times"] = address(share.times)
        for name, states in (("h", share.h), ("c", share.c)):
            job[name] = address(states)
            job[f"{name}_other"] = address(states) + (share.stop - share.start) * states.strides[0]
        if share.beside is not None:
            job["norm"] = address(norm_record(self.tile, self.packed.norm, keep, **share.beside.places))
        set_cell(job, self.tile, self.cell, keep)
        set_zones(job, self.zones, self.order[mine], keep)
        if self.factors is not None:
            for name, given in self.factors.items():
                factors = given[mine]
                room = aligned((4, max(int(job["chunk"]) * len(factors), 1), factors.shape[-1]), self.tile.dtype)
                keep += [factors, room]
                job[f"{name}_factors"], job[f"{name}_gates"] = address(factors), address(room)

    # Backward

    def pullback(self, d_outputs: Any, d_h: np.ndarray | None, d_c: np.ndarray | None) -> Gradients:
        """Return the gradients for cotangents of outputs and final states; None is zero."""
        back = BackwardPass(self)
        back.start(d_outputs, d_h, d_c)
        nowhere = aligned((max(self.strides),), self.tile.dtype)
        outputs = Arrays(np.full(len(self.order), address(nowhere)), 0, nowhere)
        for number in reversed(range(max(len(self._states), 1))):
            segment = self._segment
            if segment is None:
                segment = self._run_segment(number * self._every, outputs, *self._states[number])
            back.segment(segment, arrays_at(self._x, self.order, self.request.go_backwards))
        found = back.gradients()
        return found if self.x_factors is None else found._replace(x=scaled(found.x, self.x_factors))


def _active(lengths: np.ndarray) -> np.ndarray:
    """How many rows have each timestep; longest row first."""
    steps = int(lengths[0]) if len(lengths) else 0
    return np.searchsorted(-lengths, -np.arange(steps), "left")


def _bounds(lengths: np.ndarray, workers: int) -> list[tuple[int, int]]:
    """Rows of each worker: neighbours, about equally many timesteps in all."""
    total = np.concatenate([[0], np.cumsum(lengths)])
    cuts = [int(np.searchsorted(total, total[-1] * worker / workers)) for worker in range(workers)] + [len(lengths)]
    return [(start, stop) for start, stop in pairwise(cuts) if stop > start] or [(0, len(lengths))]


def _final_states(segment: list[Share], h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The states after a segment, in the order of the tape."""
    finals = aligned(h.shape, h.dtype), aligned(c.shape, c.dtype)
    for share in segment:
        rows, active = np.arange(share.stop - share.start), np.diff(share.offsets)
        last = np.searchsorted(-active, -rows, "left") - 1  # of each row; -1: it has none
        place = np.where(last < 0, 0, len(rows) + share.offsets[last]) + rows
        for final, states in zip(finals, (share.h, share.c), strict=True):
            final[share.start : share.stop] = states[place]
    return finals


def _factors(request: Request, order: np.ndarray, stride: int) -> dict[str, np.ndarray] | None:
    """Dropout factors of x and h where they are given, one set for each gate, (rows, 4, .)."""
    if request.dropout_masks is None:
        return None
    factors = {}
    widths = (request.parameters.features, stride)
    for name, given, width in zip(("x", "h"), request.dropout_masks, widths, strict=True):
        if given is not None:
            found = factors[name] = aligned((len(order), 4, width), request.parameters.dtype)
            found.fill(1)
            found[:, :, : given.shape[-1]] = given[:, order].swapaxes(0, 1) if given.ndim == 3 else given[order, None]
    return factors
