"""A place for workers: one generation after the other, each supervised from start to replacement."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import PlumblineError
from plumbline.serving.ports import WorkerState, WorkerStatus
from plumbline.serving.workers.failures import WorkerNotStarted
from plumbline.serving.workers.journal import Entry, LoadedVersion
from plumbline.serving.workers.lifecycle import WorkerEvent, apply
from plumbline.serving.workers.limits import Breach, find_run_breach, memory_breach
from plumbline.serving.workers.link import LinkEnded, WorkerLink
from plumbline.serving.workers.log_health import log_trouble
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.progress import Look, ProgressWatch
from plumbline.serving.workers.protocol import Stop
from plumbline.serving.workers.region import Field

__all__ = ["PlaceOwner", "WorkerPlace"]

_STEADY_S = 1.0


class PlaceOwner(Protocol):
    """What a place tells its pool, and asks of it."""

    def open_link(self, place: WorkerPlace) -> WorkerLink:
        """Start the next generation."""

    async def load_committed(self, place: WorkerPlace) -> None:
        """Load everything that is loaded elsewhere, and call `place.take_calls` as soon as one version is."""

    def place_lost(self, place: WorkerPlace, link: WorkerLink, reason: str) -> None:
        """Its worker is gone; its calls wait in `place.sent`."""

    def announce(self, kind: str, subject: str, **fields: object) -> None:
        """Tell whoever watches."""


class WorkerPlace:
    """Owner of the generations of one name. Used on one event loop.

    Attributes:
        sent: calls that its worker has, by number.
        loaded: versions that its worker has loaded and warmed up, by handle.
        suspects: of them, those whose last worker died.
        own_files: of them, those with a file of their own.
        deaths: in a row without steady readiness between, the last for `last_reason`. A worker that was ready
            and had calls in hand starts the row anew: they may have killed it, and starting works.
        breach: limit that its last worker passed, if it ended for that.
        last_output: what the last worker that ended had printed.
        leaving: nothing replaces the worker when it ends.
    """

    def __init__(self, name: str, owner: PlaceOwner, options: PoolOptions) -> None:
        self.name, self._owner, self._options = name, owner, options
        self.generation = 0
        self.state = WorkerState.DEAD
        self.link: WorkerLink | None = None
        self.sent: dict[int, Entry] = {}
        self.loaded: dict[int, ModelMetadata] = {}
        self._names: tuple[str, ...] = ()
        self._memory_bytes = 0
        self._ready_at_s = 0.0
        self.breach: Breach | None = None
        self.suspects = 0
        self.own_files = 0
        self.deaths = 0
        self.last_reason = ""
        self.last_output = ""
        self.leaving = False
        self.settled = asyncio.Event()
        self._left = asyncio.Event()

    def apply(self, event: WorkerEvent) -> None:
        """Change the state."""
        self.state = apply(self.state, event)

    @property
    def is_ready(self) -> bool:
        """Whether calls may be sent to it."""
        link = self.link
        return self.state is WorkerState.READY and link is not None and not link.ended.done()

    @property
    def is_degraded(self) -> bool:
        """Whether it dies faster than it becomes ready."""
        return self.deaths >= self._options.storm_deaths

    def takes(self, version: LoadedVersion) -> bool:
        """Whether calls of this version may be sent to it."""
        return version.handle in self.loaded and self.is_ready

    def status(self) -> WorkerStatus:
        """As the port shows it."""
        link = self.link
        running = 0 if link is None or not self.sent else link.running
        return WorkerStatus(
            name=self.name,
            generation=self.generation,
            pid=0 if link is None else link.process.pid,
            state=self.state,
            queued=max(len(self.sent) - running, 0),
            running=running,
            steps=0 if link is None else link.steps,
            versions=self._names if self.is_ready else (),
            memory_bytes=self._memory_bytes if self.is_ready else 0,
            budget_bytes=None if link is None else link.budget_bytes,
            log_trouble="" if link is None else log_trouble(link.log_failure),
            missed_decisions=0 if link is None else link.missed,
        )

    # -- supervision -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """One generation after the other, until told to leave."""
        while not self.leaving:
            await self._run_generation()
            if self.leaving or self.is_degraded:
                self.settled.set()
            if not self.leaving and self.deaths > 1:
                await self._wait_to_replace()

    async def _run_generation(self) -> None:
        self.generation += 1
        if not self.is_degraded:
            self.settled.clear()
        self.apply(WorkerEvent.START)
        self._ready_at_s, self.breach = 0.0, None
        try:
            link = self.link = self._owner.open_link(self)
        except OSError as error:
            self._note_death(f"cannot start: {type(error).__name__}")
            self.apply(WorkerEvent.LOST)
            return
        watching = asyncio.create_task(self._watch(link), name=f"{self.name} watch")
        try:
            await link.opened()
            await self._owner.load_committed(self)
            await asyncio.shield(link.ended)
        except (PlumblineError, LinkEnded) as error:
            link.end(error.reason if isinstance(error, WorkerNotStarted) else str(error))
        finally:
            watching.cancel()
            await self._bury(link)

    async def _bury(self, link: WorkerLink) -> None:
        """The worker is dead before anything of it is given to another."""
        link.end("told to stop")
        if self.state is not WorkerState.STALLED:
            self.apply(WorkerEvent.LOST)
        await link.close()
        self.last_output = link.output.text()
        if self.state is WorkerState.STALLED:
            self.apply(WorkerEvent.LOST)
        reason = link.ended.result()
        self._note_death(reason)
        self.link = None
        self.loaded.clear()
        self._note_loaded()
        self._owner.place_lost(self, link, reason)

    def take_calls(self) -> None:
        """Calls of what its worker has loaded may be sent to it from now on. Idempotent."""
        link = self.link
        if self.state is not WorkerState.STARTING or link is None or link.ended.done():
            return
        self.apply(WorkerEvent.READY)
        self._ready_at_s = time.monotonic()
        self.settled.set()
        self._owner.announce(
            "worker.started" if self.generation == 1 else "worker.replaced",
            self.name,
            generation=self.generation,
            pid=link.process.pid,
        )

    def _note_death(self, reason: str) -> None:
        self.last_reason = reason
        ready_at_s = self._ready_at_s
        steady = ready_at_s > 0.0 and (bool(self.sent) or time.monotonic() - ready_at_s >= _STEADY_S)
        self.deaths = 1 if steady else self.deaths + 1

    def pause_s(self, tries: int) -> float:
        """How long to wait after `tries` that failed, beside the first."""
        return min(self._options.backoff_s * float(1 << min(tries, 30)), self._options.max_backoff_s)

    async def _wait_to_replace(self) -> None:
        wait_s = self._options.max_backoff_s if self.is_degraded else self.pause_s(max(self.deaths - 2, 0))
        try:
            await asyncio.wait_for(self._left.wait(), wait_s)
        except TimeoutError:
            return

    # -- versions --------------------------------------------------------------------------------------------

    async def load(self, handle: int, spec: VersionSpec) -> ModelMetadata:
        """Load a version in the worker that is here now.

        Raises:
            PlumblineError: what the worker said.
            LinkEnded: there is none, or it ended.
        """
        link = self._living_link()
        metadata = await link.load(handle, spec)
        if link is not self.link:
            raise LinkEnded(self.last_reason)
        self.loaded[handle] = metadata
        self._note_loaded()
        return metadata

    async def unload(self, handle: int) -> None:
        """Unload a version; it takes no calls of it from now on. Raises as `load`."""
        self.loaded.pop(handle, None)
        self._note_loaded()
        await self._living_link().unload(handle)

    def _living_link(self) -> WorkerLink:
        if self.link is None:
            raise LinkEnded(self.last_reason or "it has not started")
        return self.link

    def _note_loaded(self) -> None:
        self._names = tuple(str(metadata.ref) for metadata in self.loaded.values())
        self._memory_bytes = sum(metadata.memory_bytes for metadata in self.loaded.values())

    # -- watch -----------------------------------------------------------------------------------------------

    async def _watch(self, link: WorkerLink) -> None:
        options = self._options
        watch = ProgressWatch(int(options.watch_interval_s * 1e9))
        while not link.ended.done():
            await asyncio.sleep(options.watch_interval_s)
            if not link.hello.done():
                continue
            reason = watch.observe(self._look(link))
            breach = self._find_breach(link)
            if link.ended.done():
                return
            if breach is not None:
                self.breach = breach
                self._give_up(link, breach.event, breach.reason)
            elif reason is not None:
                self._give_up(link, "worker.stalled", reason)

    def _find_breach(self, link: WorkerLink) -> Breach | None:
        words = link.region.header[Field.RUNS :]
        overrun = find_run_breach(words, self._options, time.monotonic_ns())
        return overrun or memory_breach(link.process.pid, self._options)

    def _give_up(self, link: WorkerLink, event: str, reason: str) -> None:
        """The worker is not asked again: it is killed."""
        self.apply(WorkerEvent.STALL)
        self._owner.announce(event, self.name, generation=self.generation, reason=reason)
        link.end(reason if event != "worker.stalled" else f"stalled: {reason}")

    def _look(self, link: WorkerLink) -> Look:
        options = self._options
        floor_s = options.loading_floor_s if link.loading else options.stall_floor_s
        return Look(
            at_ns=time.monotonic_ns(),
            beats=link.beats,
            steps=link.steps,
            busy=bool(self.sent) and not link.loading,
            bound_ns=self._bound_ns(),
            floor_ns=int(floor_s * 1e9),
        )

    def _bound_ns(self) -> int:
        """Within which the engine must step: the largest bound among the versions of its calls."""
        uncalibrated_ns = int(self._options.uncalibrated_stall_s * 1e9)
        versions = {entry.version.handle: entry.version for entry in self.sent.values()}
        bounds = [version.spec.settings.cost_bound_ns for version in versions.values()]
        return max((bound or uncalibrated_ns for bound in bounds), default=uncalibrated_ns)

    # -- leaving ---------------------------------------------------------------------------------------------

    async def leave(self, supervision: asyncio.Task[None], *, drain: bool) -> None:
        """End the worker for good: told to, and killed when it does not."""
        self.leaving = True
        self._left.set()
        link = self.link
        if link is not None and link.hello.done() and not link.ended.done():
            self.apply(WorkerEvent.DRAIN)
            link.send(Stop(drain))
            await asyncio.wait((link.process.exited,), timeout=self._options.stop_timeout_s)
        if link is not None:
            link.end("told to stop")
        await asyncio.wait((supervision,))
