"""Versions that a pool serves: loaded in every worker or in none, one after the other in a replacement."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Sequence

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.outcomes import VersionLoadedTwice, VersionNotLoaded
from plumbline.errors import PlumblineError
from plumbline.serving.workers.journal import MAX_SEEN, LoadedVersion
from plumbline.serving.workers.link import LinkEnded
from plumbline.serving.workers.place import WorkerPlace

__all__ = ["LoadedVersions", "next_to_load"]


class LoadedVersions:
    """Owner of what is loaded, and of the lock under which that changes. Used on one event loop.

    `changes` is held while a version is loaded or unloaded anywhere, so a new worker sees each change whole.
    """

    def __init__(self) -> None:
        self.changes = asyncio.Lock()
        self._versions: dict[VersionRef, LoadedVersion] = {}
        self._handles = 0

    def names(self) -> tuple[str, ...]:
        """Keys of what is loaded."""
        return tuple(str(ref) for ref in self._versions)

    def memory_bytes(self) -> int:
        """Planned bytes of what is loaded, in one worker."""
        return sum(version.metadata.memory_bytes for version in self._versions.values())

    def __contains__(self, ref: VersionRef) -> bool:
        return ref in self._versions

    def find(self, ref: VersionRef) -> LoadedVersion | None:
        """A version that takes calls; None when it is not loaded, or is being unloaded."""
        version = self._versions.get(ref)
        return None if version is None or version.leaving else version

    def get(self, ref: VersionRef) -> LoadedVersion:
        """A version that takes calls.

        Raises:
            VersionNotLoaded: it is not loaded, or is being unloaded.
        """
        version = self.find(ref)
        if version is None:
            raise VersionNotLoaded(version=str(ref), loaded=", ".join(self.names()) or "none")
        return version

    def verify_new(self, ref: VersionRef) -> None:
        """The version is not loaded. Raises VersionLoadedTwice."""
        if ref in self._versions:
            raise VersionLoadedTwice(version=str(ref))

    def commit(self, spec: VersionSpec, metadata: ModelMetadata, handle: int = 0) -> None:
        """It is loaded everywhere."""
        self._versions[spec.ref] = LoadedVersion(handle=handle, spec=spec, metadata=metadata)

    def drop(self, ref: VersionRef) -> None:
        """It is loaded nowhere."""
        self._versions.pop(ref, None)

    async def idle(self, version: LoadedVersion) -> None:
        """Take no more calls for it, and wait until those that were accepted have their outcomes."""
        version.leaving = True
        if version.alive:
            version.idle = asyncio.Event()
            await version.idle.wait()

    # -- in processes ----------------------------------------------------------------------------------------

    async def load_in(self, places: Sequence[WorkerPlace], spec: VersionSpec) -> ModelMetadata:
        """Load in the workers of all of these places, or in none. The caller holds `changes`.

        Raises:
            PlumblineError: what a worker said.
            LinkEnded: a worker ended, and none said anything else.
        """
        self._handles += 1
        handle, began_s = self._handles, time.monotonic()
        answers = await asyncio.gather(
            *(place.load(handle, spec) for place in places), return_exceptions=True
        )
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        loaded = [answer for answer in answers if isinstance(answer, ModelMetadata)]
        if loaded and not failures:
            self.commit(spec, loaded[0], handle)
            self._versions[spec.ref].load_s = time.monotonic() - began_s
            return loaded[0]
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, ModelMetadata):
                with contextlib.suppress(LinkEnded, PlumblineError):
                    await place.unload(handle)
        raise min(failures, key=lambda failure: isinstance(failure, LinkEnded))

    def missing(self, place: WorkerPlace) -> list[LoadedVersion]:
        """What the worker of this place has still to load."""
        return [version for version in self._versions.values() if version.handle not in place.loaded]

    async def load_again(self, place: WorkerPlace, version: LoadedVersion) -> None:
        """Load in a new worker what is loaded elsewhere. The caller holds `changes`. Raises as `load_in`."""
        began_s = time.monotonic()
        try:
            await place.load(version.handle, version.spec)
        except (PlumblineError, LinkEnded) as error:
            self._note_fault(version, place, str(error))
            raise
        version.load_s = time.monotonic() - began_s
        version.load_faults = 0

    def _note_fault(self, version: LoadedVersion, place: WorkerPlace, reason: str) -> None:
        version.load_faults += 1
        version.load_reason = reason
        if version.load_faults >= MAX_SEEN:
            version.not_before_s = time.monotonic() + place.pause_s(version.load_faults - MAX_SEEN)

    async def unload_in(self, places: Sequence[WorkerPlace], version: LoadedVersion) -> None:
        """Unload in the workers of all of these places. The caller holds `changes`.

        Raises:
            PlumblineError: what a worker said; it is unloaded in the others.
        """
        self.drop(version.spec.ref)
        holding = [place for place in places if version.handle in place.loaded]
        answers = await asyncio.gather(
            *(place.unload(version.handle) for place in holding), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, LinkEnded):
                raise answer


def next_to_load(
    missing: Sequence[LoadedVersion], waiting: Collection[int], now_s: float
) -> LoadedVersion | None:
    """Which version a new worker loads next: one with waiting calls before others, what failed after what did
    not, then what loads fast. None when nothing is due.

    Args:
        missing: what it has still to load.
        waiting: handles of versions with accepted calls that wait for a worker.
        now_s: on the clock of `not_before_s`.
    """
    due = [version for version in missing if version.not_before_s <= now_s]
    return min(due, key=lambda v: (v.load_faults, v.handle not in waiting, v.load_s), default=None)
