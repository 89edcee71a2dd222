"""`ProcessPool`: the port `WorkerPool` on supervised processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import PlumblineError
from plumbline.serving.ports import WorkerStatus
from plumbline.serving.workers.choice import WorkerChoice
from plumbline.serving.workers.desk import CallDesk, OnDone
from plumbline.serving.workers.failures import LoadLostTwice, PoolStopped, ScaleRefused
from plumbline.serving.workers.journal import MAX_SEEN, LoadedVersion
from plumbline.serving.workers.link import LinkEnded, WorkerLink
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.place import WorkerPlace
from plumbline.serving.workers.rerouting import OnRoute, nobody_is_routed
from plumbline.serving.workers.versions import LoadedVersions, next_to_load

__all__ = ["MAX_WORKERS", "OnEvent", "ProcessPool", "no_event", "nobody_is_told"]

OnEvent = Callable[..., None]
"""Called as `on_event(kind, subject, **fields)`; worker.started, .replaced, .stalled, .lost, .stopped."""

MAX_WORKERS = 256

_PAUSE_S = 0.01


def no_event(kind: str, subject: str, **fields: object) -> None:
    """Nobody watches."""


def nobody_is_told(ref: VersionRef, call: InferenceCall, outcome: InferenceTiming | PlumblineError) -> None:
    """Nobody counts."""


class ProcessPool:
    """Owner of the places and their supervision. Used on the event loop that calls `start`.

    Args:
        command: that runs a worker (`run_worker`); the channel is its last argument.
        count: of workers at the start.
        prefix: of the names of its places.
        log_folder: a folder `w0-g1` below it is made for each worker; None for none.
        options: sizes and times.
        on_event: told of workers that come and go.
        on_done: told of outcomes.
        on_route: takes a record for every accepted call that loses its worker, and when it is sent again.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        count: int = 1,
        prefix: str = "",
        log_folder: Path | None = None,
        options: PoolOptions | None = None,
        on_event: OnEvent = no_event,
        on_done: OnDone = nobody_is_told,
        on_route: OnRoute = nobody_is_routed,
    ) -> None:
        self._command, self._count, self._log_folder = tuple(command), count, log_folder
        self._prefix = prefix
        self.options = options or PoolOptions()
        self.announce, self._on_done, self._on_route = on_event, on_done, on_route
        self._places: dict[str, WorkerPlace] = {}
        self._supervision: dict[str, asyncio.Task[None]] = {}
        self._choice = WorkerChoice(self._places, self.options)
        self._versions = LoadedVersions()
        self._accepting = False

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers; returns when each is ready for `load`.

        Raises:
            PoolDegraded: none comes up.
        """
        self._desk = CallDesk(self._choice, self.options, self._on_done, self._on_route)
        self._accepting = True
        for index in range(self._count):
            self._open_place(f"{self._prefix}w{index}")
        await self._settled()
        if self._count and not self._choice.ready():
            error = self._choice.none_ready()
            await self.stop(drain=False, timeout_s=0.0)
            raise error

    async def stop(self, *, drain: bool, timeout_s: float) -> None:
        """End: finish what was accepted (drain) or refuse it, then stop every worker. Idempotent."""
        if not self._accepting:
            return
        self._accepting = False
        if drain:
            await self._desk.drained(timeout_s)
        self._desk.close(PoolStopped)
        await asyncio.gather(*(self._leave(name, drain=drain) for name in tuple(self._places)))
        self._versions = LoadedVersions()

    async def scale(self, count: int) -> None:
        """Bring the number of workers to `count`; those that go are drained.

        Raises:
            ScaleRefused: less than one, or more than `MAX_WORKERS`.
        """
        if not 1 <= count <= MAX_WORKERS:
            raise ScaleRefused(count=count, limit=MAX_WORKERS)
        self._verify_accepting()
        names = [f"{self._prefix}w{index}" for index in range(count)]
        for name in names:
            if name not in self._places:
                self._open_place(name)
        going = [name for name in self._places if name not in names]
        await asyncio.gather(*(self._drain_place(name) for name in going))
        await self._settled()

    async def _drain_place(self, name: str) -> None:
        place = self._places[name]
        place.leaving = True
        while place.sent and place.is_ready:
            await asyncio.sleep(_PAUSE_S)
        await self._leave(name, drain=True)
        self._desk.dispatch_waiting()

    async def _leave(self, name: str, *, drain: bool) -> None:
        await self._places[name].leave(self._supervision[name], drain=drain)
        self._places.pop(name, None)
        self._supervision.pop(name, None)

    def _open_place(self, name: str) -> None:
        place = WorkerPlace(name, self, self.options)
        self._places[name] = place
        self._supervision[name] = asyncio.create_task(place.run(), name=f"{name} supervision")

    async def _settled(self) -> None:
        """Until every place is ready, or known to be degraded."""
        await asyncio.gather(*(place.settled.wait() for place in tuple(self._places.values())))

    def _verify_accepting(self) -> None:
        if not self._accepting:
            raise PoolStopped()

    # -- what places ask and tell ----------------------------------------------------------------------------

    def open_link(self, place: WorkerPlace) -> WorkerLink:
        """Start the next generation. Raises OSError."""
        log_folder = None
        if self._log_folder is not None:
            log_folder = self._log_folder / f"{place.name}-g{place.generation}"
            log_folder.mkdir(parents=True, exist_ok=True)
        return WorkerLink(
            name=place.name,
            generation=place.generation,
            command=self._command,
            log_folder=log_folder,
            options=self.options,
            on_outcomes=self._desk.outcomes,
            on_unsendable=self._desk.unsendable,
        )

    async def load_committed(self, place: WorkerPlace) -> None:
        """Load in a new worker what the others have. It takes calls of each version as soon as it has it."""
        link = place.link
        while link is not None and place.link is link and not link.ended.done():
            async with self._versions.changes:
                missing = self._versions.missing(place)
                version = next_to_load(missing, self._desk.waiting_versions(), time.monotonic())
                if version is not None:
                    await self._load_again(place, version)
                if place.loaded or all(one.load_faults >= MAX_SEEN for one in self._versions.missing(place)):
                    place.take_calls()
            self._desk.dispatch_waiting()
            if not missing:
                return
            if version is None:
                await asyncio.sleep(_PAUSE_S)

    async def _load_again(self, place: WorkerPlace, version: LoadedVersion) -> None:
        """A version that cannot be loaded keeps no other from being served.

        Raises:
            LinkEnded: the worker ended over it.
        """
        try:
            await self._versions.load_again(place, version)
        except PlumblineError as error:
            self.announce(
                "worker.load_failed", place.name, version=str(version.spec.ref), reason=error.message,
                generation=place.generation,
            )  # fmt: skip
        finally:
            if version.load_faults >= MAX_SEEN and not self._choice.holding(version):
                self._desk.fail_waiting(partial(self._choice.not_back, version), version)

    def place_lost(self, place: WorkerPlace, link: WorkerLink, reason: str) -> None:
        """Its calls go elsewhere."""
        self.announce(
            "worker.stopped" if place.leaving and not place.sent else "worker.lost",
            place.name,
            generation=link.generation,
            reason=reason,
            calls=len(place.sent),
        )
        self._desk.lose(place, reason)
        if self._choice.is_degraded:
            self._desk.fail_waiting(self._choice.none_ready)

    # -- versions --------------------------------------------------------------------------------------------

    async def load(self, spec: VersionSpec) -> ModelMetadata:
        """Load in every worker, now and in every one that comes later; returns after a warm-up inference.

        Raises:
            PlumblineError: what the worker said; nothing stays loaded. VersionLoadedTwice, LoadLostTwice,
                NoWorkerReady, PoolDegraded among them.
        """
        loading = asyncio.create_task(self._load(spec))
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(lambda done: self._unload_unwanted(done, spec.ref))
            raise

    def _unload_unwanted(self, done: asyncio.Task[ModelMetadata], ref: VersionRef) -> None:
        if not done.cancelled() and done.exception() is None and self._accepting:
            self._unwanted = asyncio.create_task(self.unload(ref))

    async def _load(self, spec: VersionSpec) -> ModelMetadata:
        reason = ""
        for _ in range(MAX_SEEN):
            await self._workers_for_load(again=bool(reason))
            async with self._versions.changes:
                self._versions.verify_new(spec.ref)
                try:
                    return await self._versions.load_in(self._choice.ready(), spec)
                except LinkEnded as lost:
                    reason = str(lost)
        raise LoadLostTwice(version=str(spec.ref), reason=reason)

    async def _workers_for_load(self, *, again: bool) -> None:
        """Until a worker is ready; after one was lost, its replacement is waited for."""
        self._verify_accepting()
        await self._settled()
        while not self._choice.ready():
            if not again or not self._accepting or self._choice.is_degraded:
                raise self._choice.none_ready()
            await asyncio.sleep(_PAUSE_S)

    async def unload(self, ref: VersionRef) -> None:
        """Unload everywhere. Accepted calls of it are finished first.

        Raises:
            VersionNotLoaded: it is not, or another unload is under way.
        """
        version = self._versions.get(ref)
        await asyncio.shield(asyncio.create_task(self._unload(version)))

    async def _unload(self, version: LoadedVersion) -> None:
        await self._versions.idle(version)
        async with self._versions.changes:
            await self._versions.unload_in(self._choice.ready(), version)

    # -- calls -----------------------------------------------------------------------------------------------

    async def infer(self, ref: VersionRef, call: InferenceCall, worker: str | None = None) -> InferenceResult:
        """Run a call on a loaded version, on a named worker or the one with the least accepted work.

        Raises:
            PlumblineError: the one outcome. IntakeFull, NoWorkerReady, PoolDegraded, PoolStopped (transient
                refusals), VersionNotLoaded, DuplicateRequest, CallTooLarge, TensorRefused (refusals);
                WorkerLostTwice, OutcomeRefused, RequestCancelled, DeadlineMissed and whatever the engine or
                the version says.
        """
        if not self._accepting:
            raise PoolStopped()
        return await self._desk.infer(self._versions.get(ref), call, worker)

    def cancel(self, request: RequestId) -> bool:
        """Ask for a call to be cancelled; False when it is not alive."""
        return self._accepting and self._desk.cancel(request)

    def holds(self, ref: VersionRef) -> bool:
        """Whether a version is loaded here, or being unloaded."""
        return ref in self._versions

    def is_alive(self, request: RequestId) -> bool:
        """Whether a call of this id is accepted and has no outcome yet."""
        return self._accepting and self._desk.journal.find(request) is not None

    def oldest_age_ns(self) -> int:
        """Age of the oldest call without an outcome, 0 without any."""
        oldest = next(iter(self._desk.journal), None) if self._accepting else None
        arrived_ns = 0 if oldest is None else oldest.call.arrived_ns
        return max(time.monotonic_ns() - arrived_ns, 0) if arrived_ns else 0

    def has_place(self, worker: str) -> bool:
        """Whether there is a place of this name."""
        return worker in self._places

    def workers(self) -> Sequence[WorkerStatus]:
        """Every place, in order of name."""
        places = sorted(self._places.values(), key=lambda place: (len(place.name), place.name))
        return tuple(place.status() for place in places)

    def sole_worker(self, ref: VersionRef) -> str | None:
        """The only place, where it takes calls of this version."""
        if len(self._places) != 1:
            return None
        (place,) = self._places.values()
        version = self._versions.find(ref)
        return place.name if version is not None and place.takes(version) else None

    def output(self, worker: str) -> str:
        """What the process in this place printed last, or the one before when there is none. May name paths.

        Raises:
            WorkerUnknown: there is no such place.
        """
        place = self._choice.named(worker)
        return place.last_output if place.link is None else place.link.output.text()
