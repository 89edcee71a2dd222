"""`Directory`: which models there are and their life here, over a repository and a pool of workers.

Everything runs on one event loop; files are read on threads. What it knows is changed by it alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import ModelMetadata, VersionState, VersionStatus
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import PlumblineError
from plumbline.serving.models.announcing import Announce, say_nothing
from plumbline.serving.models.canaries import Canaries
from plumbline.serving.models.kept_rollouts import KeptRollouts
from plumbline.serving.models.lifecycle import IN_PROGRESS, VersionEvent, VersionLife, apply
from plumbline.serving.models.loading import NO_WISH, LoadWish, VersionLoader, read_wish
from plumbline.serving.models.refusals import VersionBusy
from plumbline.serving.models.routing import CandidateRole, RouteDecision
from plumbline.serving.models.served import ServedModel, ServedVersion
from plumbline.serving.models.start_order import StartOrder, Turn, processors
from plumbline.serving.models.statistics import VersionCounters
from plumbline.serving.models.why_not import why_not
from plumbline.serving.ports import VersionStatistics, WorkerPool, WorkerState
from plumbline.serving.repository.port import PublishedState, PublishedVersion, Repository
from plumbline.serving.repository.refusals import ModelUnknown, VersionUnknown
from plumbline.serving.repository.specs import newest_usable

__all__ = ["Directory"]


class Directory:
    """Implements `serving.ports.ModelDirectory`. Owns every `ServedModel`.

    Args:
        repository: where versions come from.
        pool: where they run; its `load` returns after a real warm-up inference.
        prepare: compiles a version before it is loaded, so that nothing is compiled while serving.
        copies: private folder for checked copies; it holds nothing else.
        clock: for times of states.
        announce: told about every change.
        rollouts: what an earlier run of the server found out about canaries; None keeps nothing.
        prepare_at_once: versions that a start may prepare at the same time; None for one on each processor.
        max_inputs: of one request; a version with more is refused.
    """

    def __init__(
        self,
        repository: Repository,
        pool: WorkerPool,
        *,
        prepare: Callable[[VersionSpec], Awaitable[None]],
        copies: Path,
        clock: Clock,
        announce: Announce = say_nothing,
        rollouts: KeptRollouts | None = None,
        prepare_at_once: int | None = None,
        max_inputs: int = 1024,
    ) -> None:
        self._prepare_at_once = processors() if prepare_at_once is None else prepare_at_once
        self._repository, self._clock, self._announce = repository, clock, announce
        self._loader, self._pool = VersionLoader(repository, pool, prepare, copies, max_inputs), pool
        self._models: dict[str, ServedModel] = {}
        self._noted: set[str] = set()
        self.canaries = Canaries(self.model, clock, announce, rollouts)
        self._refreshing = asyncio.Lock()
        self._trouble = ""
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what there is ---------------------------------------------------------------------------------------

    def statuses(self) -> Sequence[VersionStatus]:
        """Every known version, by model, newest first."""
        return [
            model.status(version, _share(model, version))
            for _, model in sorted(self._models.items())
            for version in model.versions.values()
        ]

    def metadata(self, model: str, version: str | None = None) -> ModelMetadata:
        """Interface and costs of a ready version; without a version, of the one that most requests get."""
        found = self._answering(self.model(model), version)
        if found.metadata is None:
            raise self.refusal(self.model(model), found)
        return found.metadata

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Whether requests are served now: the version is ready, and a worker that takes calls has it."""
        known = self._models.get(model)
        chosen = None if known is None else known.decision(version).chosen
        return chosen is not None and str(chosen) in self._held()

    def statistics(self, model: str | None = None, version: str | None = None) -> Sequence[VersionStatistics]:
        """Counts of the versions that have served, of all models or of one; of a named one in any case."""
        if model is None:
            found = [v for m in self._models.values() for v in m.versions.values()]
        elif version is None:
            found = list(self.model(model).versions.values())
        else:
            found = [self.version(VersionRef(model=model, version=version))]
        shown = [v for v in found if v.metadata is not None or version is not None]
        return [v.counters.snapshot() for v in shown]

    def model(self, name: str) -> ServedModel:
        """The record of a model.

        Raises:
            ModelUnknown: there is none.
        """
        model = self._models.get(name)
        if model is None:
            raise ModelUnknown(model=name[:200])
        return model

    def version(self, ref: VersionRef) -> ServedVersion:
        """The record of a version.

        Raises:
            ModelUnknown, VersionUnknown: there is none.
        """
        version = self.model(ref.model).versions.get(ref.version)
        if version is None:
            raise VersionUnknown(model=ref.model, version=ref.version[:200])
        return version

    def unready(self) -> Sequence[VersionStatus]:
        """Versions that this server should serve and does not; readiness is false while there are any."""
        return [
            model.status(version, 0.0)
            for model in self._models.values()
            for version in model.versions.values()
            if version.wanted and not version.is_ready
        ]

    def absent(self) -> Sequence[str]:
        """Keys of ready versions that no worker has now, for instance because its replacement loads them."""
        held = self._held()
        versions = (v for model in self._models.values() for v in model.versions.values())
        return [v.key for v in versions if v.wanted and v.is_ready and v.key not in held]

    def _held(self) -> set[str]:
        workers = (worker for worker in self._pool.workers() if worker.state is WorkerState.READY)
        return {key for worker in workers for key in worker.versions}

    # -- the repository --------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Look at the repository again: new versions are found, retired ones are unloaded, vanished ones that
        are not loaded are forgotten.

        Raises:
            PlumblineError: the repository cannot be read. Nothing changed.
        """
        async with self._refreshing:
            try:
                listed = await asyncio.to_thread(self._repository.versions)
            except PlumblineError as error:
                self._trouble = error.message
                raise
            self._trouble = ""
            self._merge(listed)
        for model in list(self._models.values()):
            for version in list(model.versions.values()):
                if version.published.state is PublishedState.RETIRED:
                    await self._retire(version)

    async def start(self, models: Sequence[str] | None = None) -> None:
        """Load the newest version, and the pinned one, of the named models or of all. A failure is kept in
        the status of its version and in `unready`, and keeps no other model from serving.

        Several are prepared at once; they are loaded in the order of the names.

        Raises:
            ModelUnknown: a named model is not in the repository.
        """
        await self.refresh()
        names = sorted(self._models) if models is None else list(models)
        for name in names:
            self.model(name)
        order = StartOrder(self._prepare_at_once)
        loads = []
        for name in names:
            for version in self._wanted_at_start(self.model(name)):
                version.wanted = True
                loads.append(self._owned(self._load(version, NO_WISH, order.next_turn())))
        for outcome in await asyncio.gather(*loads, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, PlumblineError):
                raise outcome

    def repository_trouble(self) -> str:
        """Why the repository could not be read at the last look, or an empty text. Loaded versions have
        copies of their own and serve on; what is missing is to find and load others. Asking looks again: the
        trouble ends when the repository is back.
        """
        if self._trouble and not self._refreshing.locked():
            self._own(self._look_again())
        return self._trouble

    async def pin(self, model: str, version: str) -> None:
        """Give a version all requests that name none, whatever else becomes ready."""
        await self._publish_state(VersionRef(model=model, version=version), self._repository.pin)

    async def unpin(self, model: str, version: str) -> None:
        """Take the pin away."""
        await self._publish_state(VersionRef(model=model, version=version), self._repository.unpin)

    async def promote(self, model: str) -> None:
        """Give the canary of a model all requests that name no version; a pin of its base moves to it.

        Raises:
            NoCanaryRuns: there is none.
        """
        canary = self.model(model).canary
        base = canary and self.model(model).versions.get(canary.base.version)
        if canary is not None and base and base.published.state is PublishedState.PINNED:
            await self.pin(model, canary.canary.version)
        self.canaries.end(model, promote=True)

    async def retire(self, model: str, version: str) -> None:
        """End a version for good: it takes no more requests, finishes what it accepted, and is unloaded.

        Raises:
            VersionPinned: unpin it first.
            VersionBusy: a canary is compared with it.
        """
        ref = VersionRef(model=model, version=version)
        self.canaries.verify_not_base(ref)
        await self._publish_state(ref, self._repository.retire)

    # -- load and unload -------------------------------------------------------------------------------------

    async def load(
        self, model: str, version: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Fetch, check, prepare, load and warm up; returns when ready. A ready version stays as it is.

        The work goes on when the caller stops waiting.

        Args:
            model: name.
            version: which; without, the newest that is not retired.
            settings: fields of `VersionSettings`, and `canary_share` (it becomes ready as a canary with that
                share), `revision` and `digest` (refused unless the repository has exactly these).

        Raises:
            PlumblineError: unknown, retired, not what was asked for, or what the repository, the preparation
                or the workers said; other versions go on serving.
        """
        wish = read_wish(settings or {}, f"{model}@{version or 'newest'}")
        if version is None or not self._is_loaded(model, version):
            await self.refresh()
        if version is None:
            published = [v.published for v in self.model(model).versions.values()]
            version = newest_usable(published, model).ref.version
        found = self.version(VersionRef(model=model, version=version))
        await self._owned(self._load(found, wish))

    async def unload(self, model: str, version: str | None = None) -> None:
        """Take no more requests, finish what was accepted, and give the memory back. Without a version, all.

        Raises:
            VersionBusy: a canary is compared with it; end that first.
        """
        known = self.model(model)
        if version is not None:
            self.canaries.verify_not_base(VersionRef(model=model, version=version))
            found = [self.version(VersionRef(model=model, version=version))]
        else:
            found = list(known.versions.values())
        self.canaries.end_with(known, found, "it is unloaded")
        for each in found:
            each.wanted = False
        await self._owned(self._unload_all(found))

    async def close(self) -> None:
        """Give up loads and unloads that are under way, and remove the copies. Loaded versions stay with the
        pool, which ends by itself.
        """
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._loader.close()

    # -- routing ---------------------------------------------------------------------------------------------

    def refusal(self, model: ServedModel, version: ServedVersion | None) -> PlumblineError:
        """Why a version, or a model of which none is ready, gives no answer."""
        return why_not(model, version)

    def refusal_of(self, model: ServedModel, decision: RouteDecision, asked: str | None) -> PlumblineError:
        """Why a decision chose nobody."""
        if asked is not None and decision.preferred is None:
            return VersionUnknown(model=model.name, version=asked[:200])
        preferred = decision.preferred
        return self.refusal(model, None if preferred is None else model.versions[preferred.version])

    # -- inside ----------------------------------------------------------------------------------------------

    def _answering(self, model: ServedModel, version: str | None) -> ServedVersion:
        named = None if version is None else model.versions.get(version)
        if named is not None and named.is_ready:
            return named
        decision = model.decision(version)
        if decision.chosen is None:
            raise self.refusal_of(model, decision, version)
        return model.versions[decision.chosen.version]

    def _is_loaded(self, model: str, version: str) -> bool:
        known = self._models.get(model)
        return known is not None and version in known.versions and known.versions[version].is_ready

    def _merge(self, listed: Sequence[PublishedVersion]) -> None:
        names = {published.ref for published in listed}
        for published in listed:
            model = self._models.setdefault(published.ref.model, ServedModel(name=published.ref.model))
            known = model.versions.get(published.ref.version)
            if known is None:
                model.versions[published.ref.version] = self._found(published)
            else:
                known.published = published
        for name, model in list(self._models.items()):
            for number, version in list(model.versions.items()):
                if version.ref not in names and version.metadata is None and not version.changing.locked():
                    del model.versions[number]
            self.canaries.recall(model)
            model.settle()
            self._tell_note(model)
            if not model.versions:
                del self._models[name]

    def _tell_note(self, model: ServedModel) -> None:
        """Once for a model, however often the repository is looked at."""
        note = next((v.published.note for v in model.versions.values() if v.published.note), "")
        if note and model.name not in self._noted:
            self._noted.add(model.name)
            self._announce("model.note", model.name, reason=note)

    def _found(self, published: PublishedVersion) -> ServedVersion:
        ref = published.ref
        return ServedVersion(
            published=published,
            life=VersionLife(ref=ref, since_wall_ns=self._clock.wall_ns()),
            key=str(ref),
            counters=VersionCounters(ref, batched=False),
        )

    def _wanted_at_start(self, model: ServedModel) -> list[ServedVersion]:
        alive = [v for v in model.versions.values() if v.published.state is not PublishedState.RETIRED]
        filled = [v for v in alive if not v.published.has_no_files]
        newest = next((v for v in filled if v.ref.version not in model.held), filled[0] if filled else None)
        return [v for v in alive if v is newest or v.published.state is PublishedState.PINNED]

    async def _publish_state(self, ref: VersionRef, change: Callable[[VersionRef], PublishedVersion]) -> None:
        await asyncio.to_thread(change, ref)
        await self.refresh()

    async def _load(self, version: ServedVersion, wish: LoadWish, turn: Turn | None = None) -> None:
        turn = turn or StartOrder(1).next_turn()
        with turn.taken():
            async with version.changing:
                await self._load_changing(version, wish, turn)

    async def _load_changing(self, version: ServedVersion, wish: LoadWish, turn: Turn) -> None:
        if version.is_ready:
            if wish.settings:
                reason = "it is ready with other settings; unload it first"
                raise VersionBusy(model=version.ref.model, version=version.ref.version, reason=reason)
            return
        wish.verify(version.published)
        model = self.model(version.ref.model)
        base = self.canaries.base_for(model, version, wish.canary) if wish.canary else None
        try:
            await self._loader.load(version, wish, turn, lambda event: self._step(version, event))
        except BaseException as error:
            if version.life.state in IN_PROGRESS:
                self._step(version, VersionEvent.FAIL, _reason(error))
            raise
        if wish.canary is not None and base is not None:
            self.canaries.begin(model, version, base, wish.canary)
        self._step(version, VersionEvent.WARMED)

    async def _unload_all(self, versions: Sequence[ServedVersion]) -> None:
        for version in versions:
            await self._unload(version)

    async def _unload(self, version: ServedVersion) -> None:
        async with version.changing:
            if not version.is_ready:
                return
            self._step(version, VersionEvent.UNLOAD)
            try:
                await self._loader.unload(version)
            except BaseException as error:
                self._step(version, VersionEvent.FAIL, _reason(error))
                raise
            self.canaries.forget(self.model(version.ref.model), version.ref.version)
            self._step(version, VersionEvent.GONE)

    async def _retire(self, version: ServedVersion) -> None:
        self.canaries.end_with(self.model(version.ref.model), [version], "it is retired")
        await self._owned(self._unload_all([version]))
        async with version.changing:
            if version.life.state not in (VersionState.RETIRED, VersionState.READY):
                self._step(version, VersionEvent.RETIRE)
                version.wanted = False

    def _step(self, version: ServedVersion, event: VersionEvent, reason: str = "") -> None:
        version.life = apply(version.life, event, self._clock.wall_ns(), reason)
        self._models[version.ref.model].settle()
        self._announce(f"model.{version.life.state.value}", version.key, reason=reason)

    async def _look_again(self) -> None:
        with contextlib.suppress(PlumblineError):
            await self.refresh()

    async def _owned(self, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.shield(self._own(work))

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _share(model: ServedModel, version: ServedVersion) -> float:
    role = model.role(version)
    if not version.is_ready or role is CandidateRole.HELD:
        return 0.0
    canary = model.canary
    canary_share = canary.policy.share if canary and model.versions[canary.canary.version].is_ready else 0.0
    if role is CandidateRole.CANARY:
        return canary_share
    return 1.0 - canary_share if model.usual.chosen == version.ref else 0.0


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "given up, the server stops"
    return error.message if isinstance(error, PlumblineError) else type(error).__name__
