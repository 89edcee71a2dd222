"""Bytes in and out of versions: every copy is hashed while it is written, with one chunk in memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Final

from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.digest import content_digest
from plumbline.serving.repository.names import NativeCodeWatch, verify_file_path
from plumbline.serving.repository.port import FileEntry, PublishedState, PublishedVersion, RepositoryLimits
from plumbline.serving.repository.refusals import (
    ContentChanged,
    FileRefused,
    RepositoryLimitExceeded,
    VersionExists,
    VersionRetired,
    VersionUnusable,
)

__all__ = [
    "CHUNK_BYTES",
    "NOT_CONTENT",
    "copy_checked",
    "copy_in",
    "read_chunks",
    "source_files",
    "verify_usable",
    "walk_files",
]

CHUNK_BYTES: Final = 1 << 20
NOT_CONTENT: Final = frozenset({"calibration.json"})
"""Top-level files that belong to this machine, not to the version: outside of its digest, never sent."""


def verify_usable(version: PublishedVersion) -> PublishedVersion:
    """The version itself, when it may be fetched.

    Raises:
        VersionRetired, VersionUnusable: saying why not.
    """
    ref = version.ref
    if version.state is PublishedState.RETIRED:
        raise VersionRetired(model=ref.model, version=ref.version)
    if version.problem:
        raise VersionUnusable(model=ref.model, version=ref.version, reason=version.problem)
    return version


def copy_checked(
    version: PublishedVersion,
    open_file: Callable[[str], Iterator[bytes]],
    into: Path,
    *,
    limits: RepositoryLimits,
    allow_code: bool,
) -> PublishedVersion:
    """Copy a version whose files are given as chunks; keep nothing unless every byte is as published.

    Args:
        version: what was published.
        open_file: path -> chunks.
        into: folder to make; private to this user.
        limits: of files and bytes.
        allow_code: whether Python files may come.

    Raises:
        as `Repository.fetch`.
    """
    verify_usable(version)
    _verify_limits(version.files, limits)
    if content_digest(version.files) != version.digest:
        raise _changed(version.ref, "the list of files", "it does not have the digest of the version")
    into.mkdir(mode=0o700, parents=True, exist_ok=False)
    try:
        for entry in version.files:
            verify_file_path(entry.path, allow_code=allow_code)
            _copy_one(version.ref, entry, open_file(entry.path), into)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return version


def copy_in(
    files: Mapping[str, Callable[[], Iterator[bytes]]],
    into: Path | None,
    *,
    limits: RepositoryLimits,
    allow_code: bool,
) -> tuple[FileEntry, ...]:
    """Hash files, and write them durably below `into` where given. The caller removes `into` on failure.

    Raises:
        FileRefused, CodeRefused, RepositoryLimitExceeded: as said.
    """
    if len(files) > limits.max_files:
        raise RepositoryLimitExceeded(what="files of a version", found=len(files), limit=limits.max_files)
    entries: list[FileEntry] = []
    total = 0
    for path in sorted(files):
        verify_file_path(path, allow_code=allow_code)
        room = min(limits.max_file_bytes, limits.max_version_bytes - total)
        entry = _hash_one(path, files[path](), room, into)
        total += entry.size_bytes
        if path not in NOT_CONTENT:
            entries.append(entry)
    return tuple(entries)


def source_files(
    source: Path | Mapping[str, bytes], ref: VersionRef, limits: RepositoryLimits
) -> dict[str, Callable[[], Iterator[bytes]]]:
    """What `publish` was given, as path -> reader.

    Raises:
        VersionExists: the source is no folder, or empty.
        FileRefused: the folder holds a link or something that is not a file.
    """
    readers: dict[str, Callable[[], Iterator[bytes]]]
    if isinstance(source, Path):
        if not source.is_dir():
            raise VersionExists(model=ref.model, version=ref.version, reason="the source is not a folder")
        readers = {path: _reader(source / path) for path, _ in walk_files(source, limits)}
    else:
        readers = {path: _slices(content) for path, content in source.items()}
    if not readers:
        raise VersionExists(model=ref.model, version=ref.version, reason="the source has no files")
    return readers


def walk_files(folder: Path, limits: RepositoryLimits) -> list[tuple[str, os.stat_result]]:
    """Relative paths below a folder with their facts, sorted. What tools leave behind is no content: names
    that begin with a dot, and `__pycache__`.

    Raises:
        FileRefused: a symbolic link, or something that is neither file nor folder.
        RepositoryLimitExceeded: too many files.
    """
    found: list[tuple[str, os.stat_result]] = []
    pending = [""]
    while pending:
        inside = pending.pop()
        with os.scandir(folder / inside if inside else folder) as entries:
            for entry in entries:
                path = f"{inside}/{entry.name}" if inside else entry.name
                facts = entry.stat(follow_symlinks=False)
                if entry.name.startswith(".") or entry.name == "__pycache__":
                    continue
                if stat.S_ISLNK(facts.st_mode):
                    raise FileRefused(file=ascii(path), reason="it is a symbolic link")
                if stat.S_ISDIR(facts.st_mode):
                    pending.append(path)
                elif stat.S_ISREG(facts.st_mode):
                    found.append((path, facts))
                else:
                    raise FileRefused(file=ascii(path), reason="it is not a file")
                if len(found) + len(pending) > limits.max_files:
                    raise RepositoryLimitExceeded(
                        what="files of a version", found=len(found) + len(pending), limit=limits.max_files
                    )
    return sorted(found)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The content of a regular file; a link is not followed.

    Raises:
        FileRefused: it cannot be opened, or is no file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileRefused(file=ascii(path.name), reason=error.strerror or "it cannot be opened") from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileRefused(file=ascii(path.name), reason="it is not a file")
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _reader(path: Path) -> Callable[[], Iterator[bytes]]:
    return lambda: read_chunks(path)


def _slices(content: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: (content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES))


def _verify_limits(files: Iterable[FileEntry], limits: RepositoryLimits) -> None:
    sizes = [entry.size_bytes for entry in files]
    for what, found, limit in (
        ("files of a version", len(sizes), limits.max_files),
        ("bytes of a file", max(sizes, default=0), limits.max_file_bytes),
        ("bytes of a version", sum(sizes), limits.max_version_bytes),
    ):
        if found > limit:
            raise RepositoryLimitExceeded(what=what, found=found, limit=limit)


def _copy_one(ref: VersionRef, entry: FileEntry, chunks: Iterator[bytes], into: Path) -> None:
    watch, whole, size = NativeCodeWatch(entry.path), hashlib.sha256(), 0
    target = into / entry.path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _create(target) as file:
        for chunk in chunks:
            size += len(chunk)
            if size > entry.size_bytes:
                raise _changed(ref, entry.path, f"more than its {entry.size_bytes} bytes")
            watch.see(chunk)
            whole.update(chunk)
            file.write(chunk)
    if size != entry.size_bytes:
        raise _changed(ref, entry.path, f"{size} of its {entry.size_bytes} bytes")
    if whole.hexdigest() != entry.sha256:
        raise _changed(ref, entry.path, "its SHA-256 is another")


def _hash_one(path: str, chunks: Iterator[bytes], room: int, into: Path | None) -> FileEntry:
    watch, whole, size = NativeCodeWatch(path), hashlib.sha256(), 0
    target = None if into is None else into / path
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    file = None if target is None else _create(target)
    try:
        for chunk in chunks:
            size += len(chunk)
            if size > room:
                raise RepositoryLimitExceeded(what=f"bytes of {path}", found=size, limit=room)
            watch.see(chunk)
            whole.update(chunk)
            if file is not None:
                file.write(chunk)
        if file is not None:
            os.fsync(file.fileno())
    finally:
        if file is not None:
            file.close()
    return FileEntry(path=path, size_bytes=size, sha256=whole.hexdigest())


def _create(target: Path) -> FileIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return FileIO(os.open(target, flags, 0o600), "wb")


def _changed(ref: VersionRef, file: str, reason: str) -> ContentChanged:
    return ContentChanged(model=ref.model, version=ref.version, file=file, reason=reason)
