"""The index file of a folder repository: what was published, with the facts by which a change is seen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.port import FileEntry, PublishedState, PublishedVersion
from plumbline.serving.repository.refusals import IndexDamaged, RepositoryReadOnly

__all__ = ["INDEX_FOLDER", "IndexEntry", "IndexFile", "make_durable"]

INDEX_FOLDER = ".plumbline"
MAX_INDEX_BYTES = 256 << 20
SCHEMA = 1


class IndexedFile(msgspec.Struct, frozen=True, array_like=True):
    """A file and the stamp (size, time, inode) that it had when it was hashed."""

    path: str
    size_bytes: int
    sha256: str
    stamp: tuple[int, int, int]


class IndexEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A version as the index remembers it. Until `settled`, files that nobody published may still change."""

    model: str
    version: str
    inside: str
    digest: str
    revision: str
    order: int
    files: tuple[IndexedFile, ...]
    state: PublishedState = PublishedState.PUBLISHED
    settled: bool = False

    @property
    def ref(self) -> VersionRef:
        """Model and version."""
        return VersionRef(model=self.model, version=self.version)

    def listed(self, problem: str = "") -> PublishedVersion:
        """As the repository lists it."""
        return PublishedVersion(
            ref=self.ref,
            state=self.state,
            files=tuple(FileEntry(path=f.path, size_bytes=f.size_bytes, sha256=f.sha256) for f in self.files),
            digest=self.digest,
            size_bytes=sum(f.size_bytes for f in self.files),
            revision=self.revision,
            order=self.order,
            problem=problem,
        )


class _Document(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    schema: int
    versions: list[IndexEntry]


class IndexFile:
    """Reads and replaces the index of one folder; `locked` excludes other processes while it changes.

    Args:
        root: folder of the repository.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / INDEX_FOLDER
        self._path = self._folder / "index.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock of the repository. Gives whether it can be written at all."""
        try:
            self._folder.mkdir(exist_ok=True)
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield False
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield True
        finally:
            os.close(lock)

    def read(self) -> dict[VersionRef, IndexEntry]:
        """What was written last; empty where there is no index.

        Raises:
            IndexDamaged: the file is not an index of this schema.
        """
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = b"" if size > MAX_INDEX_BYTES else file.read(size)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise IndexDamaged(reason=error.strerror or "it cannot be read") from error
        if size > MAX_INDEX_BYTES:
            raise IndexDamaged(reason=f"more than {MAX_INDEX_BYTES} bytes")
        try:
            document = msgspec.json.decode(data, type=_Document)
        except msgspec.DecodeError as error:
            raise IndexDamaged(reason=str(error)[:200]) from error
        if document.schema != SCHEMA:
            raise IndexDamaged(reason=f"schema {document.schema}, expected {SCHEMA}")
        return {entry.ref: entry for entry in document.versions}

    def write(self, entries: dict[VersionRef, IndexEntry]) -> None:
        """Replace the index at once, durably.

        Raises:
            RepositoryReadOnly: the folder takes no writes.
        """
        ordered = sorted(entries.values(), key=lambda e: (e.model, e.order))
        data = msgspec.json.format(msgspec.json.encode(_Document(schema=SCHEMA, versions=ordered)), indent=1)
        fresh = self._folder / f"index.{secrets.token_hex(8)}.new"
        try:
            with fresh.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            make_durable(self._folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise RepositoryReadOnly(reason=error.strerror or "the index cannot be written") from error


def make_durable(folder: Path) -> None:
    """Names in a folder survive a power cut when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
