"""Looks at a folder and says what its index should hold, and what is wrong with which version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from plumbline.contracts.inference import VersionRef
from plumbline.errors import PlumblineError
from plumbline.serving.repository.digest import content_digest
from plumbline.serving.repository.folder_index import IndexedFile, IndexEntry
from plumbline.serving.repository.layout import Placed, find_placed, stamp
from plumbline.serving.repository.port import FILES_GONE, FileEntry, PublishedState, RepositoryLimits
from plumbline.serving.repository.refusals import RepositoryFolderGone
from plumbline.serving.repository.transfer import NOT_CONTENT, copy_in, read_chunks, walk_files

__all__ = ["index_files", "scan"]

Index = Mapping[VersionRef, IndexEntry]


def scan(
    root: Path, before: Index, limits: RepositoryLimits, *, allow_code: bool
) -> tuple[dict[VersionRef, IndexEntry], dict[VersionRef, str]]:
    """The index as it should be now, and what is wrong with which version.

    A file is hashed again only when its size, time or inode changed; `fetch` hashes every byte anyway. A
    version that was published or fetched keeps its entry whatever happens to its files.

    Args:
        root: of the repository.
        before: index of the last time.
        limits: of the repository.
        allow_code: whether versions may hold Python code.

    Raises:
        RepositoryFolderGone: the folder itself cannot be read.
    """
    try:
        placed = find_placed(root)
    except OSError as error:
        raise RepositoryFolderGone(reason=error.strerror or type(error).__name__) from error
    after: dict[VersionRef, IndexEntry] = {}
    problems: dict[VersionRef, str] = {}
    order = 1 + max((entry.order for entry in before.values()), default=-1)
    for place in sorted(placed, key=_natural):
        known = before.get(place.ref)
        try:
            entry, problem = _entry(root, place, known, order, limits, allow_code)
        except PlumblineError as error:
            entry, problem = known, error.message
        except OSError as error:
            entry, problem = known, error.strerror or "it cannot be read"
        if entry is not None:
            after[place.ref] = entry
            order += known is None
        if problem:
            problems[place.ref] = problem
    for ref, entry in before.items():
        if ref not in after and entry.settled:
            after[ref] = entry
            if entry.state is not PublishedState.RETIRED:
                problems.setdefault(ref, FILES_GONE)
    return after, problems


def index_files(files: Sequence[FileEntry], folder: Path) -> tuple[IndexedFile, ...]:
    """Files with the stamps that they have now below `folder`."""
    return tuple(IndexedFile(f.path, f.size_bytes, f.sha256, stamp((folder / f.path).lstat())) for f in files)


def _entry(
    root: Path,
    place: Placed,
    known: IndexEntry | None,
    order: int,
    limits: RepositoryLimits,
    allow_code: bool,
) -> tuple[IndexEntry | None, str]:
    if place.problem:
        return known, place.problem
    folder = root / place.inside
    walked = [(path, stamp(facts)) for path, facts in walk_files(folder, limits) if path not in NOT_CONTENT]
    if known is not None and known.inside == place.inside and _stamps(known) == walked:
        return known, ""
    readers = {path: (lambda at=folder / path: read_chunks(at)) for path, _ in walked}
    hashed = copy_in(readers, None, limits=limits, allow_code=allow_code)
    stamps = dict(walked)
    files = tuple(IndexedFile(f.path, f.size_bytes, f.sha256, stamps[f.path]) for f in hashed)
    digest = content_digest(hashed)
    if known is not None and known.digest == digest:
        return msgspec.structs.replace(known, files=files, inside=place.inside), ""
    if known is not None and known.settled:
        kept = f"its files changed since {_short(known.digest)} was first used"
        return known, f"{kept}; put them back, or put the new ones into a new version"
    fresh = IndexEntry(
        model=place.ref.model,
        version=place.ref.version,
        inside=place.inside,
        digest=digest,
        revision=f"sha256:{digest}",
        order=order if known is None else known.order,
        files=files,
    )
    return fresh, ""


def _stamps(entry: IndexEntry) -> list[tuple[str, tuple[int, int, int]]]:
    return [(file.path, file.stamp) for file in entry.files]


def _natural(place: Placed) -> tuple[str, int, int, str]:
    version = place.ref.version
    numeric = version.isascii() and version.isdigit() and len(version) < 19
    return (place.ref.model, 0 if numeric else 1, int(version) if numeric else 0, version)


def _short(digest: str) -> str:
    return f"sha256:{digest[:12]}"
