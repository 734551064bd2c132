"""Rows of x and h in fewer bits: quantised to eight or rounded to bfloat16, for products with weights like them.

A row v becomes round(v * 127 / max|v|) + 128, an unsigned byte, with the scale max|v| / 127. Inputs, which have
outliers where states have not, get a second byte of what the first leaves over.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.cpu.product import Bfloat16
from numbalstm.kernels.linked import linked
from numbalstm.kernels.memory import item_size, lane_count, load, load_first, pointer, splat, store_scalar
from numbalstm.kernels.simd import FLOAT, I32, SUFFIX, absolute, fma, maximum, vector_type

LINE = 64  # rows begin on cache lines, of which products on AMX units read whole ones
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


@linked
def _load_part(tile, source, start, count):
    at = source + start * item_size(tile)
    if count - start >= lane_count(tile):
        return load(tile, at)
    return load_first(tile, at, max(count - start, 0))


@linked
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


@linked
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


@intrinsic
def _store_bfloat16(typingctx, tile, address, value):
    """Values rounded to bfloat16, to nearest, NaN kept."""

    def codegen(context, builder, sig, args):
        halves = ir.VectorType(Bfloat16(), tile.lanes)
        kind = ir.FunctionType(halves, [args[2].type])
        name = "llvm.x86.avx512bf16.cvtneps2bf16.512"
        rounded = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [args[2]])
        integers = ir.VectorType(ir.IntType(16), tile.lanes)
        builder.store(builder.bitcast(rounded, integers), pointer(builder, args[1], integers)).align = 2
        return context.get_dummy_value()

    return types.void(tile, types.intp, tile.vector), codegen


@linked
def round_row(tile, source, count, target):
    """A row to bfloat16, with zeros to the end of the last line."""
    for start in range(0, narrow_row(2, count) // 2, lane_count(tile)):
        _store_bfloat16(tile, target + 2 * start, _load_part(tile, source, start, count))


@linked
def narrow_row(size, count):
    """Bytes from one row of `count` elements of `size` bytes to the next."""
    return (size * count + LINE - 1) // LINE * LINE
