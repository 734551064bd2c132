"""Jobs on threads: one parallel region for all entry points, which it calls by the addresses of their machine code.

An entry point is `entry(tile, jobs, x, y, first, last)`: it does the jobs first <= n < last. Everything but the tile is
an integer: jobs is the address of records, x and y are addresses or whatever else the jobs share.
"""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import prange, typeof, types
from numba.extending import intrinsic

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.simd import I64

INTEGERS = 5
COMPILER_FRAMES = 2000  # calls inside each other while Numba infers types; 700 were seen


class Code(NamedTuple):
    """An entry point compiled for a tile.

    Attributes
    ----------
    call : callable
        The entry point without Numba's choice by the types of the arguments, which takes longer than a small job.
    address : int
        Where `launch` finds it.
    """

    call: Callable[..., None]
    address: int


@cache
def code_of(entry: Any, tile: Any) -> Code:
    """Compile an entry point, or load it."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + COMPILER_FRAMES)  # the caller may be deep in calls of its own
    try:
        result = entry.get_compile_result(types.void(typeof(tile), *[types.int64] * INTEGERS))
    finally:
        sys.setrecursionlimit(limit)
    return Code(result.entry_point, result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))


@intrinsic
def _call(typingctx, function, jobs, x, y, first, last):
    def codegen(context, builder, sig, args):
        tile = context.get_dummy_value()
        kind = ir.FunctionType(context.get_value_type(types.none), [tile.type, *[I64] * INTEGERS])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [tile, *args[1:]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * (INTEGERS + 1)), codegen


@entry_point(parallel=True)
def launch(function, jobs, x, y, count):
    """A job a thread, by the entry point at an address."""
    for number in prange(count):
        _call(function, jobs, x, y, number, number + 1)
