"""LSTM and dense layers one step at a time on the compiled kernels: buffers, states in place, threads."""

import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from numbalstm.backends import parallel
from numbalstm.backends.cells import cell_of_codes
from numbalstm.backends.cpu import packed_weights
from numbalstm.backends.dense import DenseWeights, dense_jobs_of
from numbalstm.backends.operands import weight_fields
from numbalstm.backends.plan import address, step_cycles
from numbalstm.kernels.cpu.dense import dense_jobs
from numbalstm.kernels.cpu.packing import aligned
from numbalstm.kernels.cpu.step import STEP, step_jobs
from numbalstm.kernels.launch import code_of
from numbalstm.kernels.simd import Tile
from numbalstm.parameters import LSTMParameters

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
    layers : sequence of (LSTMParameters, (code, recurrent code))
    rows : int
        Most rows of a step.
    threads : int
        Most threads to use.

    Attributes
    ----------
    x, y : arrays (rows, features) and (rows, units)
        What a step reads and writes.
    """

    def __init__(
        self, tile: Tile, layers: Sequence[tuple[LSTMParameters, tuple[int, int]]], rows: int, threads: int
    ) -> None:
        self.tile = tile
        self._threads = threads
        self._codes = [codes for _, codes in layers]
        self._units = [parameters.units for parameters, _ in layers]
        strides = [-(-units // tile.lanes) * tile.lanes for units in self._units]
        self.x = aligned((rows, layers[0][0].features), tile.dtype)
        self._outputs = [aligned((rows, units), tile.dtype) for units in self._units]
        self.y = self._outputs[-1]
        self._h = [aligned((2, rows, stride), tile.dtype) for stride in strides]
        self._c = [aligned((rows, stride), tile.dtype) for stride in strides]
        for states in (*self._h, *self._c):
            states.fill(0)
        self._bounds, self._jobs = [0], np.zeros(0, STEP)
        self.set_parameters([parameters for parameters, _ in layers])
        self.cut(rows)

    def set_parameters(self, layers: Sequence[LSTMParameters]) -> None:
        """Use these weights from the next step on; `cut` has to follow."""
        self._parameters = layers
        self._packed = [packed_weights(parameters, self.tile) for parameters in layers]

    def cut(self, rows: int) -> None:
        """Let the next steps have this many rows; the states of the rows stay."""
        bounds, jobs, self._keep = [0], [], []
        for number in range(len(self._units)):
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
            self._layers = [
                (address(self._jobs) + first * STEP.itemsize, last - first) for first, last in pairwise(bounds)
            ]
            self._wakes = cycles > WORTH_WAKING
            self._patience = PATIENCE + 4 * cycles * NANOSECONDS
            self._ended = self._alone = 0
            self.run = self._run_shared

    def states(self) -> list[np.ndarray]:
        """The rows' states h and c of each layer in turn, padded to whole tiles; views, valid until the next step."""
        found = []
        for number in range(len(self._units)):
            found += [self._h[number][self._latest(number), : self.rows], self._c[number][: self.rows]]
        return found

    def _latest(self, number: int) -> int:
        """Which of a layer's two buffers holds h: steps exchange them in the jobs."""
        if len(self._jobs) == 0:
            return 0
        return int(self._jobs["h"][self._bounds[number]] != address(self._h[number]))

    def _cycles(self, rows: int) -> float:
        return sum(step_cycles(packed, rows, len(packed.kernel), together=rows) for packed in self._packed)

    def _parts(self, rows: int, tiles: int) -> list[tuple[int, int, int, int]]:
        """First and last row, first and last tile of each job of a layer."""
        workers = self._threads if self._cycles(rows) > WORTH_SHARING else 1
        if rows < ROWS_TO_SPLIT * workers:
            workers = min(workers, tiles)
            return [(0, rows, tiles * w // workers, tiles * (w + 1) // workers) for w in range(workers)]
        parts = max(workers, -(-rows // ROWS))
        return [(rows * part // parts, rows * (part + 1) // parts, 0, tiles) for part in range(parts)]

    def _jobs_of(self, number: int, rows: int) -> list[dict[str, int]]:
        """The jobs of one layer, as values by field."""
        packed, tile = self._packed[number], self.tile
        size, tiles = tile.dtype.itemsize, packed.kernel.shape[0]
        state_row = tiles * tile.lanes * size
        x = self.x if number == 0 else self._outputs[number - 1]
        latest = self._latest(number)
        h, h_other = address(self._h[number][latest]), address(self._h[number][1 - latest])
        jobs = []
        for first, last, first_tile, last_tile in self._parts(rows, tiles):
            z = aligned((2 * (last - first), 4 * tile.lanes), tile.dtype)
            self._keep.append(z)
            jobs.append(
                {
                    "features": packed.features,
                    "units": packed.units,
                    "outputs": packed.outputs,
                    "tiles": tiles,
                    "h_row": state_row,
                    "state_row": state_row,
                    "rows": last - first,
                    "first_tile": first_tile,
                    "last_tile": last_tile,
                    "packed_x": address(x) + first * packed.features * size,
                    "y": address(self._outputs[number]) + first * packed.units * size,
                    "h": h + first * state_row,
                    "h_other": h_other + first * state_row,
                    "c": address(self._c[number]) + first * state_row,
                    **cell_of_codes(*self._codes[number]).fields(tile, self._parameters[number]),
                    "z": address(z),
                    **weight_fields(tile, packed, last - first, 1, self._keep),
                }
            )
        return jobs

    def _run_shared(self) -> None:
        """One step on several threads, unless they would first have to be woken for little work, or lack a core."""
        start = time.perf_counter_ns()
        if self._alone > 0:
            self._alone -= 1
            self._run_alone()
        elif self._wakes or start - self._ended < STILL_AWAKE:
            for jobs, count in self._layers:
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
