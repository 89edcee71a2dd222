"""`FolderRepository`: versions in a folder of this machine, published here or just put there.

    ROOT/MODEL/VERSION/...        files of a version
    ROOT/MODEL/...                the same for a model of one version, which counts as "1"
    ROOT/.plumbline/index.json    what was published: digests, states, order

Files that somebody just put there are found at the next listing: they get a digest and `sha256:DIGEST` as
revision. They may still change until they are fetched for the first time; from then on they are published.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.digest import content_digest
from plumbline.serving.repository.folder_index import INDEX_FOLDER, IndexEntry, IndexFile, make_durable
from plumbline.serving.repository.folder_scan import index_files, scan
from plumbline.serving.repository.layout import FLAT_VERSION, note_of
from plumbline.serving.repository.names import verify_file_path, verify_ref
from plumbline.serving.repository.port import PublishedState, PublishedVersion, RepositoryLimits
from plumbline.serving.repository.refusals import (
    FileRefused,
    RepositoryFolderRefused,
    RepositoryReadOnly,
    VersionExists,
)
from plumbline.serving.repository.shelf import change_state, find_version, verify_new, verify_revision
from plumbline.serving.repository.transfer import (
    NOT_CONTENT,
    copy_checked,
    copy_in,
    read_chunks,
    source_files,
    verify_usable,
)

__all__ = ["FolderRepository", "verify_folder"]


def verify_folder(root: Path) -> None:
    """A repository can be read there.

    Raises:
        RepositoryFolderRefused: it cannot.
    """
    try:
        with os.scandir(root):
            return
    except FileNotFoundError:
        reason = "there is no such folder"
    except NotADirectoryError:
        reason = "it is not a folder"
    except (OSError, ValueError) as error:
        reason = f"it cannot be read: {getattr(error, 'strerror', None) or 'its name is none'}"
    raise RepositoryFolderRefused(reason=reason)


class FolderRepository:
    """Owns the index of one folder. Several processes may use the same folder.

    Args:
        root: the folder; it must exist. Where it takes no writes, files found there are served, and what was
            found is remembered by this object alone.
        limits: of what it takes.
        allow_code: whether versions may hold Python code.

    Raises:
        RepositoryFolderRefused: there is no such folder, or it cannot be read.
    """

    def __init__(
        self, root: Path, *, limits: RepositoryLimits | None = None, allow_code: bool = True
    ) -> None:
        verify_folder(root)
        self.allow_code = allow_code
        self._root = root.resolve()
        self._limits = limits or RepositoryLimits()
        self._lock = threading.RLock()
        self._index = IndexFile(self._root)
        self._remembered: dict[VersionRef, IndexEntry] = {}
        self._listed: dict[VersionRef, PublishedVersion] = {}
        self._first_fetched: set[VersionRef] = set()

    def versions(self) -> Sequence[PublishedVersion]:
        """Look at the folder and list what is there, by model and order.

        Raises:
            RepositoryFolderGone: it cannot be read now; what is known stays known.
        """
        with self._lock, self._index.locked() as writable:
            self._rescan(writable)
            return sorted(self._listed.values(), key=lambda v: (v.ref.model, v.order))

    def open_file(self, ref: VersionRef, path: str) -> Iterator[bytes]:
        """The content of one file, in chunks."""
        return read_chunks(self._placed(ref) / verify_file_path(path, allow_code=self.allow_code))

    def fetch(self, ref: VersionRef, into: Path) -> PublishedVersion:
        """Copy a version; see the port. Its calibration comes along, unhashed, where there is one."""
        with self._lock:
            version = self._find(ref)
            written = self._index.read().get(ref)
            if written is not None:
                version = replace(version, state=written.state)
            folder = self._placed(verify_usable(version).ref)
        copy_checked(
            version,
            lambda path: read_chunks(folder / path),
            into,
            limits=self._limits,
            allow_code=self.allow_code,
        )
        for name in NOT_CONTENT:
            if (folder / name).is_file() and not (folder / name).is_symlink():
                shutil.copyfile(folder / name, into / name)
        self._settle(ref, version.digest)
        return version

    def publish(
        self, ref: VersionRef, source: Path | Mapping[str, bytes], *, revision: str
    ) -> PublishedVersion:
        """Add a version; see the port. It appears at once and whole, or not at all."""
        verify_ref(ref)
        verify_revision(revision)
        readers = source_files(source, ref, self._limits)
        with self._writing():
            staged = self._root / INDEX_FOLDER / "incoming" / secrets.token_hex(8)
            try:
                staged.mkdir(parents=True)
                files = copy_in(readers, staged, limits=self._limits, allow_code=self.allow_code)
                version = PublishedVersion(
                    ref=ref, files=files, digest=content_digest(files), revision=revision
                )
                if known := verify_new(self._listed, version, self._limits):
                    return known
                return self._place(version, staged)
            except OSError as error:
                raise RepositoryReadOnly(reason=error.strerror or "the folder takes no files") from error
            finally:
                shutil.rmtree(staged, ignore_errors=True)

    def pin(self, ref: VersionRef) -> PublishedVersion:
        """Pin; see the port."""
        return self._change(ref, PublishedState.PINNED)

    def unpin(self, ref: VersionRef) -> PublishedVersion:
        """Unpin; see the port."""
        return self._change(ref, PublishedState.PUBLISHED)

    def retire(self, ref: VersionRef) -> PublishedVersion:
        """Retire; see the port."""
        return self._change(ref, PublishedState.RETIRED)

    def reopen(self, ref: VersionRef) -> None:
        """Let the files of a version change again whose first copy could not be used; see `Correctable`."""
        with self._lock, self._index.locked() as writable:
            if ref in self._first_fetched:
                self._first_fetched.discard(ref)
                self._mark(ref, writable, settled=False)

    # -- inside, under the lock ------------------------------------------------------------------------------

    def _rescan(self, writable: bool) -> dict[VersionRef, IndexEntry]:
        before = self._index.read() if writable else {**self._index.read(), **self._remembered}
        after, problems = scan(self._root, before, self._limits, allow_code=self.allow_code)
        self._remembered = after
        if writable and after != before:
            self._index.write(after)
        self._listed = {ref: entry.listed(problems.get(ref, "")) for ref, entry in after.items()}
        for ref, problem in problems.items():
            self._listed.setdefault(ref, PublishedVersion(ref=ref, problem=problem))
        notes = {model: note_of(self._root, model) for model in {ref.model for ref in self._listed}}
        for ref, version in self._listed.items():
            if notes[ref.model]:
                self._listed[ref] = replace(version, note=notes[ref.model])
        return after

    def _find(self, ref: VersionRef) -> PublishedVersion:
        if ref not in self._listed:
            self.versions()
        return find_version(self._listed, ref)

    def _placed(self, ref: VersionRef) -> Path:
        with self._lock:
            self._find(ref)
            entry = self._remembered.get(ref)
        if entry is None:
            raise FileRefused(file=ascii(str(ref)), reason="its files cannot be used")
        folder = self._root / entry.inside
        if not folder.resolve().is_relative_to(self._root):
            raise FileRefused(file=ascii(str(ref)), reason="its folder leads out of the repository")
        return folder

    def _settle(self, ref: VersionRef, digest: str) -> None:
        with self._lock, self._index.locked() as writable:
            entries = self._index.read() if writable else dict(self._remembered)
            entry = entries.get(ref)
            self._first_fetched.discard(ref)
            if entry is None or entry.settled or entry.digest != digest:
                return
            self._first_fetched.add(ref)
            self._mark(ref, writable, settled=True)

    def _mark(self, ref: VersionRef, writable: bool, *, settled: bool) -> None:
        entries = self._index.read() if writable else dict(self._remembered)
        entry = entries.get(ref)
        if entry is None:
            return
        entries[ref] = msgspec.structs.replace(entry, settled=settled)
        self._remembered = entries
        if writable:
            self._index.write(entries)

    def _place(self, version: PublishedVersion, staged: Path) -> PublishedVersion:
        ref = version.ref
        entries = dict(self._remembered)
        if any(e.model == ref.model and e.inside == e.model for e in entries.values()):
            reason = (
                f"the files of {ref.model} lie beside its version folders; move them into {FLAT_VERSION}/"
            )
            raise VersionExists(model=ref.model, version=ref.version, reason=reason)
        target = self._root / ref.model / ref.version
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            reason = self._listed[ref].problem if ref in self._listed else "something else lies there"
            raise VersionExists(model=ref.model, version=ref.version, reason=reason)
        staged.rename(target)
        make_durable(target.parent)
        make_durable(self._root)
        entry = IndexEntry(
            model=ref.model,
            version=ref.version,
            inside=f"{ref.model}/{ref.version}",
            digest=version.digest,
            revision=version.revision,
            order=1 + max((e.order for e in entries.values()), default=-1),
            files=index_files(version.files, target),
            settled=True,
        )
        self._write({**entries, ref: entry})
        return self._listed[ref]

    def _change(self, ref: VersionRef, state: PublishedState) -> PublishedVersion:
        with self._writing():
            entries = dict(self._remembered)
            for changed in change_state(self._listed, ref, state).values():
                self._first_fetched.discard(changed.ref)
                if changed.ref not in entries:
                    raise FileRefused(file=ascii(str(ref)), reason=changed.problem)
                entries[changed.ref] = msgspec.structs.replace(
                    entries[changed.ref], state=changed.state, settled=True
                )
            self._write(entries)
            return self._listed[ref]

    def _write(self, entries: dict[VersionRef, IndexEntry]) -> None:
        self._index.write(entries)
        self._remembered = entries
        problems = {ref: v.problem for ref, v in self._listed.items() if v.problem}
        self._listed = {ref: e.listed(problems.get(ref, "")) for ref, e in entries.items()} | {
            ref: self._listed[ref] for ref in problems if ref not in entries
        }

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, self._index.locked() as writable:
            if not writable:
                raise RepositoryReadOnly(reason="its folder takes no writes")
            self._rescan(writable)
            yield
