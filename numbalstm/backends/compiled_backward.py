"""The backward pass of the compiled kernels: its buffers, its jobs, and the gradients as they add up."""

from typing import TYPE_CHECKING, Any

import numpy as np

from numbalstm.backends import parallel
from numbalstm.backends.cells import set_zones
from numbalstm.backends.interface import Gradients
from numbalstm.backends.normed import NormGradients
from numbalstm.backends.plan import SPARE, address
from numbalstm.backends.sequences import Arrays, Share, arrays_at, last_counts, of_real_steps
from numbalstm.kernels.cpu.backward import GROUP, adjoint_jobs
from numbalstm.kernels.cpu.backward_job import BACKWARD_JOB
from numbalstm.kernels.cpu.gradients import gradient_jobs
from numbalstm.kernels.cpu.packing import LINE, aligned, pack_by_gate, pack_columns, unpack
from numbalstm.kernels.launch import code_of
from numbalstm.kernels.simd import Tile
from numbalstm.parameters import LSTMParameters

if TYPE_CHECKING:
    from numbalstm.backends.compiled_tape import CompiledTape

CHUNK_ROWS = 512  # of dz between two updates of the weight gradients
NORMED_CHUNK_ROWS = 128  # with layer normalisation a row has three times as much of it, and more


class BackwardPass:
    """One backward pass: its buffers, and the gradients as they add up."""

    def __init__(self, tape: "CompiledTape") -> None:
        self._tape, self._request, self._order = tape, tape.request, tape.order
        tile, packed = tape.tile, tape.packed
        self._tile, self._packed, self._factors = tile, packed, tape.factors
        rows, total, tiles = len(tape.order), int(tape.lengths.sum()), packed.tiles
        parts, chunk = (1, CHUNK_ROWS) if packed.norm is None else (3, NORMED_CHUNK_ROWS)
        self._room = min(max(chunk, rows), total)
        h_stride, stride = tape.strides
        self._dh = self._zeros(rows, h_stride + SPARE * tile.lanes)
        self._dc = self._zeros(rows, stride)
        self._x_blocks, h_blocks = -(-packed.features // tile.rows), -(-h_stride // tile.rows)
        blocks = self._x_blocks + h_blocks
        self._gradient = self._zeros(tiles, blocks * tile.rows, 4, tile.lanes)
        self._bias_gradient = self._zeros(tiles, 1, 4, tile.lanes)
        self._peepholes = self._zeros(3, stride)
        self._projects = self._request.parameters.projection_kernel is not None
        if self._projects:
            groups, blocks_m = -(-h_stride // (4 * tile.lanes)), -(-stride // tile.rows)
            self._projection_gradient = self._zeros(groups, blocks_m * tile.rows, 4, tile.lanes)
            self._left_m = aligned((blocks_m, (self._room | 1), tile.rows), tile.dtype)
            self._dm = aligned((rows, stride + SPARE * tile.lanes), tile.dtype)
        planes = 4 if tile.dropout else 1
        self._left_row = planes * tile.rows * tile.dtype.itemsize
        self._left = aligned((blocks * self._left_block(self._room),), np.uint8)
        vectors = -(-packed.features // tile.lanes) + 3
        shapes = {
            "dz": (parts, self._room, 4, stride),
            "sums": (GROUP, 2 * vectors * tile.lanes),
            "panel": (self._room, 4, tile.lanes),
            "dp": (self._room if tape.cell["peephole"] else 1, 3, stride),
            "dr": (self._room if self._projects else 1, h_stride),
        }
        self._workers = max(tape.workers, len(tape.bounds))
        self._rooms = [
            {name: aligned(shape, tile.dtype) for name, shape in shapes.items()} for _ in range(self._workers)
        ]
        self._tables = [np.empty((2, self._room), np.int64) for _ in range(self._workers)]
        self._weights = transposed_weights(self._request.parameters, tile)
        self._entries: tuple[Any, Any] = adjoint_jobs, gradient_jobs
        self._norm = None
        if packed.norm is not None:
            from numbalstm.kernels.cpu.normed_backward import normed_adjoint_jobs, normed_gradient_jobs

            self._entries = normed_adjoint_jobs, normed_gradient_jobs
            self._norm = NormGradients(tile, packed.norm, self._room, self._workers)

    def _zeros(self, *shape: int) -> np.ndarray:
        array = aligned(shape, self._tile.dtype)
        array.fill(0)
        return array

    def _left_block(self, rows: int) -> int:
        """Bytes of a block of the left operand: an odd number of lines, so that they share no set of a cache."""
        return (-(-rows * self._left_row // LINE) | 1) * LINE

    def start(self, d_outputs: Any, d_h: np.ndarray | None, d_c: np.ndarray | None) -> None:
        """Take the cotangents."""
        request = self._request
        for buffer, given in ((self._dh, d_h), (self._dc, d_c)):
            if given is not None:
                buffer[:, : given.shape[1]] = given[self._order]
        self._dy = None
        if d_outputs is not None and request.return_sequences:
            self._dy = of_real_steps(request, d_outputs)
        elif d_outputs is not None:
            self._dh[:, : d_outputs.shape[1]] += np.where(last_counts(request), d_outputs, 0)[self._order]
        x = request.x
        if isinstance(x, list):
            self._dx: Any = [np.empty(row.shape, self._tile.dtype) for row in x]
        else:
            self._dx = (np.empty if request.mask is None else np.zeros)(x.shape, self._tile.dtype)

    def segment(self, shares: list[Share], x: Arrays) -> None:
        """Go back over a segment, whose tape is given."""
        steps = max(len(share.offsets) for share in shares)
        offsets = [np.pad(share.offsets, (0, steps - len(share.offsets)), "edge") for share in shares]
        offsets += [np.zeros(steps, np.int64)] * (self._workers - len(shares))
        everyone = np.sum(offsets, axis=0)
        jobs = np.zeros(self._workers, BACKWARD_JOB)
        keep: list[Any] = [offsets, everyone]
        dx = arrays_at(self._dx, self._order, self._request.go_backwards)
        dy = None if self._dy is None else arrays_at(self._dy, self._order, False)
        for number, job in enumerate(jobs):
            self._fill(job, number, everyone, offsets[number])
            share = shares[number] if number < len(shares) else None
            if share is not None:
                self._fill_rows(job, share, x, dx, dy, keep)
            if self._norm is not None:
                job["norm"] = self._norm.record(self._rooms[number]["dz"], number, share and share.beside, keep)
        last = steps - 1
        while last > 0:
            first = min(int(np.searchsorted(everyone, everyone[last] - self._room)), last - 1)
            jobs["first_step"], jobs["last_step"] = first, last
            jobs["all_rows"] = everyone[last] - everyone[first]
            jobs["left_block"] = self._left_block(int(everyone[last] - everyone[first]))
            for entry in self._entries:
                where = (self._tile, address(jobs), len(jobs), 0)
                if len(jobs) == 1 or not parallel.run_alone(entry, *where, len(jobs)):
                    code_of(entry, self._tile).call(*where, 0, len(jobs))
            last = first

    def _fill(self, job: Any, number: int, everyone: np.ndarray, offsets: np.ndarray) -> None:
        packed, tape = self._packed, self._tape
        tiles = packed.tiles
        values = {
            "features": packed.features,
            "units": packed.units,
            "outputs": packed.outputs,
            "tiles": tiles,
            "worker": number,
            "h_row": tape.strides[0] * self._tile.dtype.itemsize,
            "state_row": tape.strides[1] * self._tile.dtype.itemsize,
            "first_tile": tiles * number // self._workers,
            "last_tile": tiles * (number + 1) // self._workers,
            "offsets": address(offsets),
            "all_offsets": address(everyone),
            "dh_row": self._dh.strides[0],
            "targets": address(self._tables[number][0]),
            "owners": address(self._tables[number][1]),
            "left": address(self._left),
            "gradient": address(self._gradient),
            "bias_gradient": address(self._bias_gradient),
            **{name: address(matrix) for name, matrix in self._weights.items()},
            "peephole_gradient": address(self._peepholes),
            **tape.cell,
            **{name: address(room) for name, room in self._rooms[number].items()},
            # for a worker without rows, too: its weight gradients are those of all rows
            **{f"{name}_factors": address(factors) for name, factors in (self._factors or {}).items()},
        }
        if self._projects:
            values |= {"left_m": address(self._left_m), "projection_gradient": address(self._projection_gradient)}
        for name, value in values.items():
            job[name] = value

    def _fill_rows(self, job: Any, share: Share, x: Arrays, dx: Arrays, dy: Arrays | None, keep: list) -> None:
        mine = slice(share.start, share.stop)
        job["first_row"], job["rows"] = share.start, share.stop - share.start
        for name, arrays in (("x", x), ("dx", dx), ("dy", dy or Arrays(x.rows * 0, 0, None))):
            rows = np.ascontiguousarray(arrays.rows[mine])
            keep.append(rows)
            job[f"{name}_rows"], job[f"{name}_step"] = address(rows), arrays.step
        job["has_dy"] = dy is not None
        job["times"], job["z"], job["z_tile"] = address(share.times), address(share.z), share.z.strides[0]
        job["h"], job["c"] = address(share.h), address(share.c)
        job["dh"], job["dc"] = address(self._dh[mine]), address(self._dc[mine])
        set_zones(job, self._tape.zones, self._order[mine], keep)
        if self._projects:
            job["dm"], job["dm_row"] = address(self._dm[mine]), self._dm.strides[0]
        if self._factors is not None:
            for name, factors in self._factors.items():
                job[f"{name}_factors"] = address(factors[mine])

    def gradients(self) -> Gradients:
        """Return what has added up."""
        packed, parameters, rows = self._packed, self._request.parameters, self._x_blocks * self._tile.rows
        states = []
        for buffer, width in ((self._dh, packed.outputs), (self._dc, packed.units)):
            state = np.empty((len(self._order), width), self._tile.dtype)
            state[self._order] = buffer[:, :width]
            states.append(state)
        found = {
            "kernel": unpack(self._gradient[:, : packed.features], packed.units),
            "recurrent_kernel": unpack(self._gradient[:, rows : rows + packed.outputs], packed.units),
        }
        d_sums = unpack(self._bias_gradient, packed.units)[0]
        if parameters.bias is not None:
            found["bias"] = d_sums
        if parameters.peephole_kernel is not None:
            found["peephole_kernel"] = self._peepholes[:, : packed.units].copy()
        if self._projects:
            whole = self._projection_gradient.transpose(1, 0, 2, 3).reshape(self._projection_gradient.shape[1], -1)
            found["projection_kernel"] = whole[: packed.units, : packed.outputs].copy()
        if self._norm is not None:
            found |= self._norm.arrays(d_sums)
        return Gradients(self._dx, *states, found)


def transposed_weights(parameters: LSTMParameters, tile: Tile) -> dict[str, np.ndarray]:
    """K^T, R^T and W^T as the backward pass multiplies by them, packed at the first use."""
    key = ("transposed", tile.lanes, tile.dropout)
    found = parameters.packed.get(key)
    if found is None:
        if key not in parameters.common:
            common = {"kernel_t": _transposed(parameters.kernel, parameters.units, tile)}
            if parameters.projection_kernel is not None:
                common["projection_t"] = pack_columns(parameters.projection_kernel.T, tile.lanes)
            parameters.common[key] = common
        recurrent = _transposed(parameters.recurrent_kernel, parameters.units, tile)
        found = parameters.packed[key] = {**parameters.common[key], "recurrent_t": recurrent}
    return found


def _transposed(matrix: np.ndarray, units: int, tile: Tile) -> np.ndarray:
    """From (k, 4 * units) to one row for each gate and unit, units filled up to whole vectors; by gate for dropout."""
    k, stride = len(matrix), -(-units // tile.lanes) * tile.lanes
    rows = np.zeros((4, stride, k), matrix.dtype)
    rows[:, :units] = matrix.reshape(k, 4, units).transpose(1, 2, 0)
    if tile.dropout:
        return pack_by_gate(rows.transpose(1, 0, 2).reshape(stride, 4 * k), tile.lanes)
    return pack_columns(rows.reshape(4 * stride, k), tile.lanes)
