"""What a factory returns, and how a device function is marked."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, types

ELEMENTS = {"float32": types.float32, "float64": types.float64}


class Kernel(NamedTuple):
    """A kernel's Python function, and all that building and launching it takes.

    Attributes
    ----------
    name : str
        Of the factory.
    constants : tuple
        What the factory bound: with the sources, it decides the machine code.
    function : callable
        Undecorated, of pointers and scalars.
    arguments : str
        One letter for each parameter, a key of `letters`.
    threads : int
        Of a block.
    shared : int
        Bytes of dynamic shared memory of a block.
    cluster : int
        Blocks of a cluster; 1: no clusters.
    cooperative : bool
        All blocks have to be on the device at the same time.
    """

    name: str
    constants: tuple
    function: Callable
    arguments: str
    threads: int
    shared: int = 0
    cluster: int = 1
    cooperative: bool = False


def letters(element: str) -> dict[str, Any]:
    """Return the Numba type that each letter of `Kernel.arguments` stands for, of a kernel that computes in `element`.

    A pointer: R to reals, F to float32, B to bytes, I to int32, U to uint32, L to uint64. A scalar: i int32,
    l int64, u uint32.
    """
    real = ELEMENTS[element]
    pointers = {
        "R": real, "F": types.float32, "B": types.uint8, "I": types.int32, "U": types.uint32, "L": types.uint64,
    }  # fmt: skip
    scalars = {"i": types.int32, "l": types.int64, "u": types.uint32}
    return {name: types.CPointer(pointee) for name, pointee in pointers.items()} | scalars


def device(function: Callable) -> Any:
    """Mark a function that kernels call; it is compiled with the kernel, not before."""
    return cuda.jit(device=True)(function)


def make_chain(function: Any, start: int, stop: int, step: int = 1) -> Any:
    """Return the device function that calls another for every number from start to stop, each as a constant.

    Functions within functions: what no compiler has to unroll stays in registers.
    """
    if start >= stop:
        return device(lambda w, source, at, acc: None)
    rest = make_chain(function, start + step, stop, step)

    @device
    def link(w, source, at, acc):
        function(w, source, at, acc, start)
        rest(w, source, at, acc)

    return link


SCALARS = {"i": np.int32, "l": np.int64, "u": np.uint32}


def numpy_scalars(kernel: Kernel, arguments: Sequence[Any]) -> list[Any]:
    """Return launch arguments with every scalar in the type of its parameter."""
    return [
        SCALARS[letter](argument) if letter in SCALARS else argument
        for letter, argument in zip(kernel.arguments, arguments, strict=True)
    ]
