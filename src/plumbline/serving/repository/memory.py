"""`MemoryRepository`: versions held in this process, for tests and for library use."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.digest import content_digest
from plumbline.serving.repository.names import verify_ref
from plumbline.serving.repository.port import PublishedState, PublishedVersion, RepositoryLimits
from plumbline.serving.repository.refusals import FileRefused
from plumbline.serving.repository.shelf import change_state, find_version, verify_new, verify_revision
from plumbline.serving.repository.transfer import NOT_CONTENT, copy_checked, copy_in, source_files

__all__ = ["MemoryRepository"]


class MemoryRepository:
    """Owns its versions and their bytes.

    Args:
        limits: of what it takes.
        allow_code: whether versions may hold Python code.
    """

    def __init__(self, *, limits: RepositoryLimits | None = None, allow_code: bool = False) -> None:
        self.allow_code = allow_code
        self._limits = limits or RepositoryLimits(max_file_bytes=1 << 30, max_version_bytes=2 << 30)
        self._lock = threading.Lock()
        self._shelf: dict[VersionRef, PublishedVersion] = {}
        self._content: dict[VersionRef, dict[str, bytes]] = {}

    def versions(self) -> Sequence[PublishedVersion]:
        """Every version, by model and order."""
        with self._lock:
            return sorted(self._shelf.values(), key=lambda v: (v.ref.model, v.order))

    def open_file(self, ref: VersionRef, path: str) -> Iterator[bytes]:
        """The content of one file, in one chunk."""
        with self._lock:
            find_version(self._shelf, ref)
            content = self._content[ref].get(path)
        if content is None:
            raise FileRefused(file=ascii(path), reason="the version has no such file")
        return iter((content,))

    def fetch(self, ref: VersionRef, into: Path) -> PublishedVersion:
        """Copy a version; see the port."""
        with self._lock:
            version = find_version(self._shelf, ref)
        return copy_checked(
            version,
            lambda path: self.open_file(ref, path),
            into,
            limits=self._limits,
            allow_code=self.allow_code,
        )

    def publish(
        self, ref: VersionRef, source: Path | Mapping[str, bytes], *, revision: str
    ) -> PublishedVersion:
        """Add a version; see the port."""
        verify_ref(ref)
        verify_revision(revision)
        readers = source_files(source, ref, self._limits)
        files = copy_in(readers, None, limits=self._limits, allow_code=self.allow_code)
        content = {path: b"".join(read()) for path, read in readers.items() if path not in NOT_CONTENT}
        version = PublishedVersion(
            ref=ref,
            files=files,
            digest=content_digest(files),
            size_bytes=sum(entry.size_bytes for entry in files),
            revision=revision,
        )
        with self._lock:
            if known := verify_new(self._shelf, version, self._limits):
                return known
            order = 1 + max((v.order for v in self._shelf.values()), default=-1)
            self._shelf[ref] = replace(version, order=order)
            self._content[ref] = content
            return self._shelf[ref]

    def pin(self, ref: VersionRef) -> PublishedVersion:
        """Pin; see the port."""
        return self._change(ref, PublishedState.PINNED)

    def unpin(self, ref: VersionRef) -> PublishedVersion:
        """Unpin; see the port."""
        return self._change(ref, PublishedState.PUBLISHED)

    def retire(self, ref: VersionRef) -> PublishedVersion:
        """Retire; see the port."""
        return self._change(ref, PublishedState.RETIRED)

    def _change(self, ref: VersionRef, state: PublishedState) -> PublishedVersion:
        with self._lock:
            self._shelf.update(change_state(self._shelf, ref, state))
            return self._shelf[ref]
