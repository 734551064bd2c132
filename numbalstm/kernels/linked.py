"""Functions that only compiled code calls: they become machine code inside the entry points that they are linked into.

Numba makes machine code of every function by itself, and optimises it anew in each one that calls it. Linked functions
are optimised once, where they are used, which takes less than half of the time and gives code that is as fast.
"""

from functools import partial

import numba
import numba.extending
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _LinkedCode(JITCodeLibrary):
    """LLVM code of a function and of those that it calls, neither optimised nor loaded."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalized = True


class _LinkedCompiler(Compiler):
    """Numba's compiler up to LLVM code, without the wrappers through which Python calls."""

    def __init__(self, typingctx, targetctx, library, args, return_type, flags, locals):
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        library = _LinkedCode(targetctx.codegen(), "linked")
        super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)
        # Numba wants a builtin function for each signature; this one raises KeyError where Python calls it all the same
        self.state.targetctx.get_executable = lambda library, fndesc, env: {}.__getitem__


OPTIONS = {"error_model": "numpy", "pipeline_class": _LinkedCompiler}

overload = partial(numba.extending.overload, jit_options=OPTIONS)
register_jitable = numba.extending.register_jitable(**OPTIONS)


def linked(function=None, **options):
    """Decorate a function of a kernel: `numba.njit` with divisions as in NumPy; it must not need Python's objects."""
    if function is None:
        return partial(linked, **options)
    return numba.njit(**OPTIONS, **options)(function)
