"""The compiled CPU backend: packed weights, plans that are kept for the next call, threads."""

import numpy as np

from numbalstm.backends import hardware, parallel
from numbalstm.backends.interface import Forward, Request
from numbalstm.backends.plan import Layout, Packed, Plan, Rows, address, build, dealt_order
from numbalstm.kernels.cpu.amx import STEP
from numbalstm.kernels.cpu.barrier import CONTENDED, TOGETHER, UNDECIDED
from numbalstm.kernels.cpu.forward import run_parallel, run_serial
from numbalstm.kernels.cpu.packing import pack, pack_bfloat16, pack_int8, pack_pairs
from numbalstm.kernels.simd import Tile
from numbalstm.parameters import LSTMParameters

TANH, SIGMOID = 1, 2
KEPT_PLANS = 8  # of one layer: the plans of its latest shapes


def unsupported(request: Request) -> str | None:
    """Why the kernels cannot serve a request, or None."""
    for activation in (request.activation, request.recurrent_activation):
        if activation.code is None:
            return f"the activation {activation.name!r}"
    parameters = request.parameters
    if parameters.peephole_kernel is not None:
        return "peephole connections"
    if parameters.projection_kernel is not None:
        return "a recurrent projection"
    if request.dropout_masks is not None:
        m_x, m_h = request.dropout_masks
        if m_h is not None or (m_x is not None and m_x.ndim == 3):
            return "dropout masks of the recurrent state or of single gates"
    return None


def forward(request: Request) -> Forward:
    """Run a forward pass; the request is one that `unsupported` has no objection to."""
    codes = (request.activation.code, request.recurrent_activation.code)
    parameters = request.parameters
    tile = hardware.tile(parameters.dtype, codes != (TANH, SIGMOID), parameters.weights_dtype, parameters.compute_dtype)
    if isinstance(request.x, list):
        return _forward_ragged(request, tile, codes)
    if request.dropout_masks is not None and request.dropout_masks[0] is not None:
        request = request._replace(x=request.x * request.dropout_masks[0][:, None], dropout_masks=None)
    y = _output_array(request)
    if request.mask is None:
        result = _forward_dense(request, y, tile, codes)
    else:
        result = _forward_masked(request, y, tile, codes)
    if request.out is not None and y is not request.out:
        request.out[...] = y
        result = result._replace(outputs=request.out)
    return result


def _forward_dense(request: Request, y: np.ndarray, tile: Tile, codes: tuple[int, int]) -> Forward:
    """All rows have all the steps. The plan of the latest call with the same layout is used again."""
    x = request.x
    batch, steps, _ = x.shape
    threads = parallel.threads(request.threads)
    key = ("plan", x.shape, x.strides, y.strides, request.go_backwards, codes, threads)
    pool = request.parameters.packed.setdefault(key, [])
    try:
        plan = pool.pop()
    except IndexError:
        rows = Rows(np.full(batch, steps), np.arange(batch) * x.strides[0], np.arange(batch) * y.strides[0], None)
        layout = _layout(request, y, 0, 0)
        plan = build(tile, packed_weights(request.parameters, tile), rows, layout, codes, threads)
    _start_states(plan, request.initial_state, request.parameters.units, slice(None))
    start = address(x) + (x.strides[1] * (steps - 1) if request.go_backwards else 0)
    _run(tile, plan, start, address(y))
    units = request.parameters.units
    result = Forward(y, plan.h[steps & 1, :, :units].copy(), plan.c[:, :units].copy())
    pool.append(plan)
    _forget_old_plans(request.parameters)
    return result


def _forward_masked(request: Request, y: np.ndarray, tile: Tile, codes: tuple[int, int]) -> Forward:
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
    h, c = _run_once(request, tile, codes, rows[order], layout, order, address(x) + first * x.strides[1], address(y))
    if not request.return_sequences:
        y[lengths == 0] = 0
        if request.zero_output_for_mask:
            y[~mask[:, 0 if request.go_backwards else -1]] = 0
    return Forward(y, h, c)


def _forward_ragged(request: Request, tile: Tile, codes: tuple[int, int]) -> Forward:
    """A list of sequences of different lengths, where each of them lies."""
    sequences, units = request.x, request.parameters.units
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
    h, c = _run_once(request, tile, codes, rows[order], layout, order, 0, 0)
    return Forward(outputs, h, c)


def _run_once(request, tile, codes, rows, layout, order, x, y):
    """Plan and run rows in the given order; the final states h and c in the order of the batch."""
    units = request.parameters.units
    plan = build(tile, packed_weights(request.parameters, tile), rows, layout, codes, parallel.threads(request.threads))
    count = len(rows.lengths)
    ragged = count > 0 and rows.lengths[-1] != rows.lengths[0]
    place = np.empty(count, np.int64)  # of each row of the batch in the state buffers
    place[order] = dealt_order(count, plan, ragged)
    _start_states(plan, request.initial_state, units, place)
    _run(tile, plan, x, y)
    lengths = np.empty(count, np.int64)
    lengths[order] = rows.lengths
    return plan.h[lengths & 1, place, :units], plan.c[place, :units]


def _run(tile: Tile, plan: Plan, x: int, y: int) -> None:
    """Run the jobs, in parallel where that is safe now."""
    jobs, flags = plan.jobs, plan.flags
    if flags is None:
        if len(jobs) == 1 or not parallel.run_alone(run_parallel, tile, jobs, x, y):
            run_serial(tile, jobs, x, y)
        return
    if parallel.sharing.worth_a_try():
        flags[...] = UNDECIDED
        ran = parallel.run_alone(run_parallel, tile, jobs, x, y)
        done = ran and flags[0, 0] == TOGETHER
        if ran and (not done or flags[0, CONTENDED]):
            parallel.sharing.rest()
        if done:
            return
    alone = jobs[:1].copy()
    alone["workers"], alone["last_tile"] = 1, alone["tiles"]
    run_serial(tile, alone, x, y)


def _start_states(plan: Plan, initial_state, units: int, place) -> None:
    """The states before the first step, in the order of the plan's rows."""
    if initial_state is None:
        plan.h[0].fill(0)
        plan.c.fill(0)
        return
    for buffer, state in zip((plan.h[0], plan.c), initial_state, strict=True):
        buffer[:, units:] = 0
        buffer[place, :units] = state


def packed_weights(parameters: LSTMParameters, tile: Tile) -> Packed:
    """The weights in the kernels' order, packed at the first use."""
    key = ("packed", tile.lanes, tile.weights)
    found = parameters.packed.get(key)
    if found is None:
        bias = parameters.bias if parameters.bias is not None else np.zeros(4 * parameters.units, parameters.dtype)
        kernel, kernel_columns = _packed_matrix(parameters.kernel, tile)
        recurrent_kernel, recurrent_columns = _packed_matrix(parameters.recurrent_kernel, tile)
        found = parameters.packed[key] = Packed(
            kernel,
            recurrent_kernel,
            pack(bias[None], tile.lanes),
            kernel_columns,
            recurrent_columns,
            parameters.features,
            parameters.units,
        )
    return found


def _packed_matrix(matrix: np.ndarray, tile: Tile) -> tuple[np.ndarray, np.ndarray | None]:
    """A weight matrix as the tile's products read it, and its columns where they have scales."""
    if tile.weights == "native":
        return pack(matrix, tile.lanes), None
    if tile.weights == "bfloat16 amx":
        return pack_pairs(matrix, tile.lanes, STEP), None
    if tile.weights == "bfloat16":
        return pack_bfloat16(matrix, tile.lanes), None
    return pack_int8(matrix, tile.lanes, 4 if tile.weights == "int8 dot" else 1)


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
    x, units = request.x, request.parameters.units
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
