"""One load and one unload: files, preparation and workers, without a word about who may do it when."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.versions import VersionSettings, VersionSpec
from plumbline.serving.models.lifecycle import VersionEvent
from plumbline.serving.models.refusals import RevisionMismatch, TooManyInputs
from plumbline.serving.models.rollout import RolloutPolicy
from plumbline.serving.models.served import ServedVersion
from plumbline.serving.models.start_order import Turn
from plumbline.serving.models.statistics import VersionCounters
from plumbline.serving.ports import WorkerPool
from plumbline.serving.repository.port import Correctable, PublishedVersion, Repository
from plumbline.serving.repository.refusals import SettingsRefused
from plumbline.serving.repository.settings import apply_settings
from plumbline.serving.repository.specs import fetch_spec
from plumbline.serving.repository.transfer import verify_usable

__all__ = ["NO_WISH", "LoadWish", "VersionLoader", "read_wish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWish:
    """What a load asks for beside the version.

    Attributes:
        settings: that replace those of `version.toml`.
        canary: becomes ready as a canary, or None.
        revision: that it must have, or None.
        digest: that it must have, or None.
    """

    settings: Mapping[str, Any]
    canary: RolloutPolicy | None = None
    revision: str | None = None
    digest: str | None = None

    def verify(self, published: PublishedVersion) -> None:
        """Raises VersionRetired, VersionUnusable or RevisionMismatch unless the version is as wished."""
        verify_usable(published)
        for what, found, wanted in (
            ("revision", published.revision, self.revision),
            ("digest", published.digest, self.digest),
        ):
            if wanted is not None and wanted != found:
                ref = published.ref
                raise RevisionMismatch(
                    model=ref.model, version=ref.version, what=what, found=found, wanted=wanted
                )


NO_WISH: Final = LoadWish(settings={})
"""To have the version as it is."""


def read_wish(values: Mapping[str, Any], subject: str) -> LoadWish:
    """Settings as a client sent them.

    Raises:
        SettingsRefused: an unknown key, or a value that cannot be.
    """
    rest = dict(values)
    source = f"settings of {subject}"
    share, revision, digest = (rest.pop(key, None) for key in ("canary_share", "revision", "digest"))
    apply_settings(VersionSettings(), rest, source=source, also=("canary_share", "revision", "digest"))
    for key, value in (("revision", revision), ("digest", digest)):
        if value is not None and not isinstance(value, str):
            raise SettingsRefused(source=source, key=key, reason="expected a text")
    if share is not None and (
        isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1
    ):
        raise SettingsRefused(
            source=source, key="canary_share", reason="expected a number above 0 and below 1"
        )
    canary = None if share is None else RolloutPolicy(share=float(share))
    return LoadWish(settings=rest, canary=canary, revision=revision, digest=digest)


class VersionLoader:
    """Owns the folder of private copies.

    Args:
        repository: where versions come from.
        pool: where they go to.
        prepare: compiles.
        copies: folder of the copies; made here.
        max_inputs: that a request may have; a version with more of them could never be called.
    """

    def __init__(
        self,
        repository: Repository,
        pool: WorkerPool,
        prepare: Callable[[VersionSpec], Awaitable[None]],
        copies: Path,
        max_inputs: int,
    ) -> None:
        copies.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._repository, self._pool, self._prepare, self._copies = repository, pool, prepare, copies
        self._numbers, self._max_inputs = itertools.count(), max_inputs

    async def load(
        self, version: ServedVersion, wish: LoadWish, turn: Turn, step: Callable[[VersionEvent], None]
    ) -> None:
        """Fetch, prepare, load; fills spec, metadata, copy and counters of the version.

        Args:
            version: that is loaded; nothing of it is changed when this raises.
            wish: settings that replace those of the version.
            turn: of the version, to be prepared and to be loaded.
            step: told when it begins to be prepared, when it is, and when it is loaded.

        Raises:
            TooManyInputs: no request can have as many.
            PlumblineError: what the repository, the preparation or the workers said. Nothing is left behind.
        """
        copy = self._copies / f"{next(self._numbers)}"
        spec: VersionSpec | None = None
        try:
            async with turn.to_prepare():
                step(VersionEvent.PREPARE)
                spec = await self._fetched(version, wish, copy)
                await self._prepare(spec)
            await turn.to_load()
            step(VersionEvent.PREPARED)
            metadata = await self._loaded(spec)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, copy, True)
            await asyncio.to_thread(self._reopen, version.ref, spec)
            raise
        version.spec, version.metadata, version.copy = spec, metadata, copy
        version.counters = VersionCounters(version.ref, batched=metadata.max_rows > 0)
        step(VersionEvent.LOADED)

    async def _loaded(self, spec: VersionSpec) -> ModelMetadata:
        metadata = await self._pool.load(spec)
        inputs = len(metadata.inputs)
        if inputs > self._max_inputs:
            await self._pool.unload(spec.ref)
            raise TooManyInputs(version=str(spec.ref), inputs=inputs, limit=self._max_inputs)
        return metadata

    async def _fetched(self, version: ServedVersion, wish: LoadWish, copy: Path) -> VersionSpec:
        spec = await asyncio.to_thread(fetch_spec, self._repository, version.ref, copy)
        settings = apply_settings(spec.settings, wish.settings, source=f"settings of {version.key}")
        return dataclasses.replace(spec, settings=settings)

    def _reopen(self, ref: VersionRef, spec: VersionSpec | None) -> None:
        """What could not be used may be corrected: a copy that still went on, a misspelt key."""
        if isinstance(self._repository, Correctable):
            self._repository.reopen(ref)
            for stage in () if spec is None else spec.stages:
                self._reopen(stage.ref, stage)

    async def unload(self, version: ServedVersion) -> None:
        """Unload from the pool, then forget spec, metadata and copy; the counts stay until the next load."""
        await self._pool.unload(version.ref)
        copy = version.copy
        version.spec = version.metadata = version.copy = None
        if copy is not None:
            await asyncio.to_thread(shutil.rmtree, copy, True)

    async def close(self) -> None:
        """Remove every copy."""
        await asyncio.to_thread(shutil.rmtree, self._copies, True)
