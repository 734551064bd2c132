"""Arrays in and out of files for the command line: .npy, .npz and .csv."""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

SUFFIXES = (".npy", ".npz", ".csv")


def check_suffix(path: Path) -> str:
    """Return the file's format, its suffix in lower case; ValueError for a format that is not offered."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}.")
    return suffix


def read(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """Read the arrays of a file; no pickled object is ever loaded.

    Parameters
    ----------
    path : Path
        A .npy file is mapped, not read: its pages come in as they are used.  A .npz file is read into memory.  A .csv
        file becomes a float64 array (rows, columns), see `read_csv`.

    Returns
    -------
    ndarray, or dict of name to ndarray for a .npz file

    Raises
    ------
    OSError
        When the file is missing or cannot be read.
    ValueError
        When it is not what its name says, or holds something else than numbers.
    """
    suffix = check_suffix(path)
    if suffix == ".csv":
        return read_csv(path)
    found: np.ndarray | dict[str, np.ndarray]
    try:
        if suffix == ".npy":
            found = np.lib.format.open_memmap(path, "r")
        else:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
                found = {name: members[name] for name in members.files}
    except OSError:
        raise
    except Exception as error:  # NumPy and zipfile raise a dozen types for broken files
        raise ValueError(f"{path}: not a readable {suffix} file: {error}") from error
    for name, values in found.items() if isinstance(found, dict) else [("", found)]:
        if values.dtype.kind not in "biuf":
            which = f" array {name!r}" if name else ""
            raise ValueError(f"{path}:{which} must hold real numbers, got dtype {values.dtype}.")
    return found


def read_csv(path: Path) -> np.ndarray:
    """Read a table of numbers separated by commas.

    A first line in which no field is a number is a header and is left out; empty lines are too.

    Returns
    -------
    ndarray, (rows, columns) float64

    Raises
    ------
    ValueError
        When a field is not a number or a line has another length, with line and column.
    """
    values, columns = array("d"), 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line, fields in _lines(file):
                columns = columns or len(fields)
                if len(fields) != columns:
                    raise ValueError(f"line {line}: expected {columns} columns, got {len(fields)}.")
                for column, field in enumerate(fields, 1):
                    if not _is_number(field):
                        raise ValueError(f"line {line}, column {column}: expected a number, got {field[:40]!r}.")
                    values.append(float(field))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from error
    if not columns:
        raise ValueError(f"{path}: no numbers in this file.")
    return np.frombuffer(values, np.float64).reshape(-1, columns)


def _lines(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Give each line that holds fields with its number, without the header."""
    lines = csv.reader(file)
    for fields in lines:
        header = lines.line_num == 1 and not any(map(_is_number, fields))
        if fields and not header:
            yield lines.line_num, fields


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


@contextmanager
def replacing(path: Path, force: bool) -> Iterator[Path]:
    """Give a name beside `path` to write to, and move that file to `path` when the block ends well.

    Whatever stops the block (Ctrl-C too) removes the unfinished file and leaves `path` as it was.

    Raises
    ------
    FileExistsError
        When `path` exists and `force` is not set.
    OSError
        When the folder cannot be written to; before the block runs.
    """
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already; give --force to replace it.")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    unfinished.open("xb").close()
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_csv(path: Path, values: np.ndarray) -> None:
    """Write an array (rows, ...) as lines of numbers; the steps of a sequence follow each other, a line for each.

    Numbers are written with as many digits as it takes to read the same value back.
    """
    table = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values[:, None]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(map(str, row) for row in table)
