"""The recurrence on tiles: launches of `numbalstm.kernels.cuda.tiles_forward` and its backward kernel.

Rows of the batch that do not fit on the GPU at once follow in launches of their own.
"""

from collections.abc import Iterator
from typing import Any

from numbalstm.backends.cuda.grids import outputs_of, peepholes_of
from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.steps import Extras, States
from numbalstm.backends.cuda.tile_sizes import Tiles, tiles
from numbalstm.backends.cuda.weights import Weights, by_unit
from numbalstm.kernels.cuda import tiling as layout
from numbalstm.kernels.cuda.tiles_backward import make_tiles_backward
from numbalstm.kernels.cuda.tiles_forward import make_tiles
from numbalstm.parameters import LSTMParameters


def packed(parameters: LSTMParameters, device: Any, tiling: layout.Tiling, mode: str) -> Any:
    """Return the recurrent kernel, backward its transpose, on a device in the order of a layout's copies."""
    tiling = tiling._replace(pieces=0)  # where the weights stay does not change their order
    key = ("cuda", device.number, "tiles", tiling, mode)
    found = parameters.packed.get(key)
    if found is None:
        units, matrix = parameters.units, by_unit(parameters.recurrent_kernel)
        columns = matrix.reshape(4 * units, units) if tiling.gates == 4 else matrix.reshape(4 * units, units).T
        found = parameters.packed[key] = device.keep(layout.packed(columns, tiling, units, mode))
    return found


def tiles_of(device: Any, problem: Problem, mode: str, backward: bool = False) -> Tiles:
    """Return the tiles of a problem that `choice.not_on_tiles` has no objection to."""
    found = tiles(problem.batch, problem.units, mode, *device.limits[1:3], backward)
    assert found is not None
    return found


def launches(device: Any, problem: Problem, found: Tiles, mode: str) -> Iterator[tuple[int, tuple, int]]:
    """Yield, for each launch, its blocks, the exchange and counters, and its first row."""
    tiling, units = found.tiling, problem.units
    for row0 in range(0, problem.batch, found.rows):
        down = -(-min(found.rows, problem.batch - row0) // tiling.rows)
        exchange = device.empty((2, down * tiling.rows, tiling.words(units, mode)), "uint32")
        counters = device.zeros((down, layout.COUNTER), "uint32")
        yield down * -(-units // tiling.units), (exchange.at(), counters.at(), device.trouble.at()), row0


def extras_of(device: Any, problem: Problem, weights: Weights, extras: Extras, start: int) -> tuple:
    """Return peepholes, dropout factors of h, and zoneout factors of c and h from a step on with their strides."""
    size = problem.batch * problem.units
    strides = [size if zone is not None and zone.shape[0] > 1 else 0 for zone in problem.zones]
    zones = extras.zone_at(0, start), strides[0], extras.zone_at(1, start), strides[1]
    return peepholes_of(device, weights), extras.factors, *zones


def run(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, xw: Any, y: Any, start: int,
    stop: int, mode: str,
) -> None:  # fmt: skip
    """Run steps start to stop, whose products `xw` begins with."""
    found = tiles_of(device, problem, mode)
    kernel = make_tiles(problem.options, found.tiling, mode)
    recurrent = packed(problem.request.parameters, device, found.tiling, mode)
    after = start + 1 if problem.options.record else stop
    for blocks, exchange, row0 in launches(device, problem, found, mode):
        device.launch(
            kernel, blocks, xw.at(), recurrent.at(), states.h_at(start), states.c_at(start), states.h_at(after),
            states.c_at(after), *outputs_of(problem, y, start), extras.mask_at(start), extras.first, start,
            *extras_of(device, problem, weights, extras, start), *exchange, problem.batch, problem.units, stop - start,
            row0,
        )  # fmt: skip


def run_backward(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, z: Any, dy: Any, dh: Any, dc: Any,
    mode: str,
) -> Any:  # fmt: skip
    """Go back over all steps; dh and dc become the cotangents of the initial states. Returns dz (T, B, U, 4)."""
    request, batch, units, steps = problem.request, problem.batch, problem.units, problem.steps
    found = tiles_of(device, problem, mode, backward=True)
    kernel = make_tiles_backward(problem.options, found.tiling, mode)
    recurrent = packed(request.parameters, device, found.tiling, mode)
    dz = device.empty((steps, batch, units, 4), "float32")
    sequences = request.return_sequences
    dy_row, dy_step = (steps * units, units) if sequences else (units, 0)
    dy_first = steps if dy is None else 0 if sequences else steps - 1
    for blocks, exchange, row0 in launches(device, problem, found, mode):
        device.launch(
            kernel, blocks, recurrent.at(), z.at(), states.c_at(0), device.nothing if dy is None else dy.at(), dy_row,
            dy_step, dy_first, extras.mask_at(0), extras.first, *extras_of(device, problem, weights, extras, 0),
            dh.at(), dc.at(), dz.at(), *exchange, batch, units, steps, row0,
        )  # fmt: skip
    return dz
