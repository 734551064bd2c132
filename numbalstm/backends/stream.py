"""LSTM and dense layers one step at a time on the compiled kernels: buffers, states in place, threads."""

import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from numbalstm.backends import parallel
from numbalstm.backends.cells import cell_of, set_zones, zones_of
from numbalstm.backends.cpu import packed_weights
from numbalstm.backends.dense import DenseWeights, dense_jobs_of
from numbalstm.backends.interface import Request
from numbalstm.backends.operands import weight_fields
from numbalstm.backends.plan import address, set_cell, step_cycles, stride
from numbalstm.kernels.cpu.dense import dense_jobs
from numbalstm.kernels.cpu.packing import aligned
from numbalstm.kernels.cpu.step import STEP, step_jobs
from numbalstm.kernels.launch import code_of
from numbalstm.kernels.simd import Tile

ROWS = 96  # of one job: its sums stay in the second-level cache
ROWS_TO_SPLIT = 8  # for each thread; with fewer rows the threads share the units

# What a step takes, in cycles of a core with two multiply-add pipes, and from where on threads are worth their start.
WORTH_WAKING = 150_000  # threads that sleep: some 40 microseconds
WORTH_SHARING = 25_000  # threads that still wait for work
STILL_AWAKE = 100_000  # nanoseconds after a step
NANOSECONDS = 0.5  # of a cycle
PATIENCE = 200_000  # nanoseconds: a step that takes so much longer than it should waited for a thread without a core
STEPS_ALONE = 32  # after such a step


class Steps:
    """Steps of LSTM layers of which each reads the outputs of the one before.

    Parameters
    ----------
    tile : Tile
    layers : sequence of Request
        What each layer computes; of these, the parameters, activations and variant, whose zoneout is of rates.
    rows : int
        Most rows of a step.
    threads : int
        Most threads to use.

    Attributes
    ----------
    x, y : arrays (rows, features) and (rows, outputs)
        What a step reads and writes.
    """

    def __init__(self, tile: Tile, layers: Sequence[Request], rows: int, threads: int) -> None:
        self.tile = tile
        self._threads = threads
        records = [layer.parameters for layer in layers]
        self.x = aligned((rows, records[0].features), tile.dtype)
        self._outputs = [aligned((rows, record.output_size), tile.dtype) for record in records]
        self.y = self._outputs[-1]
        self._h = [aligned((2, rows, stride(record.output_size, tile)), tile.dtype) for record in records]
        self._c = [aligned((rows, stride(record.units, tile)), tile.dtype) for record in records]
        for states in (*self._h, *self._c):
            states.fill(0)
        self._bounds, self._jobs = [0], np.zeros(0, STEP)
        self.set_layers(layers)
        self.cut(rows)

    def set_layers(self, layers: Sequence[Request]) -> None:
        """Use these weights from the next step on; `cut` has to follow."""
        self._layers = layers
        self._packed = [packed_weights(layer.parameters, self.tile) for layer in layers]

    def cut(self, rows: int) -> None:
        """Let the next steps have this many rows; the states of the rows stay."""
        bounds, jobs, self._keep = [0], [], []
        for number in range(len(self._packed)):
            jobs += self._jobs_of(number, rows)
            bounds.append(len(jobs))
        self.rows = rows
        self._jobs = np.zeros(len(jobs), STEP)
        for record, values in zip(self._jobs, jobs, strict=True):
            for name, value in values.items():
                record[name] = value
        self._bounds = bounds
        run = code_of(step_jobs, self.tile).call
        self.run = self._run_alone = partial(run, self.tile, address(self._jobs), 0, 0, 0, len(self._jobs))
        cycles = self._cycles(rows)
        if self._threads > 1 and cycles > WORTH_SHARING:
            self._shared = [
                (address(self._jobs) + first * STEP.itemsize, last - first) for first, last in pairwise(bounds)
            ]
            self._wakes = cycles > WORTH_WAKING
            self._patience = PATIENCE + 4 * cycles * NANOSECONDS
            self._ended = self._alone = 0
            self.run = self._run_shared

    def states(self) -> list[np.ndarray]:
        """The rows' states h and c of each layer in turn, padded to whole tiles; views, valid until the next step."""
        found = []
        for number in range(len(self._packed)):
            found += [self._h[number][self._latest(number), : self.rows], self._c[number][: self.rows]]
        return found

    def _latest(self, number: int) -> int:
        """Which of a layer's two buffers holds h: steps exchange them in the jobs."""
        if len(self._jobs) == 0:
            return 0
        return int(self._jobs["h"][self._bounds[number]] != address(self._h[number]))

    def _cycles(self, rows: int) -> float:
        return sum(step_cycles(packed, rows, packed.tiles, together=rows) for packed in self._packed)

    def _parts(self, rows: int, tiles: int, projects: bool) -> list[tuple[int, int, int, int]]:
        """First and last row, first and last tile of each job of a layer; a projection needs all tiles of a row."""
        workers = self._threads if self._cycles(rows) > WORTH_SHARING else 1
        if projects:
            workers = max(1, min(workers, rows))
        elif rows < ROWS_TO_SPLIT * workers:
            workers = min(workers, tiles)
            return [(0, rows, tiles * w // workers, tiles * (w + 1) // workers) for w in range(workers)]
        parts = max(workers, -(-rows // ROWS))
        return [(rows * part // parts, rows * (part + 1) // parts, 0, tiles) for part in range(parts)]

    def _jobs_of(self, number: int, rows: int) -> list[dict[str, Any]]:
        """The jobs of one layer, as values by field."""
        packed, tile, layer = self._packed[number], self.tile, self._layers[number]
        tiles = packed.tiles
        x, y = (self.x, *self._outputs)[number : number + 2]
        latest = self._latest(number)
        places = {"packed_x": x, "y": y, "h": self._h[number][latest], "h_other": self._h[number][1 - latest]}
        places["c"] = self._c[number]
        h_row, state_row, y_row = (array.strides[0] for array in (places["h"], places["c"], y))
        cell = cell_of(layer)
        zones = tuple(zones_of(layer._replace(x=x[:rows, None]), part) for part in (0, 1))
        jobs = []
        for first, last, first_tile, last_tile in self._parts(rows, tiles, cell.projects):
            z = aligned((2 * (last - first), 4 * tile.lanes), tile.dtype)
            times, y_rows = np.zeros(last - first, np.int64), np.arange(last - first) * y_row
            self._keep += [z, times, y_rows]
            job = {
                "features": packed.features,
                "units": packed.units,
                "outputs": packed.outputs,
                "tiles": tiles,
                "h_row": h_row,
                "state_row": state_row,
                "rows": last - first,
                "first_tile": first_tile,
                "last_tile": last_tile,
                **{name: address(array[first:]) for name, array in places.items()},
                "times": address(times),
                "y_rows": address(y_rows),
                "z": address(z),
                **weight_fields(tile, packed, last - first, 1, self._keep),
            }
            set_cell(job, tile, cell.fields(tile, layer.parameters), self._keep)
            set_zones(job, zones, slice(first, last), self._keep)
            jobs.append(job)
        self._keep += zones
        return jobs

    def _run_shared(self) -> None:
        """One step on several threads, unless they would first have to be woken for little work, or lack a core."""
        start = time.perf_counter_ns()
        if self._alone > 0:
            self._alone -= 1
            self._run_alone()
        elif self._wakes or start - self._ended < STILL_AWAKE:
            for jobs, count in self._shared:
                if not parallel.run_alone(step_jobs, self.tile, jobs, 0, 0, count):
                    code_of(step_jobs, self.tile).call(self.tile, jobs, 0, 0, 0, count)
        else:
            self._run_alone()
        self._ended = time.perf_counter_ns()
        if self._alone == 0 and self._ended - start > self._patience:
            self._alone = STEPS_ALONE


class DenseSteps:
    """A dense layer on a fixed number of rows.

    Parameters
    ----------
    weights : DenseWeights
    rows : int

    Attributes
    ----------
    x, y : arrays (rows, features) and (rows, units)
        What `run` reads and writes.
    """

    def __init__(self, weights: DenseWeights, rows: int) -> None:
        tile = weights.tile
        self.x = aligned((rows, weights.features), tile.dtype)
        self.y = aligned((rows, weights.units), tile.dtype)
        jobs, z = dense_jobs_of(weights, rows, 1)
        self._keep = (weights, jobs, z)
        run = code_of(dense_jobs, tile).call
        self.run = partial(run, tile, address(jobs), address(self.x), address(self.y), 0, 1)
