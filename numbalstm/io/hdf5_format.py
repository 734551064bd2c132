"""The parts of the HDF5 file format (HDF Group, specification version 3.0) that Keras's files are made of.

Every position is checked against the end of the file, every walk against going round in circles.  The HDF5 library is
not used because it trusts its input: damaged files make it run for ever (seen with HDF5 2.0.0) or take gigabytes.
"""

import mmap
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from numbalstm.io.errors import ModelFileError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1
MAX_STEPS = 2_000_000
"""Most header messages and group entries in all; a model of 10000 layers has a quarter of them."""

# Message types of object headers.
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE = (
    0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0B, 0x0C, 0x10, 0x11,
)  # fmt: skip
ATTRIBUTE_INFO = 0x15

SHARED = 0x2  # message flag: the data stand elsewhere
_SOFT_ENTRY = 2  # cache type of a soft link in an old-style group
_HARD_LINK = 0
# Bits of a float: sign at, exponent at, exponent size, mantissa at, mantissa size, bias.
_FLOATS = {
    (15, 10, 5, 0, 10, 15): "f2",
    (31, 23, 8, 0, 23, 127): "f4",
    (63, 52, 11, 0, 52, 1023): "f8",
    (15, 7, 8, 0, 7, 127): "bfloat16",
}


class Message(NamedTuple):
    """One message of an object header: its type and where its data are."""

    kind: int
    flags: int
    start: int
    size: int


class Datatype(NamedTuple):
    """An element type: `kind` is "f2", "f4", "f8", "bfloat16", "text" (fixed length), "texts" (variable) or "other"."""

    kind: str
    size: int
    order: str = "<"


class Raw:
    """A file's bytes, read by checked positions.

    Parameters
    ----------
    data : bytes or mmap
    label : str
        Opens the messages of errors.
    """

    def __init__(self, data: bytes | mmap.mmap, label: str) -> None:
        self.data = data
        self.label = label
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._steps = 0

    def error(self, position: int, problem: str) -> ModelFileError:
        """Return (not raise) the error for a place in the file."""
        return ModelFileError(f"{self.label}: is damaged or truncated: {problem} at byte {position}.")

    def take(self, position: int, size: int) -> bytes:
        """Return `size` bytes."""
        if not 0 <= position <= position + size <= len(self.data):
            raise self.error(position, f"{size} bytes are expected, beyond the end of the file,")
        return self.data[position : position + size]

    def uint(self, position: int, width: int) -> int:
        """Return a little-endian integer."""
        return int.from_bytes(self.take(position, width), "little")

    def expect(self, position: int, signature: bytes) -> None:
        """Raise unless the bytes are these."""
        if self.take(position, len(signature)) != signature:
            raise self.error(position, f"{signature!r} is expected")

    # Superblock and object headers

    def root(self) -> int:
        """Return the address of the root group's header."""
        self.expect(0, SIGNATURE)
        version = self.uint(8, 1)
        if version > 3:
            raise self.error(8, f"superblock version {version} is not known")
        widths, base, end, root = ((13, 24, 40, 64), (13, 28, 44, 68), (9, 12, 28, 36), (9, 12, 28, 36))[version]
        if self.uint(widths, 2) != 0x0808 or self.uint(base, 8) != 0:
            raise self.error(widths, "an HDF5 superblock of an unusual kind")
        if self.uint(end, 8) > len(self.data):
            raise ModelFileError(f"{self.label}: is truncated: {self.uint(end, 8)} bytes are {len(self.data)} now.")
        return self.uint(root, 8)

    def messages(self, address: int) -> list[Message]:
        """Return the messages of the object header at an address."""
        if self.take(address, 4) == b"OHDR":
            return self._new_messages(address)
        self.expect(address, b"\x01")
        blocks, found = [(address + 16, self.uint(address + 8, 4))], []
        for start, size in blocks:
            position, end = start, start + size
            while position + 8 <= end:
                message = Message(
                    self.uint(position, 2), self.uint(position + 4, 1), position + 8, self.uint(position + 2, 2)
                )
                found.append(self._checked(message, end))
                self._continue(message, blocks)
                position = message.start + message.size
        return found

    def _new_messages(self, address: int) -> list[Message]:
        """Return the messages of a header of version 2."""
        flags = self.uint(address + 5, 1)
        position = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 0x3)
        head = 6 if flags & 0x4 else 4
        blocks, found = [(position + width, self.uint(position, width))], []
        for number, (start, size) in enumerate(blocks):
            position, end = start, start + size
            if number:
                self.expect(start, b"OCHK")
                position, end = start + 4, end - 4
            while position + head <= end:
                message = Message(
                    self.uint(position, 1), self.uint(position + 3, 1), position + head, self.uint(position + 1, 2)
                )
                found.append(self._checked(message, end))
                self._continue(message, blocks)
                position = message.start + message.size
        return found

    def _checked(self, message: Message, end: int) -> Message:
        if message.start + message.size > end:
            raise self.error(message.start, "a header message that leaves its header")
        return message

    def _continue(self, message: Message, blocks: list[tuple[int, int]]) -> None:
        """Add the block that a continuation message points to."""
        self._step(message.start)
        if message.kind == CONTINUATION:
            blocks.append((self.uint(message.start, 8), self.uint(message.start + 8, 8)))

    def _step(self, position: int) -> None:
        """Count a step through the file; a walk in circles ends here."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise self.error(position, f"more than {MAX_STEPS} header messages and group entries")

    # Groups

    def links(self, messages: list[Message]) -> Iterator[tuple[str, int | None]]:
        """Yield names and header addresses of a group's members; None for a link that is no hard link."""
        for message in messages:
            if message.kind == SYMBOL_TABLE:
                yield from self._old_links(self.uint(message.start, 8), self.uint(message.start + 8, 8))
            elif message.kind == LINK:
                yield self._new_link(message.start)
            elif message.kind == LINK_INFO:
                flags = self.uint(message.start + 1, 1)
                if self.uint(message.start + (10 if flags & 0x1 else 2), 8) != UNDEFINED:
                    raise ModelFileError(
                        f"{self.label}: holds a group in HDF5's dense layout, which Keras does not write "
                        f"(byte {message.start}). Repack it with 'h5repack --low=0'."
                    )

    def _old_links(self, tree: int, heap: int) -> Iterator[tuple[str, int | None]]:
        """Yield the links of a group with a version 1 B-tree and a local heap of names."""
        self.expect(heap, b"HEAP")
        names, size = self.uint(heap + 24, 8), self.uint(heap + 8, 8)
        pending = [tree]
        while pending:
            node = pending.pop()
            self.expect(node, b"TREE\0")
            level, count = self.uint(node + 5, 1), self.uint(node + 6, 2)
            children = [self.uint(node + 32 + 16 * index, 8) for index in range(count)]
            self._step(node)
            if level:
                pending += children
            else:
                for child in children:
                    yield from self._symbols(child, names, size)

    def _symbols(self, node: int, names: int, size: int) -> Iterator[tuple[str, int | None]]:
        self.expect(node, b"SNOD\x01")
        for index in range(self.uint(node + 6, 2)):
            entry = node + 8 + 40 * index
            self._step(entry)
            offset = self.uint(entry, 8)
            if offset >= size:
                raise self.error(entry, "a name outside of its heap")
            name = self.take(names + offset, min(size - offset, 4096)).partition(b"\0")[0]
            soft = self.uint(entry + 16, 4) == _SOFT_ENTRY
            yield self.text(name, entry), None if soft else self.uint(entry + 8, 8)

    def _new_link(self, start: int) -> tuple[str, int | None]:
        flags = self.uint(start + 1, 1)
        position = start + 2
        kind = _HARD_LINK
        if flags & 0x8:
            kind, position = self.uint(position, 1), position + 1
        position += (8 if flags & 0x4 else 0) + (1 if flags & 0x10 else 0)
        width = 1 << (flags & 0x3)
        length = self.uint(position, width)
        name = self.text(self.take(position + width, length), start)
        return name, self.uint(position + width + length, 8) if kind == _HARD_LINK else None

    # Attributes, types, shapes and texts

    def attribute(self, start: int) -> tuple[str, Datatype, tuple[int, ...] | None, int]:
        """Return an attribute's name, element type and shape, and where its data are."""
        version, flags = self.uint(start, 1), self.uint(start + 1, 1)
        if version not in (1, 2, 3) or (version > 1 and flags & 0x3):
            raise self.error(start, "an attribute of an unusual kind")
        sizes = [self.uint(start + offset, 2) for offset in (2, 4, 6)]
        position = start + (9 if version == 3 else 8)
        places = []
        for size in sizes:
            places.append(position)
            position += (size + 7) // 8 * 8 if version == 1 else size
        name = self.take(places[0], sizes[0]).partition(b"\0")[0]
        return self.text(name, start), self.datatype(places[1]), self.shape(places[2]), position

    def has_dense_attributes(self, start: int) -> bool:
        """Return whether an attribute info message points to a heap of attributes."""
        return self.uint(start + (4 if self.uint(start + 1, 1) & 0x1 else 2), 8) != UNDEFINED

    def shape(self, start: int) -> tuple[int, ...] | None:
        """Return the shape in a dataspace; None for the empty one."""
        version, rank = self.uint(start, 1), self.uint(start + 1, 1)
        if version not in (1, 2) or rank > 32:
            raise self.error(start, "a dataspace of an unknown kind")
        if version == 2 and self.uint(start + 3, 1) == 2:
            return None
        first = start + (8 if version == 1 else 4)
        return tuple(self.uint(first + 8 * axis, 8) for axis in range(rank))

    def datatype(self, start: int) -> Datatype:
        """Return the element type in a datatype message."""
        kind, size = self.uint(start, 1) & 0xF, self.uint(start + 4, 4)
        bits = self.take(start + 1, 3)
        if kind == 1 and not bits[0] & 0x40:
            layout = (bits[1], *self.take(start + 12, 4), self.uint(start + 16, 4))
            name = _FLOATS.get(layout, "other")
            fits = (bits[1] + 1) == 8 * size  # the sign is the highest bit
            return Datatype(name if fits else "other", size, ">" if bits[0] & 0x1 else "<")
        if kind == 3:
            return Datatype("text", size)
        if kind == 5 and size == 2:
            return Datatype("bfloat16", size)  # h5py's form of it: two opaque bytes
        if kind == 9 and bits[0] & 0xF == 1 and size == 16:
            return Datatype("texts", size)
        return Datatype("other", size)

    def heap_text(self, position: int) -> bytes:
        """Return the text of variable length whose length, heap address and index stand at `position`."""
        length, heap, index = self.uint(position, 4), self.uint(position + 4, 8), self.uint(position + 12, 4)
        if length == 0:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = self._heap_objects(heap)
        start, size = self._heaps[heap].get(index, (0, 0))
        if length > size:
            raise self.error(position, f"a text of {length} bytes, longer than what its heap holds,")
        return self.take(start, length)

    def _heap_objects(self, heap: int) -> dict[int, tuple[int, int]]:
        """Return where the objects of a global heap are, and their sizes, by index."""
        self.expect(heap, b"GCOL\x01")
        end, position, found = heap + self.uint(heap + 8, 8), heap + 16, {}
        while position + 16 <= end:
            index, size = self.uint(position, 2), self.uint(position + 8, 8)
            if index == 0:  # unused from here on
                break
            found[index] = (position + 16, size)
            position += 16 + (size + 7) // 8 * 8
        return found

    def text(self, data: bytes, position: int) -> str:
        """Return bytes as text."""
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self.error(position, f"a text that is no UTF-8 ({error})") from error


def as_float(data: bytes, datatype: Datatype, shape: tuple[int, ...]) -> np.ndarray:
    """Return stored floats as a new array in native order; bfloat16 values as float32."""
    if datatype.kind != "bfloat16":
        array = np.frombuffer(data, datatype.order + datatype.kind).reshape(shape)
        return array.astype(array.dtype.newbyteorder("="))
    bits = np.frombuffer(data, datatype.order + "u2").astype(np.uint32)
    return (bits << np.uint32(16)).view(np.float32).reshape(shape)
