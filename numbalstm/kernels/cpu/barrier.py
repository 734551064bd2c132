"""A barrier between the workers that share the units of one batch, and the vote on whether to begin at all.

A runtime may start fewer threads than asked (nested parallelism, a thread limit, one core); a plain spin barrier would
hang there. So every worker registers first. If all arrive in bounded time the work is shared, otherwise all withdraw
and the caller runs the work on one thread. The vote has a cache line, and each worker's flag.
"""

import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.linked import linked
from numbalstm.kernels.memory import pointer
from numbalstm.kernels.simd import I32, I64

LINE = 64  # bytes of a cache line
UNDECIDED, TOGETHER, WITHDRAWN = 0, 1, 2  # the vote, first integer of the first line
CONTENDED = 1  # index of the integer behind the vote: set when a worker kept the others waiting
PATIENCE = 1 << 13  # looks at a flag before the vote is called off: a few milliseconds
SPINS = 1 << 14  # looks at a flag before the processor is offered to other threads: some 20 microseconds
LATE = SPINS + (1 << 13)  # looks after which the other worker is taken to have lost its core: some milliseconds


@intrinsic
def _set(typingctx, address, value):
    """Store that makes everything before it visible to whoever sees it."""

    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], pointer(builder, args[0], I64), "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def _get(typingctx, address):
    return types.intp(types.intp), lambda context, builder, sig, args: builder.load_atomic(
        pointer(builder, args[0], I64), "acquire", 8
    )


@intrinsic
def _decide(typingctx, address, verdict):
    """Change the vote from undecided to a verdict; the first to do so wins."""

    def codegen(context, builder, sig, args):
        builder.cmpxchg(pointer(builder, args[0], I64), I64(UNDECIDED), args[1], "acq_rel", "acquire")
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def _offer_processor(typingctx):
    """Let another thread run on this core."""

    def codegen(context, builder, sig, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@linked
def _flag(flags, worker):
    return flags + LINE * (1 + worker)


@linked
def begin_together(flags, worker, workers):
    """Register; true for all workers if all of them came, false for all of them otherwise."""
    _set(_flag(flags, worker), 1)
    present = 0
    for _ in range(PATIENCE):
        while present < workers and _get(_flag(flags, present)) > 0:
            present += 1
        if present == workers or _get(flags) != UNDECIDED:
            break
        _offer_processor()
    _decide(flags, TOGETHER if present == workers else WITHDRAWN)
    return _get(flags) == TOGETHER


@linked
def wait_for_all(flags, worker, workers, stage):
    """Return when every worker has reached the stage (2, 3, … in turn)."""
    _set(_flag(flags, worker), stage)
    for other in range(workers):
        looks = 0
        while _get(_flag(flags, other)) < stage:
            looks += 1
            if looks > SPINS:
                _offer_processor()
            if looks > LATE:
                _set(flags + 8 * CONTENDED, 1)
