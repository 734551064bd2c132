"""Members of a ``.keras`` archive, read by exact name and within limits; nothing is ever extracted to disk."""

import zipfile
import zlib
from pathlib import Path
from types import TracebackType

from numbalstm.io.errors import ModelFileError

MAX_EXPANSION = 200
"""A compressed member may declare at most this many times its stored size: real weights hardly compress at all."""

FREE_BYTES = 1 << 20
"""Members up to this size are read whatever their compression ratio: configs are repetitive text."""

_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK_BYTES = 1 << 20
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)


class KerasArchive:
    """A ``.keras`` file opened for reading; a context manager.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ModelFileError
        When the file is no zip archive, or holds two members of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except _ZIP_ERRORS as error:
            raise ModelFileError(f"{path}: is truncated or no zip archive: {error}.") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            if member.filename in self._members:
                self._zip.close()
                raise ModelFileError(f"{path}: has two members named {member.filename!r}.")
            self._members[member.filename] = member

    def __enter__(self) -> "KerasArchive":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Return a member's bytes.

        Parameters
        ----------
        name : str
            The exact name.
        limit : int, optional
            Most bytes the member may have; None leaves only the rule of `MAX_EXPANSION`.

        Raises
        ------
        ModelFileError
            When there is no such member, it is larger than `limit`, encrypted, packed by an unusual method, inflates
            beyond `MAX_EXPANSION`, or its checksum is wrong.
        """
        member = self._member(name, limit)
        try:
            with self._zip.open(member) as stream:
                data = bytearray()
                while chunk := stream.read(_CHUNK_BYTES):
                    data += chunk
                    if len(data) > member.file_size:
                        raise ModelFileError(f"{self.path}: {name}: holds more bytes than it declares.")
        except ModelFileError:
            raise
        except _ZIP_ERRORS as error:
            raise ModelFileError(f"{self.path}: {name}: is corrupt: {error}.") from error
        if len(data) != member.file_size:
            raise ModelFileError(f"{self.path}: {name}: declares {member.file_size} bytes but holds {len(data)}.")
        return bytes(data)

    def _member(self, name: str, limit: int | None) -> zipfile.ZipInfo:
        """Return the directory entry of a member that may be read."""
        member = self._members.get(name)
        if member is None:
            known = ", ".join(sorted(self._members)[:10]) or "nothing"
            raise ModelFileError(f"{self.path}: has no member {name!r}; it holds {known}.")
        where = f"{self.path}: {name}"
        if member.flag_bits & _ENCRYPTED:
            raise ModelFileError(f"{where}: is encrypted.")
        if member.compress_type not in _METHODS:
            raise ModelFileError(f"{where}: is packed by zip method {member.compress_type}; only 0 and 8 are read.")
        if limit is not None and member.file_size > limit:
            raise ModelFileError(f"{where}: declares {member.file_size} bytes, more than the {limit} allowed.")
        if member.file_size > max(FREE_BYTES, MAX_EXPANSION * member.compress_size):
            raise ModelFileError(
                f"{where}: declares {member.file_size} bytes in {member.compress_size} stored ones; "
                f"more than {MAX_EXPANSION} to 1 is refused."
            )
        return member
