"""Versions that a pool serves: loaded in every worker or in none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.outcomes import VersionLoadedTwice, VersionNotLoaded
from plumbline.errors import PlumblineError
from plumbline.serving.workers.journal import LoadedVersion
from plumbline.serving.workers.link import LinkEnded, WorkerLink

__all__ = ["LoadedVersions"]


class LoadedVersions:
    """Owner of what is loaded, and of the lock under which that changes. Used on one event loop.

    `changes` is held while a version is loaded or unloaded anywhere, so a new worker sees all or nothing.
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

    def get(self, ref: VersionRef) -> LoadedVersion:
        """A version that takes calls.

        Raises:
            VersionNotLoaded: it is not loaded, or is being unloaded.
        """
        version = self._versions.get(ref)
        if version is None or version.leaving:
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

    async def load_in(self, links: Sequence[WorkerLink], spec: VersionSpec) -> ModelMetadata:
        """Load in all of these workers, or in none. The caller holds `changes`.

        Raises:
            PlumblineError: what a worker said.
            LinkEnded: a worker ended, and none said anything else.
        """
        self._handles += 1
        handle = self._handles
        answers = await asyncio.gather(*(link.load(handle, spec) for link in links), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        loaded = [answer for answer in answers if isinstance(answer, ModelMetadata)]
        if loaded and not failures:
            self.commit(spec, loaded[0], handle)
            return loaded[0]
        for link, answer in zip(links, answers, strict=True):
            if isinstance(answer, ModelMetadata):
                with contextlib.suppress(LinkEnded, PlumblineError):
                    await link.unload(handle)
        raise min(failures, key=lambda failure: isinstance(failure, LinkEnded))

    async def load_committed_in(self, link: WorkerLink) -> None:
        """Load in a new worker what the others have. The caller holds `changes`. Raises as `load_in`."""
        for version in tuple(self._versions.values()):
            await link.load(version.handle, version.spec)

    async def unload_in(self, links: Sequence[WorkerLink], version: LoadedVersion) -> None:
        """Unload in all of these workers. The caller holds `changes`.

        Raises:
            PlumblineError: what a worker said; it is unloaded in the others.
        """
        self.drop(version.spec.ref)
        answers = await asyncio.gather(
            *(link.unload(version.handle) for link in links), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, LinkEnded):
                raise answer
