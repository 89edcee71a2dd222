"""Where the bytes of a tensor are, without reading them.

A payload is a place: a range of the model file, a range of an external file, or the pieces of a typed
protobuf field. Sizes are known from the index; bytes are touched only when `raw_view` or a decoder asks for
them. Mappings are read-only and zero-copy. A file that another process shortens while it is mapped makes the
operating system raise SIGBUS on access; replace model files by renaming, never in place.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from plumbline.compiler.importers.limits import ImportLimitError
from plumbline.errors import ArtifactError

__all__ = [
    "Buffer",
    "ByteSource",
    "DataField",
    "ExternalFile",
    "ExternalPayload",
    "FieldPayload",
    "FileIdentity",
    "Payload",
    "Piece",
    "RawPayload",
    "StringPayload",
    "UnreadableFileError",
    "open_source",
    "raw_view",
    "verify_regular",
]

Buffer = bytes | mmap.mmap


@dataclass(eq=False, kw_only=True)
class UnreadableFileError(ArtifactError):
    """A file is missing, empty, not a regular file, changed since it was checked, or may not be read."""

    code = "artifact.unreadable_file"
    owner = "compiler.importers"
    template = "{file} cannot be used as {purpose}: {reason}"

    file: str
    purpose: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """What must stay the same for two looks at a path to be the same content."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """The identity in a `stat` result."""
        return cls(
            device=status.st_dev,
            inode=status.st_ino,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class ByteSource:
    """A read-only buffer with a name for messages (never a machine path)."""

    name: str
    buffer: Buffer = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """Bytes in the buffer."""
        return len(self.buffer)


class DataField(StrEnum):
    """The typed repeated fields that can hold tensor elements."""

    FLOAT = "float_data"
    DOUBLE = "double_data"
    INT32 = "int32_data"
    INT64 = "int64_data"
    UINT64 = "uint64_data"


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a source that holds consecutive encoded elements."""

    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPayload:
    """Little-endian elements inside the model file (or inside bytes given by the caller)."""

    source: ByteSource = field(repr=False)
    offset: int
    size_bytes: int


class ExternalFile:
    """One external data file: checked when indexed, mapped at the first read, then shared by its tensors.

    Owner of the mutable mapping: this object; the mapping lives as long as it or an array over it.
    """

    __slots__ = ("_source", "identity", "location", "path", "sha1")

    def __init__(self, *, path: Path, location: str, identity: FileIdentity, sha1: str | None = None) -> None:
        self.path = path
        self.location = location
        self.identity = identity
        self.sha1 = sha1
        self._source: ByteSource | None = None

    @property
    def size_bytes(self) -> int:
        """Size of the file when it was checked."""
        return self.identity.size_bytes

    def source(self) -> ByteSource:
        """The mapped file.

        Raises:
            UnreadableFileError: it is gone, is not the file that was checked, or its SHA-1 differs from the
                one that the model declares.
        """
        if self._source is None:
            source, identity = open_source(self.path, name=self.location, purpose="external data")
            if identity != self.identity:
                raise self._error("the file changed after it was checked")
            if (
                self.sha1 is not None
                and hashlib.sha1(source.buffer, usedforsecurity=False).hexdigest() != self.sha1.lower()
            ):
                raise self._error("its SHA-1 is not the checksum that the model declares")
            self._source = source
        return self._source

    def _error(self, reason: str) -> UnreadableFileError:
        return UnreadableFileError(file=self.location, purpose="external data", reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPayload:
    """Little-endian elements in a file beside the model."""

    file: ExternalFile = field(repr=False)
    offset: int
    size_bytes: int

    @property
    def location(self) -> str:
        """The relative name that the model gives."""
        return self.file.location


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldPayload:
    """Elements in a typed field: fixed-width floats or varints. `size_bytes` is the encoded size."""

    source: ByteSource = field(repr=False)
    field: DataField
    pieces: tuple[Piece, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StringPayload:
    """String elements. They are counted, never decoded: no operation computes with them."""

    count: int
    size_bytes: int


Payload = RawPayload | ExternalPayload | FieldPayload | StringPayload


def raw_view(payload: RawPayload | ExternalPayload) -> memoryview:
    """The payload's bytes, read-only, without a copy.

    Raises:
        UnreadableFileError: an external file is not the one that was checked.
    """
    source = payload.source if isinstance(payload, RawPayload) else payload.file.source()
    return memoryview(source.buffer)[payload.offset : payload.offset + payload.size_bytes]


def open_source(
    path: Path, *, name: str | None = None, purpose: str, limit_bytes: int | None = None
) -> tuple[ByteSource, FileIdentity]:
    """Map a regular, non-empty file for reading; no byte is read. Returns the mapping and its identity.

    Raises:
        UnreadableFileError: there is no such regular, readable, non-empty file.
        ImportLimitError: the file is larger than `limit_bytes`.
    """
    label = name if name is not None else path.name
    try:
        # Non-blocking, so that a named pipe in the place of a file cannot hang the reader.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise UnreadableFileError(file=label, purpose=purpose, reason=_reason(error)) from error
    try:
        status = os.fstat(descriptor)
        verify_regular(status, label, purpose)
        if limit_bytes is not None and status.st_size > limit_bytes:
            raise ImportLimitError(
                file=label, place="the file", limit="bytes", found=status.st_size, allowed=limit_bytes
            )
        buffer = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
    except (OSError, OverflowError, ValueError) as error:
        raise UnreadableFileError(file=label, purpose=purpose, reason=_reason(error)) from error
    finally:
        os.close(descriptor)
    return ByteSource(name=label, buffer=buffer), FileIdentity.of(status)


def verify_regular(status: os.stat_result, label: str, purpose: str) -> None:
    """Refuse what is not a regular, non-empty file.

    Raises:
        UnreadableFileError: naming what it is instead.
    """
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableFileError(file=label, purpose=purpose, reason="it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFileError(file=label, purpose=purpose, reason="it is not a regular file")
    if status.st_size == 0:
        raise UnreadableFileError(file=label, purpose=purpose, reason="it is empty")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
