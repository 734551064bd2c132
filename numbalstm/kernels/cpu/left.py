"""The left operands of the products: x and h as they are, quantised a row at a time to eight bits, or as bfloat16.

A row v becomes round(v * 127 / max|v|) + 128, an unsigned byte, with the scale max|v| / 127. Inputs, which have
outliers where states have not, get a second byte of what the first leaves over.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from numbalstm.kernels.cpu.amx import GATE_BYTES, STEP, amx_panel, configure, release, row_bytes, to_bfloat16
from numbalstm.kernels.cpu.panel import panel, single_row, steps_of, weight_row_size
from numbalstm.kernels.cpu.subnormals import flush_subnormals, restore_mode
from numbalstm.kernels.memory import item_size, lane_count, load, load_first, pointer, splat, store_scalar
from numbalstm.kernels.simd import FLOAT, I32, SUFFIX, absolute, fma, maximum, vector_type

LEVELS = 127.0
FINER = 254.0  # levels of the second byte in one of the first
ROUNDER = 12582912.0  # 1.5 * 2**23: adding it leaves the rounded value in the low bits


@intrinsic
def _largest(typingctx, tile, value):
    """The largest lane."""

    def codegen(context, builder, sig, args):
        v = tile.vector
        name = f"llvm.vector.reduce.fmax.v{v.lanes}{SUFFIX[v.dtype]}"
        kind = ir.FunctionType(FLOAT[v.dtype], [vector_type(v)])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [args[1]])

    return tile.dtype(tile, tile.vector), codegen


@intrinsic
def _any_nan(typingctx, tile, value):
    """Whether a lane is NaN."""

    def codegen(context, builder, sig, args):
        bits = builder.fcmp_unordered("uno", args[1], args[1])
        whole = ir.IntType(tile.lanes)
        return builder.icmp_unsigned("!=", builder.bitcast(bits, whole), whole(0))

    return types.boolean(tile, tile.vector), codegen


@intrinsic
def _store_bytes(typingctx, tile, address, shifted):
    """The low bytes, plus 128, of values to which ROUNDER was added."""

    def codegen(context, builder, sig, args):
        words = ir.VectorType(I32, tile.lanes)
        octets = ir.VectorType(ir.IntType(8), tile.lanes)
        unsigned = builder.add(builder.bitcast(args[2], words), ir.Constant(words, [128] * tile.lanes))
        builder.store(builder.trunc(unsigned, octets), pointer(builder, args[1], octets)).align = 1
        return context.get_dummy_value()

    return types.void(tile, types.intp, tile.vector), codegen


@njit(error_model="numpy")
def _load_part(tile, source, start, count):
    at = source + start * item_size(tile)
    if count - start >= lane_count(tile):
        return load(tile, at)
    return load_first(tile, at, count - start)


@njit(error_model="numpy")
def _scale(tile, source, count):
    """max|v| of a row; NaN where a value is not finite, so that it reaches the output."""
    top = splat(tile, 0.0)
    poison = splat(tile, 0.0)
    for start in range(0, count, lane_count(tile)):
        v = _load_part(tile, source, start, count)
        top = maximum(top, absolute(v))
        poison = poison + (v - v)
    largest = _largest(tile, top)
    if _any_nan(tile, poison):
        return largest * 0 + types.float32(float("nan"))
    return largest


@njit(error_model="numpy")
def quantise_row(tile, source, count, high, high_scale, low, low_scale):
    """A row to bytes; `low` is 0 or the address of the second bytes."""
    top = _scale(tile, source, count)
    inverse = splat(tile, LEVELS / top if top > 0 else 0.0)
    for start in range(0, count, lane_count(tile)):
        v = _load_part(tile, source, start, count)
        shifted = fma(v, inverse, ROUNDER)
        _store_bytes(tile, high + start, shifted)
        if low != 0:
            _store_bytes(tile, low + start, fma(fma(v, inverse, ROUNDER - shifted), FINER, ROUNDER))
    store_scalar(tile, high_scale, top / types.float32(LEVELS))
    if low != 0:
        store_scalar(tile, low_scale, top / types.float32(LEVELS * FINER))


@njit(error_model="numpy")
def byte_stride(tile, count):
    """Bytes of a quantised row: whole vectors are written."""
    return (count + lane_count(tile) - 1) // lane_count(tile) * lane_count(tile)


def prepare_x(tile, job, rows):
    """Make the packed inputs ready for `project`."""


def prepare_h(tile, job, h, rows):
    """Make the states ready for `recur` and `recur_pair`."""


def project(tile, job, n, z, first, rows):
    """F1's product for one tile and the packed inputs from `first` on."""


def recur(tile, job, n, h, z, first, rows):
    """F2 for one tile and the rows from `first` on."""


@njit(error_model="numpy")
def offsets_of_tile(tile, job, n, k):
    """Byte offsets of a tile's weights of depth k and of its columns."""
    return n * steps_of(tile, k) * weight_row_size(tile), n * 8 * lane_count(tile) * item_size(tile)


@njit(error_model="numpy")
def _sum_row(tile):
    """Bytes of a row of sums."""
    return 4 * lane_count(tile) * item_size(tile)


@njit(error_model="numpy")
def _state_row(tile, job):
    """Bytes of a row of states."""
    return job.tiles * lane_count(tile) * item_size(tile)


# ---- as they are


@njit(error_model="numpy")
def _nothing_x(tile, job, rows):
    pass


@njit(error_model="numpy")
def _nothing_h(tile, job, h, rows):
    pass


@njit(error_model="numpy")
def _project_floats(tile, job, n, z, first, rows):
    weights, columns = offsets_of_tile(tile, job, n, job.features)
    lda = job.features * item_size(tile)
    at, scale = job.kernel + weights, job.kernel_columns + columns
    panel(tile, rows, job.packed_x + first * lda, lda, at, job.features, z, _sum_row(tile), scale, 0)


@njit(error_model="numpy")
def _recur_floats(tile, job, n, h, z, first, rows):
    weights, columns = offsets_of_tile(tile, job, n, job.units)
    lda = _state_row(tile, job)
    at, scale = job.recurrent_kernel + weights, job.recurrent_columns + columns
    panel(tile, rows, h + first * lda, lda, at, job.units, z, _sum_row(tile), scale, 0)


# ---- as bytes


@njit(error_model="numpy")
def _quantise_x(tile, job, rows):
    stride = byte_stride(tile, job.features)
    for r in range(rows):
        source = job.packed_x + r * job.features * item_size(tile)
        high, low = job.x_high + r * stride, job.x_low + r * stride
        quantise_row(tile, source, job.features, high, job.x_high_scales + 4 * r, low, job.x_low_scales + 4 * r)


@njit(error_model="numpy")
def _quantise_h(tile, job, h, rows):
    stride = byte_stride(tile, job.units)
    for r in range(rows):
        source = h + r * _state_row(tile, job)
        quantise_row(tile, source, job.units, job.h_narrow + r * stride, job.h_scales + 4 * r, 0, 0)


@njit(error_model="numpy")
def _project_bytes(tile, job, n, z, first, rows):
    weights, columns = offsets_of_tile(tile, job, n, job.features)
    lda = byte_stride(tile, job.features)
    at, scale = job.kernel + weights, job.kernel_columns + columns
    high, low = job.x_high + first * lda, job.x_low + first * lda
    panel(tile, rows, high, lda, at, job.features, z, _sum_row(tile), scale, job.x_high_scales + 4 * first)
    panel(tile, rows, low, lda, at, job.features, z, _sum_row(tile), scale, job.x_low_scales + 4 * first)


@njit(error_model="numpy")
def _recur_bytes(tile, job, n, h, z, first, rows):
    weights, columns = offsets_of_tile(tile, job, n, job.units)
    lda = byte_stride(tile, job.units)
    at, scale = job.recurrent_kernel + weights, job.recurrent_columns + columns
    left = job.h_narrow + first * lda
    panel(tile, rows, left, lda, at, job.units, z, _sum_row(tile), scale, job.h_scales + 4 * first)


# ---- as bfloat16


@njit(error_model="numpy")
def _round_x(tile, job, rows):
    to_bfloat16(tile, job.packed_x, job.features * item_size(tile), rows, job.features, job.x_high)


@njit(error_model="numpy")
def _round_h(tile, job, h, rows):
    to_bfloat16(tile, h, _state_row(tile, job), rows, job.units, job.h_narrow)


@njit(error_model="numpy")
def _project_halves(tile, job, n, z, first, rows):
    steps = (job.features + STEP - 1) // STEP
    at = job.kernel + n * steps * 4 * GATE_BYTES
    lda = row_bytes(job.features)
    amx_panel(rows, job.x_high + first * lda, lda, at, steps, z, _sum_row(tile))


@njit(error_model="numpy")
def _recur_halves(tile, job, n, h, z, first, rows):
    steps = (job.units + STEP - 1) // STEP
    at = job.recurrent_kernel + n * steps * 4 * GATE_BYTES
    lda = row_bytes(job.units)
    amx_panel(rows, job.h_narrow + first * lda, lda, at, steps, z, _sum_row(tile))


_BYTES = {prepare_x: _quantise_x, prepare_h: _quantise_h, project: _project_bytes, recur: _recur_bytes}
_HALVES = {prepare_x: _round_x, prepare_h: _round_h, project: _project_halves, recur: _recur_halves}
_FLOATS = {prepare_x: _nothing_x, prepare_h: _nothing_h, project: _project_floats, recur: _recur_floats}


def _form(tile):
    """The functions for a tile's kind of weights."""
    return {"int8 dot": _BYTES, "bfloat16 amx": _HALVES}.get(tile.weights, _FLOATS)


@overload(prepare_x)
def _prepare_x(tile, job, rows):
    chosen = _form(tile)[prepare_x]
    return lambda tile, job, rows: chosen(tile, job, rows)


@overload(prepare_h)
def _prepare_h(tile, job, h, rows):
    chosen = _form(tile)[prepare_h]
    return lambda tile, job, h, rows: chosen(tile, job, h, rows)


@overload(project)
def _project(tile, job, n, z, first, rows):
    chosen = _form(tile)[project]
    return lambda tile, job, n, z, first, rows: chosen(tile, job, n, z, first, rows)


@overload(recur)
def _recur(tile, job, n, h, z, first, rows):
    chosen = _form(tile)[recur]
    return lambda tile, job, n, h, z, first, rows: chosen(tile, job, n, h, z, first, rows)


def pairs_tiles(tile):
    """Whether one row of two tiles is multiplied at once."""


@overload(pairs_tiles)
def _pairs_tiles(tile):
    pairs = _form(tile) is not _HALVES
    return lambda tile: pairs


def recur_pair(tile, job, n, h, z, tile_z):
    """F2 of one row for two tiles."""


@overload(recur_pair)
def _recur_pair(tile, job, n, h, z, tile_z):
    if _form(tile) is _HALVES:
        return lambda tile, job, n, h, z, tile_z: None
    quantised = _form(tile) is _BYTES

    def multiply(tile, job, n, h, z, tile_z):
        weights, columns = offsets_of_tile(tile, job, n, job.units)
        steps = steps_of(tile, job.units)
        left = job.h_narrow if quantised else h
        at, scale = job.recurrent_kernel + weights, job.recurrent_columns + columns
        single_row(tile, left, at, steps * weight_row_size(tile), steps, z, tile_z, scale, job.h_scales)

    return multiply


@njit
def begin_products(tile, job):
    """Set the thread up for products; returns what `end_products` wants back."""
    set_up(tile, job)
    return flush_subnormals()


@njit
def end_products(tile, mode):
    """Give back what was set up, once the last product is done."""
    restore_mode(mode)
    give_back(tile)


def set_up(tile, job):
    """What the unit that multiplies needs before it is used."""


def give_back(tile):
    """What it needs after the last use."""


@overload(set_up)
def _set_up(tile, job):
    if _form(tile) is _HALVES:
        return lambda tile, job: configure(job.registers)
    return lambda tile, job: None


@overload(give_back)
def _give_back(tile):
    if _form(tile) is _HALVES:
        return lambda tile: release()
    return lambda tile: None
