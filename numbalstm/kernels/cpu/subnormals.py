"""Numbers below the smallest normal one are zero inside a kernel: with them a product takes a hundred times longer.

A sequence that decays reaches them after some thousand steps. The mode belongs to the thread and is put back after.
"""

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.simd import I32, I64

NAMES = {"amd64": "x86_64", "i686": "x86_64", "x86": "x86_64", "arm64": "aarch64"}
FLUSH = {  # results and operands below the normal numbers are zero
    "x86_64": 0x8040,  # in MXCSR
    "aarch64": 1 << 24,  # in FPCR
}


def machine():
    """The family of the processor, as in `FLUSH` where it is one of them."""
    name = platform.machine().lower()
    return NAMES.get(name, name)


def _call(builder, name, kind, arguments):
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def emit_read(builder, family):
    """The mode of this thread, an int64."""
    if family == "aarch64":
        return _call(builder, "llvm.aarch64.get.fpcr", ir.FunctionType(I64, []), [])
    place = cgutils.alloca_once(builder, I32)
    byte = ir.IntType(8).as_pointer()
    _call(builder, "llvm.x86.sse.stmxcsr", ir.FunctionType(ir.VoidType(), [byte]), [builder.bitcast(place, byte)])
    return builder.zext(builder.load(place), I64)


def emit_write(builder, family, mode):
    """Set the mode of this thread."""
    if family == "aarch64":
        _call(builder, "llvm.aarch64.set.fpcr", ir.FunctionType(ir.VoidType(), [I64]), [mode])
        return
    place = cgutils.alloca_once_value(builder, builder.trunc(mode, I32))
    byte = ir.IntType(8).as_pointer()
    _call(builder, "llvm.x86.sse.ldmxcsr", ir.FunctionType(ir.VoidType(), [byte]), [builder.bitcast(place, byte)])


@intrinsic
def flush_subnormals(typingctx):
    """Treat subnormal numbers as zero from now on, where the processor can; returns the mode before."""

    def codegen(context, builder, sig, args):
        family = machine()
        if family not in FLUSH:
            return I64(0)
        before = emit_read(builder, family)
        emit_write(builder, family, builder.or_(before, I64(FLUSH[family])))
        return before

    return types.int64(), codegen


@intrinsic
def restore_mode(typingctx, before):
    """Put a mode back that `flush_subnormals` returned."""

    def codegen(context, builder, sig, args):
        family = machine()
        if family in FLUSH:
            emit_write(builder, family, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen
