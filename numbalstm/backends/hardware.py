"""The register block that suits the processor the kernels are compiled for."""

import ctypes
import platform
import sys
from functools import cache

import numpy as np

from numbalstm import settings
from numbalstm.kernels.simd import Tile


@cache
def features() -> frozenset[str]:
    """Names of the vector extensions that the compiled code may use, as LLVM calls them."""
    import llvmlite.binding as llvm
    from numba.core import config

    if config.CPU_FEATURES is not None:
        return frozenset(name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+"))
    try:
        return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)
    except RuntimeError:  # LLVM does not know this processor
        return frozenset()


@cache
def has_amx() -> bool:
    """Whether there are tile registers, and the system allows their use, for which Linux is asked."""
    if sys.platform != "linux" or "amx-tile" not in features():
        return False
    request_permission, tile_data = 0x1023, 18
    system_call = ctypes.CDLL(None, use_errno=True).syscall
    return system_call(158, request_permission, tile_data) == 0  # arch_prctl


def vector_bytes() -> int:
    """Bytes of the widest vector register, or what NUMBALSTM_SIMD forces.

    Raises
    ------
    ValueError
        When NUMBALSTM_SIMD asks for 64 on a processor without AVX-512.
    """
    forced, have = settings.simd_bytes(), features()
    widest = 64 if {"avx512f", "avx512vl", "avx512dq"} <= have else 32 if {"avx2", "fma"} <= have else 16
    if forced == 64 and widest != 64:
        raise ValueError("NUMBALSTM_SIMD=64 needs a processor with AVX-512, which this one is not. Unset it.")
    return forced or widest


def _units(on_vectors: str, on_amx: str) -> str:
    """What a processor with these extensions multiplies narrow operands with: the end of a tile's `weights`."""
    if vector_bytes() != 64 or on_vectors not in features():
        return ""
    return " amx" if on_amx in features() and has_amx() else " dot"


@cache
def tile(
    dtype: np.dtype, any_activation: bool, weights_dtype: str | None = None, compute_dtype: str | None = None
) -> Tile:
    """Return the register block; `any_activation` as in `Tile`, `weights_dtype` and `compute_dtype` as in `LSTM`."""
    width = vector_bytes()
    many_registers = width == 64 or platform.machine().lower() in ("aarch64", "arm64")
    weights = weights_dtype or "native"
    if weights == "int8":
        weights += _units("avx512vnni", "amx-int8")
    if compute_dtype == "bfloat16":
        weights = "bfloat16" + _units("avx512bf16", "amx-bf16")
    return Tile(dtype, width // dtype.itemsize, 6 if many_registers else 3, any_activation, weights)
