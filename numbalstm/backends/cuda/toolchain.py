"""The compiler: numba-cuda makes LTO code of a kernel's function, nvJitLink a cubin of that, kept on the disk.

This module and `numbalstm.backends.cuda.device` are the only ones that know the compiler and launcher packages.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from numbalstm.kernels import compilation
from numbalstm.kernels.cuda.kernel import Kernel, letters

PACKAGES = (
    "numba-cuda", "numba", "llvmlite", "nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvcc-cu12",
    "nvidia-nvjitlink-cu12",
)  # fmt: skip
OLD_NAME = "row_stack"  # of numpy.vstack
Capability = tuple[int, int]


class Cubin(NamedTuple):
    """Machine code of one kernel, and what the linker told of it.

    Attributes
    ----------
    code : bytes
    entry : str
        Name of the kernel in it.
    registers, stack, spilled : int
        Registers of a thread; bytes of its stack frame, and of registers spilled to memory.
    """

    code: bytes
    entry: str
    registers: int
    stack: int
    spilled: int


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def architecture(capability: Capability) -> str:
    """Return the target of a compute capability; from 9.0 on with the features of that very one."""
    major, minor = capability
    return f"sm_{major}{minor}" + ("a" if major >= 9 else "")


@contextmanager
def old_numpy_names() -> Iterator[None]:
    """Give NumPy >= 2.5 the one name back that numba-cuda <= 0.30.4 looks up when it compiles."""
    missing = not hasattr(np, OLD_NAME)
    if missing:
        setattr(np, OLD_NAME, np.vstack)
    try:
        yield
    finally:
        if missing:
            delattr(np, OLD_NAME)


@contextmanager
def device_of(capability: Capability) -> Iterator[None]:
    """Answer numba-cuda's question for the current device where there is none: device functions make it ask."""
    from numba import cuda
    from numba.cuda import dispatcher

    real = dispatcher.get_current_device
    if not cuda.is_available():
        dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = real


def compiler_file() -> str:
    """Return where the compiler was imported from."""
    from numba import cuda

    return str(cuda.__file__)


def refuse_built_in_copy() -> None:
    """Raise RuntimeError when ``numba.cuda`` is the copy inside Numba."""
    if "numba_cuda" not in compiler_file():
        raise RuntimeError(
            f"Numba's own copy of numba.cuda is in use ({compiler_file()}), which is deprecated: install numba-cuda "
            "with pip into the packages of this Python, where it takes its place."
        )


def compiled(kernel: Kernel, capability: Capability) -> Cubin:
    """Compile and link a kernel. Needs neither a GPU nor a driver.

    Raises
    ------
    RuntimeError
        When the compiler refuses it; the message holds what it said.
    """
    from cuda.core import Linker, LinkerOptions, ObjectCode
    from numba import cuda, types

    refuse_built_in_copy()
    known = letters(kernel.constants[0])
    signature = types.void(*(known[letter] for letter in kernel.arguments))
    with old_numpy_names(), device_of(capability):
        code, _ = cuda.compile(
            kernel.function, signature, cc=capability, device=False, abi="numba", output="ltoir",
            launch_bounds=(kernel.threads, 1),
        )  # fmt: skip
    options = LinkerOptions(
        arch=architecture(capability), link_time_optimization=True, verbose=True, ptxas_options=["-v"]
    )
    linker = Linker(ObjectCode.from_ltoir(code, name=kernel.name), options=options)
    cubin = bytes(linker.link("cubin").code)
    told = linker.get_info_log() + linker.get_error_log()
    return Cubin(cubin, _entry(told), *(_number(pattern, told) for pattern in REPORTS))


REPORTS = (r"Used (\d+) registers", r"(\d+) bytes stack frame", r"(\d+) bytes spill stores")


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found.group(1)) if found else 0


def _entry(told: str) -> str:
    found = re.search(r"entry function '([^']+)'", told)
    if found is None:
        raise RuntimeError(f"the linker named no kernel: {told}")
    return found.group(1)


# ---- on disk: one file a kernel, a line of JSON and then the cubin; nothing in it is ever run to be read


@cache
def versions() -> str:
    """Return what the machine code depends on beside the kernels' sources, which the folder's name stands for."""
    packages = " ".join(f"{package} {_version(package)}" for package in PACKAGES)
    return packages + hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def path_of(kernel: Kernel, capability: Capability) -> Path | None:
    """Return the file of a kernel's machine code; None where nothing can be kept."""
    folder = compilation.folder()
    what = (kernel.name, kernel.constants, kernel.arguments, kernel.threads, architecture(capability), versions())
    digest = hashlib.sha256(repr(what).encode()).hexdigest()
    return None if folder is None else folder / f"cuda-{kernel.name}-{digest}.cubin"


_counts = {"compiled": 0, "loaded": 0}


def counts() -> tuple[int, int]:
    """How many kernels this process compiled, and how many it read from the disk."""
    return _counts["compiled"], _counts["loaded"]


def built(kernel: Kernel, capability: Capability) -> Cubin:
    """Return a kernel's machine code: from the disk, or compiled and then kept there."""
    path = path_of(kernel, capability)
    found = None if path is None else _read(path)
    if found is None:
        return rebuilt(kernel, capability)
    _counts["loaded"] += 1
    return found


def rebuilt(kernel: Kernel, capability: Capability) -> Cubin:
    """Compile a kernel whatever is on the disk, and keep its machine code there."""
    path, found = path_of(kernel, capability), compiled(kernel, capability)
    _counts["compiled"] += 1
    if path is not None:
        _write(path, found)
    return found


def _read(path: Path) -> Cubin | None:
    """Return what is on the disk, None where it is missing, damaged, or could be another user's."""
    if compilation.refusal(path.parent) is not None:
        return None
    try:
        line, _, code = path.read_bytes().partition(b"\n")
        facts = json.loads(line)
        whole = facts.pop("sha256") == hashlib.sha256(code).hexdigest()
        return Cubin(code, **facts) if whole and facts.pop("file") == path.name else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(path: Path, cubin: Cubin) -> None:
    """Keep machine code; a folder that cannot be written to costs the next process time, no more."""
    facts = cubin._asdict()
    code = facts.pop("code")
    facts |= {"sha256": hashlib.sha256(code).hexdigest(), "file": path.name}
    with contextlib.suppress(OSError):
        compilation.prepare(path.parent)
        if compilation.refusal(path.parent) is None:
            compilation._write(path, json.dumps(facts).encode() + b"\n" + code)
