"""Products on AMX units: 16 rows times 16 units of a gate times 64 bytes of k in one instruction, int8 or bfloat16.

The weights are those of the products on vectors, [tile][step][gate][lane][depth], filled up with zeros to whole groups
of 16 steps: what the left operand holds there does not matter, as long as it is finite. Up to 15 rows behind the last
one are read; what comes of them is dropped.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.cpu.product import product_of
from numbalstm.kernels.linked import linked
from numbalstm.kernels.memory import pointer
from numbalstm.kernels.simd import I64

ROWS = 16  # of a register
LINE = 64  # bytes of a register's row
OCTET = ir.IntType(8)
SUMS = 4 * LINE  # bytes of a row of sums, and of a step of weights
GROUP_BYTES = 16 * SUMS  # weights of the steps of one instruction


def configuration():
    """What the processor wants to know before tile registers are used: all of them 16 rows of 64 bytes."""
    table = np.zeros(64, np.uint8)
    table[0] = 1
    table[16:32].view(np.uint16)[:] = LINE
    table[48:56] = ROWS
    return table


def _call(builder, name, arguments):
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


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


def _emit_sums(builder, product, blocks, a, lda, w, groups, columns, totals):
    """The sums of 1 or 2 blocks of 16 rows, to `totals`: all gates at once, or two at a time for two blocks.

    Four registers hold sums, one a block the rows, and the others the weights in turn.
    """

    def move(name, register, address, stride):
        _call(builder, name, [OCTET(register), pointer(builder, address, OCTET), stride])

    for gates in ((0, 1, 2, 3),) if blocks == 1 else ((0, 1), (2, 3)):
        sums = {(block, gate): block * 2 + gate - gates[0] for block in range(blocks) for gate in gates}
        for (_, gate), register in sums.items():
            start = product.start_of(builder, columns, gate)
            if start is None:
                _call(builder, "tilezero", [OCTET(register)])
            else:
                move("tileloadd64", register, start, I64(0))
        with cgutils.for_range(builder, groups, intp=I64) as loop:
            here = builder.add(a, builder.mul(loop.index, I64(LINE)))
            there = builder.add(w, builder.mul(loop.index, I64(GROUP_BYTES)))
            for block in range(blocks):
                move("tileloadd64", 4 + block, builder.add(here, builder.mul(lda, I64(ROWS * block))), lda)
            for gate in gates:
                weights = 4 + blocks + gate % (4 - blocks)
                move("tileloadd64", weights, builder.add(there, I64(LINE * gate)), I64(SUMS))
                for block in range(blocks):
                    registers = [OCTET(sums[block, gate]), OCTET(4 + block), OCTET(weights)]
                    _call(builder, product.tile_instruction, registers)
        for (block, gate), register in sums.items():
            move("tilestored64", register, builder.add(totals, I64(block * ROWS * SUMS + LINE * gate)), I64(SUMS))


@intrinsic
def _block(typingctx, tile, rows, a, lda, w, groups, z, ldz, columns, scales):
    """As `panel.block`, for up to 32 rows."""

    def codegen(context, builder, sig, args):
        _, rows, a, lda, w, groups, z, ldz, columns, scales = args
        product = product_of(tile)
        place = cgutils.alloca_once(builder, ir.ArrayType(OCTET, 2 * ROWS * SUMS))
        place.align = LINE
        totals = builder.ptrtoint(place, I64)
        with builder.if_else(builder.icmp_signed(">", rows, I64(ROWS))) as branches:
            for blocks, branch in zip((2, 1), branches, strict=True):
                with branch:
                    _emit_sums(builder, product, blocks, a, lda, w, groups, columns, totals)
        with cgutils.for_range(builder, rows, intp=I64) as loop:
            source, target = (builder.mul(loop.index, stride) for stride in (I64(SUMS), ldz))
            scale = builder.add(scales, builder.mul(loop.index, I64(4)))
            for gate in range(4):
                total = product.total(builder, builder.add(totals, builder.add(source, I64(LINE * gate))))
                at = builder.add(z, builder.add(target, I64(LINE * gate)))
                product.finish(builder, total, at, columns, gate, scale)
        return context.get_dummy_value()

    return types.void(tile, *[types.intp] * 9), codegen


@linked
def amx_panel(tile, rows, a, lda, w, groups, z, ldz, columns, scales):
    """z[r] += a[r] @ w for any number of rows, in blocks of 32."""
    for r in range(0, rows, 2 * ROWS):
        height = min(2 * ROWS, rows - r)
        _block(tile, height, a + r * lda, lda, w, groups, z + r * ldz, ldz, columns, scales + 4 * r)
