"""Numbers below the smallest normal one are zero inside a kernel: with them a product takes a hundred times longer.

A sequence that decays reaches them after some thousand steps. The mode belongs to the thread and is put back after.
"""

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.simd import I32

FLUSH = 0x8040  # MXCSR: results and operands below the normal numbers are zero
IS_X86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "x86")


def _control(builder, name, place):
    byte = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [byte]), f"llvm.x86.sse.{name}"
    )
    builder.call(function, [builder.bitcast(place, byte)])


@intrinsic
def flush_subnormals(typingctx):
    """Treat subnormal numbers as zero from now on; returns the mode before."""

    def codegen(context, builder, sig, args):
        if not IS_X86:
            return I32(0)
        place = cgutils.alloca_once(builder, I32)
        _control(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, I32(FLUSH)), place)
        _control(builder, "ldmxcsr", place)
        return before

    return types.int32(), codegen


@intrinsic
def restore_mode(typingctx, before):
    """Put a mode back that `flush_subnormals` returned."""

    def codegen(context, builder, sig, args):
        if IS_X86:
            place = cgutils.alloca_once_value(builder, args[0])
            _control(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), codegen
