"""Compiled kernels on disk: where they are kept, and how a call survives whatever happens to the files.

Numba's own cache does not notice a change in a function that a kernel calls, raises on a damaged file and, in a process
that only loads, spends most of its time declaring what only a compiler needs. This one keeps a file for each compiled
signature, named after its key, in a folder named after everything that the machine code depends on. A file begins with
the SHA-256 of the rest: what does not match it is dropped and compiled again. The rest is a pickle, so only files of
this user, or of root, that nobody else can write are read.
"""

import contextlib
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

DIGEST = 32  # bytes of SHA-256
DAY = 24 * 60 * 60
KEPT = 30 * DAY  # folders of other versions that were not used for longer are removed
SUFFIX = ".nbc"

_entry_points: list[Any] = []


def entry_point(**options: Any) -> Callable[[Callable], Any]:
    """Decorate a function that Python calls: `numba.njit` with ``nogil`` and `options`, kept by a `KernelCache`."""

    def decorate(function: Callable) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        if not config.DISABLE_JIT:
            dispatcher._cache = KernelCache(function)
            _entry_points.append(dispatcher)
        return dispatcher

    return decorate


def counts() -> tuple[int, int]:
    """How many signatures this process compiled, and how many it read from the disk."""
    stats = [dispatcher.stats for dispatcher in _entry_points]
    return sum(sum(s.cache_misses.values()) for s in stats), sum(sum(s.cache_hits.values()) for s in stats)


def root() -> Path | None:
    """Folder of all versions: in ``NUMBA_CACHE_DIR``, else in the user's cache folder; None where there is none."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR).absolute() / "numbalstm"
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and a user that the system does not know
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "numbalstm" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "numbalstm"
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else home / ".cache") / "numbalstm"


@cache
def version() -> str:
    """Name of the folder of this version: the package's, Python's and Numba's, and a digest of the kernels' sources."""
    digest = hashlib.sha256(llvmlite.__version__.encode())
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    package = sys.modules[__name__.partition(".")[0]].__version__
    return f"{package}-{sys.implementation.cache_tag}-numba{numba.__version__}-{digest.hexdigest()[:12]}"


def folder() -> Path | None:
    """Folder of the compiled kernels of this version; it may not exist."""
    above = root()
    return None if above is None else above / version()


def refusal(path: Path) -> str | None:
    """Why the folder of a version must not be read, or None: a pickle of another user could run anything."""
    for place in (path.parent, path):
        try:
            found = place.stat()
        except OSError as error:
            return f"{place}: {error.strerror}"
        if os.name == "posix" and found.st_uid not in (0, os.geteuid()):
            return f"{place} belongs to user {found.st_uid}"
        if os.name == "posix" and found.st_mode & 0o022:
            return f"other users may write to {place}"
    return None


def prepare(path: Path) -> None:
    """Make the folder of a version, for this user only, and remove those that have long been out of use."""
    if path.is_dir():
        return
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    for place in (path.parent, path):
        place.mkdir(mode=0o700, exist_ok=True)
    for old in path.parent.iterdir():
        with contextlib.suppress(OSError):
            if "-numba" in old.name and time.time() - old.lstat().st_mtime > KEPT:
                shutil.rmtree(old, ignore_errors=True)


class KernelCache(_Cache):
    """The cache of one entry point, with the interface that a dispatcher of Numba expects.

    No method raises: what cannot be read is compiled, what cannot be written is compiled again by the next process.

    Parameters
    ----------
    function : callable
        The Python function of the entry point.
    """

    def __init__(self, function: Callable) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self._captured = [cell.cell_contents for cell in function.__closure__ or ()]
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """Folder of the files, or an empty text where the user has none."""
        return str(folder() or "")

    def enable(self) -> None:
        """Read and write files from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Neither read nor write files from now on."""
        self._enabled = False

    def flush(self) -> None:
        """Remove every file of this entry point."""
        for path in (folder() or Path()).glob(f"{self._name}-*{SUFFIX}"):
            _remove(path)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """Return the compiled function of a signature, or None when it has to be compiled."""
        if not self._enabled or folder() is None:
            return None
        # Declaring all that a compiler knows takes longer than everything else here; a compiler does it itself.
        rtsys.initialize(target_context)
        path = self._path(sig, target_context.codegen())
        if refusal(path.parent):
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
                raise ValueError("damaged")
            found = CompileResult._rebuild(target_context, *pickle.loads(content[DIGEST:]))
        except Exception:  # a pickle of another build of Python or Numba may raise anything
            _remove(path)
            return None
        _mark_used(path.parent)
        return found

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Keep a compiled function for later processes, if that is possible."""
        place = folder()
        if not self._enabled or place is None or data.library.has_dynamic_globals:
            return
        with contextlib.suppress(OSError):
            prepare(place)
            if refusal(place) is None:
                payload = dumps(data._reduce())
                _write(self._path(sig, data.codegen), hashlib.sha256(payload).digest() + payload)

    def _path(self, sig: Any, codegen: Any) -> Path:
        key = hashlib.sha256(repr((sig, codegen.magic_tuple(), self._captured)).encode()).hexdigest()
        return Path(self.cache_path) / f"{self._name}-{key[:32]}{SUFFIX}"


def _write(path: Path, content: bytes) -> None:
    """Write a file that other processes see whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        _remove(Path(name))
        raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _mark_used(path: Path) -> None:
    """Keep a folder that is in use from being removed by another version."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY:
            os.utime(path)
