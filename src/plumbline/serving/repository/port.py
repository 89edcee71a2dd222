"""`Repository`: where versions of models come from. One port, one suite (`plumbline.testing.repositories`).

All methods block (files, sockets) and are thread-safe; callers on an event loop use a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from plumbline.contracts.inference import VersionRef

__all__ = [
    "EMPTY_FOLDER",
    "FILES_GONE",
    "Correctable",
    "FileEntry",
    "PublishedState",
    "PublishedVersion",
    "Repository",
    "RepositoryLimits",
    "newest_first",
]


EMPTY_FOLDER: Final = "its folder is empty"
"""The problem of a version of which there is a folder and nothing else."""

FILES_GONE: Final = "its files are gone"
"""The problem of a version that was served once and then removed from the repository."""


class PublishedState(StrEnum):
    """What the publisher says about a version."""

    PUBLISHED = "published"
    PINNED = "pinned"
    """Requests that name no version get this one; at most one of a model. It cannot be retired."""
    RETIRED = "retired"
    """Never loaded again. There is no way back: publish another version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a version.

    Attributes:
        path: inside the version, with `/`.
        size_bytes: of its content.
        sha256: of its content, hexadecimal.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """A version as its repository lists it.

    Attributes:
        ref: model and version.
        state: published, pinned or retired.
        files: sorted by path.
        digest: SHA-256 over `files` (`digest.content_digest`), hexadecimal; empty where `problem` says why
            there is none.
        size_bytes: of all files.
        revision: of the source, as its publisher stated it; `sha256:DIGEST` for files that nobody published.
        order: grows with every version that the repository learns of.
        problem: why it cannot be fetched; empty when it can.
        note: what lies with its model and means nothing here, for the operator; empty for nothing.
    """

    ref: VersionRef
    state: PublishedState = PublishedState.PUBLISHED
    files: tuple[FileEntry, ...] = ()
    digest: str = ""
    size_bytes: int = 0
    revision: str = ""
    order: int = 0
    problem: str = ""
    note: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it is a folder without files, and never was more."""
        return self.problem == EMPTY_FOLDER and not self.digest

    @property
    def has_no_files(self) -> bool:
        """Whether it has no files now: it is listed, and never wanted unless it is named or pinned."""
        return self.problem in (EMPTY_FOLDER, FILES_GONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryLimits:
    """Bounds of what a repository takes and gives.

    Attributes:
        max_files: of one version.
        max_file_bytes: of one file.
        max_version_bytes: of all files of a version.
        max_versions: of the whole repository.
    """

    max_files: int = 10_000
    max_file_bytes: int = 64 << 30
    max_version_bytes: int = 128 << 30
    max_versions: int = 10_000


class Repository(Protocol):
    """Versions with digests. A version never changes once it is published."""

    @property
    def allow_code(self) -> bool:
        """Whether versions may bring Python code. Native code is refused from every repository."""

    def versions(self) -> Sequence[PublishedVersion]:
        """Every version, by model and `order`.

        Raises:
            PlumblineError: the repository cannot be read (a single bad version is listed with its problem).
        """

    def open_file(self, ref: VersionRef, path: str) -> Iterator[bytes]:
        """The content of one file in chunks of bounded size, unchecked.

        Raises:
            ModelUnknown, VersionUnknown, FileRefused: there is no such version or file.
        """

    def fetch(self, ref: VersionRef, into: Path) -> PublishedVersion:
        """Copy a version, hashed while written, with bounded memory.

        Args:
            ref: which.
            into: folder to make; it must not exist.

        Returns:
            The version whose digest the copy has.

        Raises:
            VersionRetired, VersionUnusable: it is not for use.
            ContentChanged: one byte differs from what was published.
            FileRefused, CodeRefused, RepositoryLimitExceeded: it holds what no version may hold.
            After any of them `into` does not exist.
        """

    def publish(
        self, ref: VersionRef, source: Path | Mapping[str, bytes], *, revision: str
    ) -> PublishedVersion:
        """Add a version; the same content again changes nothing.

        Args:
            ref: new.
            source: a folder, or content by path.
            revision: of the source, such as a commit; not empty.

        Raises:
            VersionExists: with other content. Nothing was changed.
            NameRefused, FileRefused, CodeRefused, RepositoryLimitExceeded, SettingsRefused: as said.
        """

    def pin(self, ref: VersionRef) -> PublishedVersion:
        """Make it the version of requests that name none; another pinned version of the model is unpinned.

        Raises:
            VersionRetired: it is retired.
        """

    def unpin(self, ref: VersionRef) -> PublishedVersion:
        """Take the pin away; nothing happens where there is none."""

    def retire(self, ref: VersionRef) -> PublishedVersion:
        """End its use.

        Raises:
            VersionPinned: it is pinned.
        """


@runtime_checkable
class Correctable(Protocol):
    """A repository of files that somebody just put there: they may be corrected until they were used once."""

    def reopen(self, ref: VersionRef) -> None:
        """The copy that was fetched last could not be used, so its files may change.

        Nothing happens where an earlier copy was fetched and not reopened, or the version was published.
        """


def newest_first(versions: Sequence[PublishedVersion]) -> list[PublishedVersion]:
    """Versions of one model, newest first: numbers by value; names after all numbers, by publish order.

    >>> some = [PublishedVersion(ref=VersionRef(model="m", version=v)) for v in ("2", "10", "beta")]
    >>> [v.ref.version for v in newest_first(some)]
    ['10', '2', 'beta']
    """
    return sorted(versions, key=_age_key, reverse=True)


def _age_key(version: PublishedVersion) -> tuple[int, int, int]:
    name = version.ref.version
    if name.isascii() and name.isdigit():
        return (1, int(name), version.order)
    return (0, version.order, 0)
