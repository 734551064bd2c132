"""Products on Intel's AMX units: 16 rows times 16 units of a gate times 32 k in one instruction, of bfloat16 values.

Weights are packed [tile][step of 32 k][gate][pair of k][lane][2]; the left operand is rows of bfloat16, padded with
zeros to whole steps and to 16 rows, so a block needs no remainder: rows of zeros leave the sums behind them alone.
Tile registers 0 to 3 hold the sums of the gates, 4 the rows, 5 to 7 the weights in turn.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.memory import item_size, lane_count, load, load_first, pointer
from numbalstm.kernels.simd import I64

ROWS = 16
STEP = 32  # k of one instruction
OCTET = ir.IntType(8)
STEP_BYTES = 2 * STEP
GATE_BYTES = 1024  # one register


def configuration():
    """What the processor wants to know before tile registers are used: all of them 16 rows of 64 bytes."""
    table = np.zeros(64, np.uint8)
    table[0] = 1
    table[16:32].view(np.uint16)[:] = STEP_BYTES
    table[48:56] = ROWS
    return table


class _Bfloat16(ir.Type):
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self):
        return "bfloat"

    def __eq__(self, other):
        return isinstance(other, _Bfloat16)

    def __hash__(self):
        return hash(_Bfloat16)


def _call(builder, name, arguments, result=None):
    kind = ir.FunctionType(result or ir.VoidType(), [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


@intrinsic
def configure(typingctx, address):
    """Set up the tile registers of this thread."""

    def codegen(context, builder, sig, args):
        _call(builder, "ldtilecfg", [pointer(builder, args[0], OCTET)])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def release(typingctx):
    """Give the tile registers back, so that the system need not save them."""

    def codegen(context, builder, sig, args):
        _call(builder, "tilerelease", [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _block(typingctx, a, lda, w, steps, z, ldz):
    """z[r] += a[r] @ w for 16 rows of one tile."""

    def codegen(context, builder, sig, args):
        a, lda, w, steps, z, ldz = args

        def move(name, register, address, stride):
            _call(builder, name, [OCTET(register), pointer(builder, address, OCTET), stride])

        for gate in range(4):
            move("tileloadd64", gate, builder.add(z, I64(64 * gate)), ldz)
        with cgutils.for_range(builder, steps, intp=I64) as loop:
            move("tileloadd64", 4, builder.add(a, builder.mul(loop.index, I64(STEP_BYTES))), lda)
            here = builder.add(w, builder.mul(loop.index, I64(4 * GATE_BYTES)))
            for gate in range(4):
                register = 5 + gate % 3
                move("tileloadd64", register, builder.add(here, I64(gate * GATE_BYTES)), I64(64))
                _call(builder, "tdpbf16ps", [OCTET(gate), OCTET(4), OCTET(register)])
        for gate in range(4):
            move("tilestored64", gate, builder.add(z, I64(64 * gate)), ldz)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), codegen


@njit(error_model="numpy")
def amx_panel(rows, a, lda, w, steps, z, ldz):
    """z[r] += a[r] @ w for any number of rows; up to 15 rows behind them are read and written back unchanged."""
    for r in range(0, rows, ROWS):
        _block(a + r * lda, lda, w, steps, z + r * ldz, ldz)


@intrinsic
def _store_bfloat16(typingctx, tile, address, value):
    """Values rounded to bfloat16, to nearest, NaN kept."""

    def codegen(context, builder, sig, args):
        halves = ir.VectorType(_Bfloat16(), tile.lanes)
        rounded = _call(builder, "avx512bf16.cvtneps2bf16.512", [args[2]], halves)
        integers = ir.VectorType(ir.IntType(16), tile.lanes)
        builder.store(builder.bitcast(rounded, integers), pointer(builder, args[1], integers)).align = 2
        return context.get_dummy_value()

    return types.void(tile, types.intp, tile.vector), codegen


@njit(error_model="numpy")
def row_bytes(count):
    """Bytes of a row of `count` bfloat16 values, padded to whole steps."""
    return (count + STEP - 1) // STEP * STEP_BYTES


@njit(error_model="numpy")
def to_bfloat16(tile, source, stride, rows, count, target):
    """Rows of float32 to rows of bfloat16, padded with zeros to whole steps, and with rows of zeros to 16."""
    width = row_bytes(count)
    for r in range((rows + ROWS - 1) // ROWS * ROWS):
        for start in range(0, width // 2, lane_count(tile)):
            left = count - start if r < rows else 0
            at = source + r * stride + start * item_size(tile)
            value = load(tile, at) if left >= lane_count(tile) else load_first(tile, at, max(left, 0))
            _store_bfloat16(tile, target + r * width + 2 * start, value)
