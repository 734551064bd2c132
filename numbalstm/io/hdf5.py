"""HDF5 files that nobody vouches for: what is declared is checked before memory is taken.

Keras writes plain contiguous datasets behind hard links.  Everything else that HDF5 offers (links to other files,
virtual and external datasets, filters, references) is refused by name.
"""

import math
import mmap
from pathlib import Path
from types import TracebackType

import numpy as np

from numbalstm.io import hdf5_format as form
from numbalstm.io.errors import ModelFileError

MAX_TEXT_BYTES = 1 << 24
"""Longest text attribute, or list of them: model configs have some kilobytes per layer."""
MAX_OBJECTS = 100_000
MAX_DEPTH = 64


class StoredArray:
    """A dataset of floats that passed the checks; its data are not read yet.

    Attributes
    ----------
    path : str
        Path in the file.
    shape : tuple of int
    nbytes : int
        Size of the stored data.
    """

    def __init__(self, file: "Hdf5File", path: str, messages: list[form.Message]) -> None:
        self.path = path
        self._raw = file.raw
        where = file.where(path)
        found = {message.kind: message for message in messages}
        if form.FILTERS in found or form.EXTERNAL_FILES in found:
            kind = "filtered (compressed)" if form.FILTERS in found else "external"
            raise ModelFileError(f"{where}: is a {kind} dataset, which Keras does not write.{_REPACK}")
        if form.DATASPACE not in found or form.DATATYPE not in found:
            raise ModelFileError(f"{where}: is damaged: a dataset without a shape or a type.")
        shape = file.raw.shape(found[form.DATASPACE].start)
        self._datatype = file.raw.datatype(found[form.DATATYPE].start)
        if self._datatype.kind not in ("f2", "f4", "f8", "bfloat16") or found[form.DATATYPE].flags & form.SHARED:
            raise ModelFileError(f"{where}: holds no floats of 16, 32 or 64 bits, the only numbers that are read.")
        if shape is None:
            raise ModelFileError(f"{where}: has no elements and no shape.")
        self.shape = shape
        self.nbytes = math.prod(shape) * self._datatype.size
        self._start, stored = _extent(file.raw, found[form.LAYOUT].start, where)
        # Axes of size 0 must not hide others that no file of this size can have.
        extent = math.prod(max(size, 1) for size in shape) * self._datatype.size
        if stored < self.nbytes or max(extent, self._start + self.nbytes) > file.size:
            raise ModelFileError(
                f"{where}: declares shape {shape}, {self.nbytes} bytes, but the file holds "
                f"{max(0, min(stored, file.size - self._start))} for it."
            )

    def read(self) -> np.ndarray:
        """Return the data: a new float16, float32 or float64 array; bfloat16 values come as float32."""
        data = self._raw.take(self._start, self.nbytes) if self.nbytes else b""
        return form.as_float(data, self._datatype, self.shape)


class Hdf5File:
    """An HDF5 file opened for guarded reading; a context manager.

    Parameters
    ----------
    source : Path or bytes
        The file, or its contents.
    label : str
        What messages call it.

    Raises
    ------
    ModelFileError
        When it is no HDF5 file or is damaged.
    """

    def __init__(self, source: Path | bytes, label: str) -> None:
        self.label = label
        self._map = None
        if not isinstance(source, bytes):
            with source.open("rb") as file:
                source = self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size = len(source)
        self.raw = form.Raw(source, label)
        self._headers: dict[int, list[form.Message]] = {}
        self._members: dict[int, dict[str, int | None]] = {}
        try:
            self._root = self.raw.root()
        except ModelFileError:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> "Hdf5File":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._map is not None:
            self._map.close()

    def where(self, path: str) -> str:
        """Return the file and a path in it as the start of a message."""
        return f"{self.label}: {path}" if path else self.label

    def has(self, name: str) -> bool:
        """Return whether the root group has a member of this name."""
        return name in self._links(self._root)

    def text(self, path: str, name: str) -> str | None:
        """Return a text attribute of the group at `path` ("" is the root); None where there is none."""
        values = self._attribute(path, name)
        if values is not None and len(values) != 1:
            raise ModelFileError(f"{self.where(path)}: attribute {name!r} must be one text, got {len(values)}.")
        return None if values is None else values[0]

    def names(self, path: str, name: str) -> list[str] | None:
        """Return an attribute that lists names, joined from its numbered parts when it was split; None if absent."""
        values = self._attribute(path, name)
        if values is not None:
            return values
        joined: list[str] = []
        part = 0
        while (values := self._attribute(path, f"{name}{part}")) is not None:
            joined += values
            part += 1
        return joined if part else None

    def dataset(self, path: str) -> StoredArray:
        """Return the dataset at `path`, checked but not read."""
        messages = self._messages(self._address(path))
        if not _is_dataset(messages):
            raise ModelFileError(f"{self.where(path)}: must be a dataset.")
        return StoredArray(self, path, messages)

    def dataset_paths(self, path: str) -> list[str]:
        """Return the paths of all datasets under a group."""
        seen: set[int] = set()
        pending, found = [path], []
        while pending:
            place = pending.pop()
            address = self._address(place)
            if _is_dataset(self._messages(address)):
                found.append(place)
                continue
            if address in seen:
                raise ModelFileError(f"{self.where(place)}: is a group that stands in two places.")
            seen.add(address)
            pending += [f"{place}/{name}" for name in self._links(address)]
            if len(pending) + len(found) + len(seen) > MAX_OBJECTS:
                raise ModelFileError(f"{self.where(place)}: the file has more than {MAX_OBJECTS} objects.")
        return found

    def _address(self, path: str) -> int:
        """Return the header's address of what stands at `path`, reached by hard links alone."""
        parts = path.split("/") if path else []
        if len(parts) > MAX_DEPTH:
            raise ModelFileError(f"{self.where(path[:200])}: is deeper than {MAX_DEPTH} groups.")
        address = self._root
        for depth, part in enumerate(parts, 1):
            members = self._links(address)
            if part not in members:
                raise ModelFileError(f"{self.where('/'.join(parts[:depth]))}: is missing.")
            target = members[part]
            if target is None:
                raise ModelFileError(
                    f"{self.where('/'.join(parts[:depth]))}: is a soft or external link; only hard links are followed."
                )
            address = target
        return address

    def _messages(self, address: int) -> list[form.Message]:
        if address not in self._headers:
            self._headers[address] = self.raw.messages(address)
        return self._headers[address]

    def _links(self, address: int) -> dict[str, int | None]:
        """Return a group's members by name; each name once."""
        if address not in self._members:
            members: dict[str, int | None] = {}
            for name, target in self.raw.links(self._messages(address)):
                if name in members or not name or "/" in name or name in (".", ".."):
                    raise self.raw.error(address, f"a group with the unusable or repeated name {name[:80]!r}")
                members[name] = target
            self._members[address] = members
        return self._members[address]

    def _attribute(self, path: str, name: str) -> list[str] | None:
        """Return a text attribute, scalar or one-dimensional, as a list of texts; None where there is none."""
        for message in self._messages(self._address(path)):
            if message.kind == form.ATTRIBUTE:
                found, datatype, shape, data = self.raw.attribute(message.start)
                if found == name:
                    return self._texts(f"{self.where(path)}: attribute {name!r}", datatype, shape, data)
            elif message.kind == form.ATTRIBUTE_INFO and self.raw.has_dense_attributes(message.start):
                raise ModelFileError(f"{self.where(path)}: keeps its attributes in HDF5's dense layout.{_REPACK}")
        return None

    def _texts(self, where: str, datatype: form.Datatype, shape: tuple[int, ...] | None, data: int) -> list[str]:
        count = 0 if shape is None else math.prod(shape)
        if count == 0:
            return []
        if datatype.kind not in ("text", "texts") or len(shape or ()) > 1:
            raise ModelFileError(f"{where} must hold text.")
        if count * datatype.size > min(self.size, MAX_TEXT_BYTES):
            raise ModelFileError(f"{where} declares {count} texts of {datatype.size} bytes.")
        texts, total = [], 0
        for position in range(data, data + count * datatype.size, datatype.size):
            fixed = datatype.kind == "text"
            text = self.raw.take(position, datatype.size) if fixed else self.raw.heap_text(position)
            total += len(text)
            if total > MAX_TEXT_BYTES:
                raise ModelFileError(f"{where} holds more than {MAX_TEXT_BYTES} bytes of text.")
            texts.append(self.raw.text(text.rstrip(b"\0"), position))
        return texts


_REPACK = " Repack the file with 'h5repack -f NONE -l CONTI --low=0 --high=2'."


def _is_dataset(messages: list[form.Message]) -> bool:
    return any(message.kind == form.LAYOUT for message in messages)


def _extent(raw: form.Raw, start: int, where: str) -> tuple[int, int]:
    """Return where a dataset's data begin and how many bytes they have, from its layout message."""
    version, kind = raw.uint(start, 1), raw.uint(start + 1, 1)
    if version not in (3, 4) or kind > 1:
        name = {2: "a chunked", 3: "a virtual"}.get(kind, "an unknown") if version in (3, 4) else "an outdated"
        raise ModelFileError(f"{where}: has {name} layout; Keras writes contiguous datasets.{_REPACK}")
    if kind == 0:
        return start + 4, raw.uint(start + 2, 2)
    address, size = raw.uint(start + 2, 8), raw.uint(start + 10, 8)
    return (0, 0) if address == form.UNDEFINED else (address, size)
