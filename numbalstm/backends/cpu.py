"""The compiled CPU backend: packed weights, plans that are kept for the next call, threads."""

from typing import Any

import numpy as np

from numbalstm.backends import hardware, parallel
from numbalstm.backends.cells import Cell, cell_of, unsupported_cell, zones_of
from numbalstm.backends.interface import Forward, Request
from numbalstm.backends.normed import packed_norm
from numbalstm.backends.operands import packed_matrix
from numbalstm.backends.plan import Layout, Packed, Plan, Rows, address, build, dealt_order
from numbalstm.backends.sequences import scaled
from numbalstm.kernels.cpu.barrier import CONTENDED, TOGETHER, UNDECIDED
from numbalstm.kernels.cpu.forward import forward_jobs
from numbalstm.kernels.cpu.packing import pack, worth_narrowing
from numbalstm.kernels.cpu.product import PRODUCTS
from numbalstm.kernels.launch import code_of
from numbalstm.kernels.simd import Tile
from numbalstm.parameters import LSTMParameters

KEPT_PLANS = 8  # of one layer: the plans of its latest shapes


def unsupported(request: Request) -> str | None:
    """Why this module cannot serve a request, or None; `compiled_tape` has kernels for what it cannot."""
    if request.dropout_masks is not None:
        m_x, m_h = request.dropout_masks
        if m_h is not None or (m_x is not None and m_x.ndim == 3):
            return "dropout masks of the recurrent state or of single gates"
    return unsupported_cell(request)


def forward(request: Request) -> Forward:
    """Run a forward pass; the request is one that `unsupported` has no objection to."""
    cell = cell_of(request)
    parameters = request.parameters
    tile = hardware.tile(parameters.dtype, not cell.is_plain, parameters.weights_dtype, parameters.compute_dtype)
    x, factors = request.x, request.dropout_masks and request.dropout_masks[0]
    if factors is not None:
        x = scaled(x, factors)
        request = request._replace(x=x, dropout_masks=None)
    if isinstance(x, list):
        return _forward_ragged(request, tile, cell)
    y = _output_array(request)
    if request.mask is None or request.mask.all():
        result = _forward_dense(request, y, tile, cell)
    else:
        result = _forward_masked(request, y, tile, cell)
    if request.out is not None and y is not request.out:
        request.out[...] = y
        result = result._replace(outputs=request.out)
    return result


def _forward_dense(request: Request, y: np.ndarray, tile: Tile, cell: Cell) -> Forward:
    """All rows have all the steps. The plan of the latest call with the same layout is used again."""
    x = request.x
    batch, steps, _ = x.shape
    if cell.zoned:
        return _forward_zoned(request, y, tile, cell)
    threads = parallel.threads(request.threads)
    key = ("plan", x.shape, x.strides, y.strides, request.go_backwards, cell, threads)
    pool = request.parameters.packed.setdefault(key, [])
    try:
        plan = pool.pop()
    except IndexError:
        rows = Rows(np.full(batch, steps), np.arange(batch) * x.strides[0], np.arange(batch) * y.strides[0], None)
        layout = _layout(request, y, 0, 0)
        plan = build(
            tile, packed_weights(request.parameters, tile), rows, layout, cell.fields(tile, request.parameters), threads
        )
    _start_states(plan, request.initial_state, slice(None))
    start = address(x) + (x.strides[1] * (steps - 1) if request.go_backwards else 0)
    run(tile, plan, start, address(y))
    units, outputs = request.parameters.units, request.parameters.output_size
    result = Forward(y, plan.h[steps & 1, :, :outputs].copy(), plan.c[:, :units].copy())
    pool.append(plan)
    _forget_old_plans(request.parameters)
    return result


def _forward_zoned(request: Request, y: np.ndarray, tile: Tile, cell: Cell) -> Forward:
    """As `_forward_dense`, with a plan of its own: the factors of zoneout are elsewhere in each call."""
    x, everyone = request.x, np.arange(len(request.x))
    rows = Rows(np.full(len(x), x.shape[1]), everyone * x.strides[0], everyone * y.strides[0], None)
    start = address(x) + (x.strides[1] * (x.shape[1] - 1) if request.go_backwards else 0)
    return Forward(y, *_run_once(request, tile, cell, rows, _layout(request, y, 0, 0), everyone, start, address(y)))


def _forward_masked(request: Request, y: np.ndarray, tile: Tile, cell: Cell) -> Forward:
    """Every row is the sequence of its real steps: masked steps are never computed."""
    x, mask = request.x, request.mask
    steps = x.shape[1]
    lengths = np.count_nonzero(mask, axis=1)
    order = np.argsort(-lengths, kind="stable")
    rows = Rows(
        lengths, np.arange(len(x)) * x.strides[0], np.arange(len(x)) * y.strides[0], np.arange(len(x)) * mask.strides[0]
    )
    first = steps - 1 if request.go_backwards else 0
    layout = _layout(request, y, address(mask) + first * mask.strides[1], mask.strides[1])
    h, c = _run_once(request, tile, cell, rows, layout, order, address(x) + first * x.strides[1], address(y))
    if not request.return_sequences:
        y[lengths == 0] = 0
        if request.zero_output_for_mask:
            y[~mask[:, 0 if request.go_backwards else -1]] = 0
    return Forward(y, h, c)


def _forward_ragged(request: Request, tile: Tile, cell: Cell) -> Forward:
    """A list of sequences of different lengths, where each of them lies."""
    sequences, units = request.x, request.parameters.output_size
    itemsize = tile.dtype.itemsize
    # one layout for all: rows whose strides differ are copied
    sequences = [np.ascontiguousarray(sequence) for sequence in sequences]
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    if request.return_sequences:
        outputs = [np.empty((length, units), tile.dtype) for length in lengths]
        y_step = units * itemsize
    else:
        outputs = np.zeros((len(sequences), units), tile.dtype)
        y_step = 0
    x_step = request.parameters.features * itemsize
    last = (lengths - 1) * x_step if request.go_backwards else 0
    rows = Rows(
        lengths,
        np.array([address(sequence) for sequence in sequences], np.int64) + last,
        np.array([address(output) for output in outputs], np.int64),
        None,
    )
    layout = Layout(-x_step if request.go_backwards else x_step, itemsize, y_step, 0, 0, 0, False)
    order = np.argsort(-lengths, kind="stable")
    h, c = _run_once(request, tile, cell, rows, layout, order, 0, 0)
    return Forward(outputs, h, c)


def _run_once(request, tile, cell, rows, layout, order, x, y):
    """Plan and run the rows of the batch in the given order; the final states h and c in the order of the batch."""
    fields, zones = cell.fields(tile, request.parameters), (zones_of(request, 0), zones_of(request, 1))
    for name, factors in zip(("c_zones", "h_zones"), zones, strict=True):
        if factors is not None:
            rows = rows._replace(**{name: factors.rows})
            fields[f"{name[:-1]}_step"] = factors.step
    rows = rows[order]
    plan = build(
        tile, packed_weights(request.parameters, tile), rows, layout, fields, parallel.threads(request.threads)
    )
    count = len(rows.lengths)
    ragged = count > 0 and rows.lengths[-1] != rows.lengths[0]
    place = np.empty(count, np.int64)  # of each row of the batch in the state buffers
    place[order] = dealt_order(count, plan, ragged)
    _start_states(plan, request.initial_state, place)
    run(tile, plan, x, y)
    lengths = np.empty(count, np.int64)
    lengths[order] = rows.lengths
    return plan.h[lengths & 1, place, : request.parameters.output_size], plan.c[place, : request.parameters.units]


def run(tile: Tile, plan: Plan, x: int, y: int) -> None:
    """Run the jobs, in parallel where that is safe now."""
    flags, count = plan.flags, len(plan.jobs)
    jobs = address(plan.jobs)
    entry = _entry(plan)
    alone = code_of(entry, tile).call
    if flags is None:
        if count == 1 or not parallel.run_alone(entry, tile, jobs, x, y, count):
            alone(tile, jobs, x, y, 0, count)
        return
    if parallel.sharing.worth_a_try():
        flags[...] = UNDECIDED
        ran = parallel.run_alone(entry, tile, jobs, x, y, count)
        done = ran and flags[0, 0] == TOGETHER
        if ran and (not done or flags[0, CONTENDED]):
            parallel.sharing.rest()
        if done:
            return
    job = plan.jobs[:1].copy()
    job["workers"], job["last_tile"] = 1, job["tiles"]
    alone(tile, address(job), x, y, 0, 1)


def _entry(plan: Plan) -> Any:
    if not plan.normed:
        return forward_jobs
    from numbalstm.kernels.cpu.normed import normed_jobs  # few layers are, and loading kernels takes time

    return normed_jobs


def _start_states(plan: Plan, initial_state, place) -> None:
    """The states before the first step, in the order of the plan's rows."""
    if initial_state is None:
        plan.h[0].fill(0)
        plan.c.fill(0)
        return
    for buffer, state in zip((plan.h[0], plan.c), initial_state, strict=True):
        width = state.shape[1]
        buffer[:, width:] = 0
        buffer[place, :width] = state


def packed_weights(parameters: LSTMParameters, tile: Tile) -> Packed:
    """The weights in the kernels' order, packed at the first use."""
    key = ("packed", tile.lanes, tile.weights, tile.dropout)
    found = parameters.packed.get(key)
    if found is None:
        bias = parameters.bias
        if bias is None or parameters.norm is not None:  # which adds it behind the products
            bias = np.zeros(4 * parameters.units, parameters.dtype)
        if key not in parameters.common:
            exact = PRODUCTS[tile.weights].scaled and not worth_narrowing(parameters.kernel)
            packed = (pack(parameters.kernel, tile.lanes), None) if exact else packed_matrix(parameters.kernel, tile)
            parameters.common[key] = packed
        kernel, kernel_columns = parameters.common[key]
        recurrent_kernel, recurrent_columns = packed_matrix(parameters.recurrent_kernel, tile)
        found = parameters.packed[key] = Packed(
            kernel,
            recurrent_kernel,
            pack(bias[None], tile.lanes),
            kernel_columns,
            recurrent_columns,
            parameters.features,
            parameters.units,
            parameters.output_size,
            packed_norm(parameters, tile.lanes),
        )
    return found


def _forget_old_plans(parameters: LSTMParameters) -> None:
    """Keep the plans of the latest shapes only."""
    kept = parameters.packed
    if len(kept) > KEPT_PLANS:
        oldest = next((key for key in list(kept) if key[0] == "plan"), None)
        kept.pop(oldest, None)


def _layout(request: Request, y: np.ndarray, mask: int, mask_step: int) -> Layout:
    x, direction = request.x, -1 if request.go_backwards else 1
    y_step = y.strides[1] if request.return_sequences else 0
    repeat = not request.zero_output_for_mask
    return Layout(direction * x.strides[1], x.strides[2], y_step, mask, direction * mask_step, x.shape[1], repeat)


def _output_array(request: Request) -> np.ndarray:
    """Where the kernel writes: the caller's array if its last axis is contiguous, else one of our own."""
    x, units = request.x, request.parameters.output_size
    out = request.out
    if out is not None and out.strides[-1] == out.itemsize:
        return out
    return np.empty((x.shape[0], x.shape[1], units) if request.return_sequences else (x.shape[0], units), x.dtype)


def describe() -> dict[str, object]:
    """What the kernels run on: vector width, register block and threads, for ``numbalstm doctor``."""
    tiles = {np.dtype(name): hardware.tile(np.dtype(name), False) for name in ("float32", "float64")}
    return {
        "vector bytes": hardware.vector_bytes(),
        "vector extensions": sorted(
            name for name in hardware.features() if name.startswith(("avx", "fma", "sse4", "neon"))
        ),
        **{f"{dtype} tile": f"{tile.rows} rows x {tile.lanes} units" for dtype, tile in tiles.items()},
        "threads": parallel.threads(None),
    }
