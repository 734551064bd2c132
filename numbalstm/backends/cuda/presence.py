"""Whether a GPU can be used here, asked without importing a compiler."""

import ctypes
import os
import sys
from functools import cache
from importlib import metadata, util

EXTRA = 'pip install "numbalstm[cuda13]" (with a driver of CUDA 12: "numbalstm[cuda12]")'
DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
COMPILERS = ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12")  # the packages with the compiler, of CUDA 13 and 12
LEAST_CAPABILITY = (8, 0)


@cache
def problem() -> str | None:
    """Why no GPU can be used here, or None; the text says what to do about it."""
    return _driver_problem() or compiler_problem() or _device_problem()


def compiler_problem() -> str | None:
    """Why kernels cannot be compiled here, or None."""
    if util.find_spec("numba_cuda") is None:
        return f"the package numba-cuda is not installed (Numba's built-in copy is deprecated and not used): {EXTRA}."
    if util.find_spec("cuda") is None or util.find_spec("cuda.core") is None:
        return f"the package cuda-core is not installed: {EXTRA}."
    if not any(map(_installed, COMPILERS)) and not os.environ.get("CUDA_HOME"):
        return f"the packages of the CUDA compiler are not installed: {EXTRA}."
    return None


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _driver_problem() -> str | None:
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return f"there is no NVIDIA driver ({DRIVER} was not found). Install the driver of the GPU."
    return None


def _device_problem() -> str | None:
    from cuda.bindings import driver

    (error,) = driver.cuInit(0)
    if int(error) != 0:
        return f"the NVIDIA driver does not start ({error.name}). See what nvidia-smi says."
    _, count = driver.cuDeviceGetCount()
    if count == 0:
        return "the driver sees no GPU. See nvidia-smi and CUDA_VISIBLE_DEVICES."
    return age_problem(0)


def age_problem(number: int) -> str | None:
    """Why a GPU is too old, or None."""
    found = capability(number)
    if found < LEAST_CAPABILITY:
        least = ".".join(map(str, LEAST_CAPABILITY))
        return f"the GPU has compute capability {found[0]}.{found[1]} and the kernels need {least}."
    return None


def capability(number: int) -> tuple[int, int]:
    """Return the compute capability of a GPU."""
    from cuda.bindings import driver

    names, device = driver.CUdevice_attribute, driver.CUdevice(number)
    _, major = driver.cuDeviceGetAttribute(names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
    _, minor = driver.cuDeviceGetAttribute(names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
    return major, minor
