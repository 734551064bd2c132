"""Checkpoint files: nested values and arrays in one file that is either whole or not there.

A file is a zip archive of ``.npy`` members, stored and not compressed, and of ``about.json``, which holds everything
else and says where the arrays belong.  Nothing in it is code, and nothing is unpickled.
"""

import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

FORMAT = "numbalstm checkpoint"
VERSION = 1
ABOUT = "about.json"
MAX_ABOUT_BYTES = 1 << 28
_ARRAY = "__array__"


class CheckpointError(ValueError):
    """What is wrong with a checkpoint file."""


def write(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write a checkpoint so that a kill or a full disk at any moment leaves the last whole file.

    Parameters
    ----------
    path : str or path
        Replaced when it exists; its folder is made when there is none.
    content : mapping
        Nested dicts (with string keys) and lists of None, bool, int, float, str and arrays of numbers.

    Raises
    ------
    OSError
        When the file cannot be written; what was at `path` is still there.
    TypeError
        For a value of any other kind.
    """
    arrays: list[np.ndarray] = []
    about = {"format": FORMAT, "version": VERSION, "content": _packed(content, arrays)}
    text = json.dumps(about).encode()
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(ABOUT), text)  # without the time: equal contents are equal files
        for number, array in enumerate(arrays):
            with archive.open(f"{number}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Return the content of a checkpoint.

    Raises
    ------
    CheckpointError
        When the file is no checkpoint, damaged, or of a later version.
    OSError
        When it cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                about = json.loads(_member(archive, ABOUT, MAX_ABOUT_BYTES))
                if about["format"] != FORMAT:
                    raise CheckpointError(f"its format is {about['format']!r:.40}")
                if about["version"] != VERSION:
                    raise CheckpointError(
                        f"it has version {about['version']!r:.40}, and this numbalstm reads {VERSION}"
                    )
                content = _unpacked(about["content"], lambda number: _array(archive, number))
                if not isinstance(content, dict):
                    raise CheckpointError("it has no content")
                return content
        except OSError:
            raise
        except Exception as error:  # zipfile, json and numpy raise a dozen types for damaged files
            raise CheckpointError(f"{os.fspath(path)}: not a readable checkpoint: {error}") from error


@contextmanager
def understood(path: str | os.PathLike) -> Iterator[None]:
    """Turn what a forged or damaged description makes of the code that heeds it into a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise CheckpointError(f"{os.fspath(path)}: does not fit: {error}") from error


def is_checkpoint(path: str | os.PathLike) -> bool:
    """Return whether a file is a zip archive with a checkpoint's description inside."""
    try:
        with zipfile.ZipFile(path) as archive:
            return ABOUT in archive.namelist()
    except zipfile.BadZipFile:
        return False


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Give a new file to write to, which takes the place of `path` when the block ends well, and only when on disk.

    An error in the block or on the way to the disk removes the unfinished file and leaves `path` as it was.  What a
    killed process left unfinished is removed after the next success.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _sync_folder(target.parent)
        _remove_leftovers(target)


def _sync_folder(folder: Path) -> None:
    """Make the new name as lasting as the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    """Remove unfinished files of processes that are gone."""
    for path in target.parent.iterdir():
        if not (path.name.startswith(f".{target.name}.") and path.name.endswith(".part")):
            continue
        process = path.name.split(".")[-2]
        with suppress(OSError):
            if process.isdecimal() and not _runs(int(process)):
                path.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return `value` for JSON, with references to what is put into `arrays`."""
    if isinstance(value, Mapping):
        strange = [key for key in value if not isinstance(key, str) or key == _ARRAY]
        if strange:
            raise TypeError(f"checkpoint: the keys of a dict must be strings, got {strange[0]!r}.")
        return {key: _packed(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(item, arrays) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise TypeError(f"checkpoint: an array must hold numbers, got dtype {value.dtype}.")
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"checkpoint: cannot hold an object of type {type(value).__name__}.")


def _unpacked(value: Any, array: Callable[[int], np.ndarray]) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value:
            return array(value[_ARRAY])
        return {key: _unpacked(item, array) for key, item in value.items()}
    return [_unpacked(item, array) for item in value] if isinstance(value, list) else value


def _member(archive: zipfile.ZipFile, name: str, limit: int | None = None) -> bytes:
    """Read a member whose size is what the file really has; the archive checks its sum."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise CheckpointError(f"{name} is compressed")
    if limit is not None and info.file_size > limit:
        raise CheckpointError(f"{name} is too large ({info.file_size} bytes)")
    return archive.read(info)


def _array(archive: zipfile.ZipFile, number: int) -> np.ndarray:
    name = f"{int(number)}.npy"
    data = _member(archive, name)
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise CheckpointError(f"{name} has an unknown layout")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in "fiub" or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise CheckpointError(f"{name} does not hold the array that it describes")
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()
