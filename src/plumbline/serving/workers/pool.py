"""`ProcessPool`: the port `WorkerPool` on supervised processes.

    infer --> accept (journal, credit, room) --> send --> outcome --> copy, check, end (journal)
                                                   |
                                   worker lost: once -> another worker, alone; twice -> failed

Rules. A call that finds no credit, no room or no ready worker is refused at once, typed and transient; what
is accepted is never refused later. A call whose worker died is sent once more; such calls go to a worker one
at a time (`suspects_at_once`), so that the one that kills takes no others with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import zmq

from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.outcomes import (
    DeadlineMissed,
    RequestCancelled,
    VersionLoadedTwice,
    VersionNotLoaded,
)
from plumbline.errors import PlumblineError
from plumbline.serving.ports import WorkerStatus
from plumbline.serving.workers import protocol, tensors
from plumbline.serving.workers.failures import (
    CallTooLarge,
    IntakeFull,
    LoadLostTwice,
    NoWorkerReady,
    OutcomeRefused,
    PoolDegraded,
    PoolStopped,
    WorkerLostTwice,
    WorkerUnknown,
)
from plumbline.serving.workers.journal import MAX_SEEN, CallEvent, CallState, Entry, Journal, LoadedVersion
from plumbline.serving.workers.journal import apply as apply_call
from plumbline.serving.workers.link import LinkEnded, WorkerLink
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.own_files import read_own_file, write_own_file
from plumbline.serving.workers.place import WorkerPlace
from plumbline.serving.workers.reporting import rebuild

__all__ = ["OnDone", "OnEvent", "ProcessPool"]

OnEvent = Callable[..., None]
"""Called as `on_event(kind, subject, **fields)`; worker.started, .replaced, .stalled, .lost, .stopped."""
OnDone = Callable[[VersionRef, InferenceCall, InferenceTiming | PlumblineError], None]
"""Told the outcome of every accepted call, once."""

_WAITING_LOOK_S = 0.05


def _no_event(kind: str, subject: str, **fields: object) -> None:
    return None


def _no_done(ref: VersionRef, call: InferenceCall, outcome: InferenceTiming | PlumblineError) -> None:
    return None


class ProcessPool:
    """Owner of the journal, the loaded versions and the places. Made and used on one event loop.

    Args:
        command: that runs a worker (`run_worker`); the channel is its last argument.
        count: of workers.
        log_folder: a folder `w0-g1` below it is made for each worker; None for none.
        options: sizes and times.
        on_event: told of workers that come and go.
        on_done: told of outcomes.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        count: int = 1,
        log_folder: Path | None = None,
        options: PoolOptions | None = None,
        on_event: OnEvent = _no_event,
        on_done: OnDone = _no_done,
    ) -> None:
        self._command, self._count, self._log_folder = tuple(command), count, log_folder
        self.options = options or PoolOptions()
        self.announce, self._on_done = on_event, on_done
        self._journal = Journal()
        self._versions: dict[VersionRef, LoadedVersion] = {}
        self._handles = 0
        self._places: dict[str, WorkerPlace] = {}
        self._supervision: dict[str, asyncio.Task[None]] = {}
        self._waiting: deque[Entry] = deque()
        self._apart: set[asyncio.Task[None]] = set()
        self._accepting = False
        self._folder: Path | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._clock_task: asyncio.Task[None] | None = None

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers; returns when each is ready for `load`.

        Raises:
            PoolDegraded: none comes up.
        """
        self._loop = asyncio.get_running_loop()
        self._changes = asyncio.Lock()
        self._emptied = asyncio.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="plumb-"))
        self._context = zmq.Context(io_threads=1)
        self._accepting = True
        self._clock_task = asyncio.create_task(self._look_after_waiting(), name="waiting calls")
        for index in range(self._count):
            self._open_place(f"w{index}")
        await self._settled()
        if not self._ready():
            error = self._none_ready(None)
            await self.stop(drain=False, timeout_s=0.0)
            raise error

    async def stop(self, *, drain: bool, timeout_s: float) -> None:
        """End: finish what was accepted (drain) or refuse it, then stop every worker."""
        self._accepting = False
        if drain and len(self._journal):
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), timeout_s)
        for entry in self._journal:
            self._end(entry, CallEvent.FAIL, PoolStopped())
        self._waiting.clear()
        await asyncio.gather(*(self._leave(name, drain=drain) for name in tuple(self._places)))
        for task in tuple(self._apart):
            task.cancel()
        if self._clock_task is not None:
            self._clock_task.cancel()
            self._clock_task = None
        self._versions.clear()
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    async def scale(self, count: int) -> None:
        """Bring the number of workers to `count`; those that go are drained."""
        async with self._changes:
            names = [f"w{index}" for index in range(count)]
            new = [name for name in names if name not in self._places]
            going = [name for name in self._places if name not in names]
            for name in new:
                self._open_place(name)
        await asyncio.gather(*(self._drain_place(name) for name in going))
        await self._settled()

    async def _drain_place(self, name: str) -> None:
        place = self._places[name]
        place.leaving = True
        while place.sent and place.is_ready:
            await asyncio.sleep(_WAITING_LOOK_S / 5)
        await self._leave(name, drain=True)
        self._dispatch_waiting()

    async def _leave(self, name: str, *, drain: bool) -> None:
        place, supervision = self._places[name], self._supervision[name]
        await place.leave(supervision, drain=drain)
        self._places.pop(name, None)
        self._supervision.pop(name, None)

    def _open_place(self, name: str) -> None:
        place = WorkerPlace(name, self, self.options, self._make_log_folder)
        self._places[name] = place
        self._supervision[name] = asyncio.create_task(place.run(), name=f"{name} supervision")

    async def _settled(self) -> None:
        """Until every place is ready, or known to be degraded."""
        await asyncio.gather(*(place.settled.wait() for place in tuple(self._places.values())))

    def _make_log_folder(self, stem: str) -> Path | None:
        if self._log_folder is None:
            return None
        folder = self._log_folder / stem
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # -- what places ask and tell ----------------------------------------------------------------------------

    def open_link(self, place: WorkerPlace) -> WorkerLink:
        """Start the next generation. Raises OSError."""
        if self._folder is None or self._context is None:
            raise OSError("the pool is stopped")
        return WorkerLink(
            name=place.name,
            generation=place.generation,
            command=self._command,
            folder=self._folder,
            log_folder=place.log_folder(f"{place.name}-g{place.generation}"),
            options=self.options,
            context=self._context,
            on_outcomes=self._outcomes,
        )

    async def load_committed(self, place: WorkerPlace) -> None:
        """Load in a new worker what the others have, then let it take calls."""
        async with self._changes:
            link = place.link
            if link is None:
                return
            for version in tuple(self._versions.values()):
                await link.load(version.handle, version.spec)
            place.take_calls()
        self._dispatch_waiting()

    def place_changed(self, place: WorkerPlace) -> None:
        """Nothing is kept of it here: readiness is read from the places."""

    def place_lost(self, place: WorkerPlace, link: WorkerLink, reason: str) -> None:
        """Send its calls elsewhere, or fail those that two dead workers have seen."""
        self.announce(
            "worker.stopped" if place.leaving and not place.sent else "worker.lost",
            place.name,
            generation=link.generation,
            reason=reason,
            calls=len(place.sent),
        )
        lost, place.sent = list(place.sent.values()), {}
        place.suspects = place.own_files = 0
        for entry in lost:
            entry.slot = None
            entry.seen += 1
            if entry.unwanted:
                self._end(entry, CallEvent.FAIL, RequestCancelled(request=entry.call.id, launched=True))
            elif entry.seen >= MAX_SEEN:
                self._end(entry, CallEvent.FAIL, WorkerLostTwice(request=entry.call.id, reason=reason))
            else:
                entry.state = apply_call(entry.state, CallEvent.LOSE)
                self._waiting.append(entry)
        if place.is_degraded and not self._ready():
            for entry in self._waiting:
                self._end(entry, CallEvent.FAIL, self._none_ready(None))
            self._waiting.clear()
        self._dispatch_waiting()

    # -- versions --------------------------------------------------------------------------------------------

    async def load(self, spec: VersionSpec) -> ModelMetadata:
        """Load in every worker, now and in every one that comes later; returns after a warm-up inference.

        Raises:
            PlumblineError: what the worker said; nothing stays loaded. VersionLoadedTwice, LoadLostTwice,
                NoWorkerReady, PoolDegraded among them.
        """
        reasons: list[str] = []
        while len(reasons) < MAX_SEEN:
            await self._settled()
            async with self._changes:
                if spec.ref in self._versions:
                    raise VersionLoadedTwice(version=str(spec.ref))
                places = self._ready()
                if places:
                    metadata = await self._load_in(places, spec, reasons)
                    if metadata is not None:
                        return metadata
                    continue
            if not reasons or self._is_degraded():
                raise self._none_ready(None)
            await asyncio.sleep(_WAITING_LOOK_S)
        raise LoadLostTwice(version=str(spec.ref), reason=reasons[-1])

    async def _load_in(
        self, places: Sequence[WorkerPlace], spec: VersionSpec, reasons: list[str]
    ) -> ModelMetadata | None:
        self._handles += 1
        handle = self._handles
        links = [place.link for place in places if place.link is not None]
        answers = await asyncio.gather(*(link.load(handle, spec) for link in links), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        loaded = [answer for answer in answers if isinstance(answer, ModelMetadata)]
        if loaded and not failures:
            version = LoadedVersion(handle=handle, spec=spec, metadata=loaded[0])
            self._versions[spec.ref] = version
            return loaded[0]
        for link, answer in zip(links, answers, strict=True):
            if isinstance(answer, ModelMetadata):
                with contextlib.suppress(LinkEnded, PlumblineError):
                    await link.unload(handle)
        for failure in failures:
            if not isinstance(failure, LinkEnded):
                raise failure
        reasons.append(str(failures[0]))
        return None

    async def unload(self, ref: VersionRef) -> None:
        """Unload everywhere. Accepted calls of it are finished first.

        Raises:
            VersionNotLoaded: it is not, or another unload is under way.
        """
        version = self._find(ref)
        version.leaving = True
        if version.alive:
            version.idle = asyncio.Event()
            await version.idle.wait()
        async with self._changes:
            self._versions.pop(ref, None)
            links = [place.link for place in self._ready() if place.link is not None]
            answers = await asyncio.gather(
                *(link.unload(version.handle) for link in links), return_exceptions=True
            )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, LinkEnded):
                raise answer

    def _find(self, ref: VersionRef) -> LoadedVersion:
        version = self._versions.get(ref)
        if version is None or version.leaving:
            loaded = ", ".join(str(other) for other in self._versions) or "none"
            raise VersionNotLoaded(version=str(ref), loaded=loaded)
        return version

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
        version = self._find(ref)
        self._journal.verify_new(call.id)
        place = self._choose(worker)
        packed, size = tensors.pack(call.inputs)
        if size > self.options.max_call_bytes:
            raise CallTooLarge(what="inputs", size_bytes=size, limit_bytes=self.options.max_call_bytes)
        if size > self.options.own_file_bytes:
            self._verify_own_files(place)
            entry = self._journal.accept(call, version, self._loop.create_future())
            self._keep(self._send_apart(entry, place))
        else:
            slot = self._take_slot(place, size)
            entry = self._journal.accept(call, version, self._loop.create_future())
            self._send(entry, place, slot, packed)
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._abandon(entry)
            raise

    def cancel(self, request: RequestId) -> bool:
        """Ask for a call to be cancelled; False when it is not alive."""
        entry = self._journal.find(request)
        if entry is None:
            return False
        self._abandon(entry)
        return True

    def workers(self) -> Sequence[WorkerStatus]:
        """Every place, in order of name."""
        versions = tuple(str(ref) for ref in self._versions)
        memory_bytes = sum(version.metadata.memory_bytes for version in self._versions.values())
        places = sorted(self._places.values(), key=lambda place: (len(place.name), place.name))
        return tuple(place.status(versions, memory_bytes) for place in places)

    def output(self, worker: str) -> str:
        """What the process in this place printed last, or the one before when there is none.

        Raises:
            WorkerUnknown: there is no such place.
        """
        place = self._places.get(worker)
        if place is None:
            raise WorkerUnknown(worker=worker[:40], known=", ".join(self._places))
        return place.last_output if place.link is None else place.link.output.text()

    def _abandon(self, entry: Entry) -> None:
        entry.unwanted = True
        if entry.state is CallState.ACCEPTED:
            if entry in self._waiting:
                self._waiting.remove(entry)
            self._end(entry, CallEvent.FAIL, RequestCancelled(request=entry.call.id, launched=False))
        elif entry.state is CallState.SENT:
            place = self._places.get(entry.worker)
            if place is not None and place.link is not None:
                place.link.post_cancel(entry.call.id)

    # -- choosing --------------------------------------------------------------------------------------------

    def _ready(self) -> list[WorkerPlace]:
        return [place for place in self._places.values() if place.is_ready]

    def _choose(self, worker: str | None) -> WorkerPlace:
        best: WorkerPlace | None = None
        limit = self.options.calls_per_worker
        if worker is not None:
            best = self._places.get(worker)
            if best is None:
                raise WorkerUnknown(worker=worker[:40], known=", ".join(self._places))
            if not best.is_ready or best.leaving:
                raise self._none_ready(best)
        else:
            for place in self._places.values():
                if (
                    place.is_ready
                    and not place.leaving
                    and (best is None or len(place.sent) < len(best.sent))
                ):
                    best = place
            if best is None:
                raise self._none_ready(None)
        if len(best.sent) >= limit:
            retry_after_s = self.options.retry_after_s
            raise IntakeFull(what="calls of the worker", used=limit, limit=limit, retry_after_s=retry_after_s)
        return best

    def _is_degraded(self) -> bool:
        return any(place.is_degraded for place in self._places.values()) and not self._ready()

    def _none_ready(self, named: WorkerPlace | None) -> PlumblineError:
        places = [named] if named is not None else list(self._places.values())
        degraded = [place for place in places if place.is_degraded]
        if degraded and not any(place.is_ready for place in places):
            return PoolDegraded(
                deaths=max(place.deaths for place in degraded),
                reason=degraded[-1].last_reason,
                retry_after_s=self.options.max_backoff_s,
            )
        states = ", ".join(f"{place.name} {place.state.value}" for place in places) or "there are no workers"
        return NoWorkerReady(states=states, retry_after_s=self.options.retry_after_s)

    def _take_slot(self, place: WorkerPlace, size: int) -> tuple[int, int]:
        link = place.link
        slot = None if link is None else link.slots.take(size)
        if link is None or slot is None:
            used = 0 if link is None else link.slots.used_bytes
            raise IntakeFull(
                what="bytes for inputs of the worker",
                used=used + size,
                limit=self.options.input_bytes,
                retry_after_s=self.options.retry_after_s,
            )
        return slot

    def _verify_own_files(self, place: WorkerPlace) -> None:
        limit = self.options.own_files
        if place.own_files >= limit:
            retry_after_s = self.options.retry_after_s
            raise IntakeFull(
                what="large calls of the worker", used=limit, limit=limit, retry_after_s=retry_after_s
            )

    # -- sending ---------------------------------------------------------------------------------------------

    def _send(self, entry: Entry, place: WorkerPlace, slot: tuple[int, int], packed: tensors.Packed) -> None:
        link = place.link
        if link is None:
            raise LinkEnded("the worker ended")
        entry.slot = slot
        self._post(entry, place, link, tensors.write(packed, link.region.memory, slot[0]), own_file=False)

    def _post(
        self,
        entry: Entry,
        place: WorkerPlace,
        link: WorkerLink,
        places: list[protocol.TensorAt],
        *,
        own_file: bool,
    ) -> None:
        call = entry.call
        entry.state = apply_call(entry.state, CallEvent.SEND)
        entry.worker = place.name
        place.sent[entry.number] = entry
        if entry.seen:
            place.suspects += 1
        link.post(
            protocol.Job(
                entry.number,
                entry.version.handle,
                call.id,
                places,
                own_file,
                call.tenant,
                call.priority,
                call.arrived_ns,
                call.deadline_ns,
                call.start_by_ns,
                call.wanted,
                dict(call.parameters) if call.parameters else None,
                call.traceparent,
            )
        )

    async def _send_apart(self, entry: Entry, place: WorkerPlace) -> None:
        """Write a file of its own, off the loop, and send it."""
        link = place.link
        place.own_files += 1
        descriptor = -1
        try:
            descriptor, places = await self._loop.run_in_executor(None, write_own_file, entry.call.inputs)
            if entry.state is not CallState.ACCEPTED:
                return
            if link is None or link is not place.link or not place.is_ready:
                self._waiting.append(entry)
                return
            link.send_file(entry.number, descriptor)
            self._post(entry, place, link, places, own_file=True)
        except (OSError, PlumblineError) as error:
            if entry.state is CallState.ACCEPTED:
                self._fail_unsent(entry, error)
        finally:
            if entry.state is not CallState.SENT and link is place.link:
                place.own_files -= 1
            if descriptor >= 0:
                os.close(descriptor)

    def _fail_unsent(self, entry: Entry, error: OSError | PlumblineError) -> None:
        if not isinstance(error, PlumblineError):
            error = IntakeFull(
                what="memory for a large call",
                used=1,
                limit=0,
                retry_after_s=self.options.retry_after_s,
            )
        self._end(entry, CallEvent.FAIL, error)

    def _keep(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._apart.add(task)
        task.add_done_callback(self._apart.discard)

    def _dispatch_waiting(self) -> None:
        """Send accepted calls that have no worker, as far as ready workers take suspects."""
        for _ in range(len(self._waiting)):
            entry = self._waiting.popleft()
            if entry.state is CallState.ACCEPTED and not self._dispatch(entry):
                self._waiting.append(entry)

    def _dispatch(self, entry: Entry) -> bool:
        limit = self.options.suspects_at_once
        ready = [p for p in self._ready() if p.suspects < limit and not p.leaving]
        if not ready:
            return False
        place = min(ready, key=lambda each: len(each.sent))
        packed, size = tensors.pack(entry.call.inputs)
        if size > self.options.own_file_bytes:
            self._keep(self._send_apart(entry, place))
            return True
        slot = None if place.link is None else place.link.slots.take(size)
        if slot is None:
            return False
        self._send(entry, place, slot, packed)
        return True

    async def _look_after_waiting(self) -> None:
        """Accepted calls that wait for a worker keep their deadlines."""
        while True:
            await asyncio.sleep(_WAITING_LOOK_S)
            if not self._waiting:
                continue
            now_ns = time.monotonic_ns()
            for entry in tuple(self._waiting):
                call = entry.call
                for limit, moment_ns in (("deadline", call.deadline_ns), ("start_by", call.start_by_ns)):
                    if moment_ns is not None and moment_ns <= now_ns and entry.state is CallState.ACCEPTED:
                        missed = DeadlineMissed(
                            request=call.id,
                            limit=limit,
                            limit_ns=moment_ns,
                            arrived_ns=call.arrived_ns,
                            expired_ns=now_ns,
                            waited_ns=now_ns - call.arrived_ns,
                        )
                        self._end(entry, CallEvent.FAIL, missed)
            self._waiting = deque(entry for entry in self._waiting if entry.state is CallState.ACCEPTED)
            self._dispatch_waiting()

    # -- outcomes --------------------------------------------------------------------------------------------

    def _outcomes(self, link: WorkerLink, outcomes: list[protocol.Outcome]) -> None:
        place = self._places.get(link.name)
        if place is None or place.link is not link:
            return
        for outcome in outcomes:
            entry = place.sent.get(outcome.number)
            if entry is None:
                link.end("protocol violated: an outcome of no call that it has")
                return
            if not self._take_outcome(place, link, entry, outcome):
                return
        link.region.consume(link.ring_position)
        if self._waiting:
            self._dispatch_waiting()

    def _take_outcome(
        self, place: WorkerPlace, link: WorkerLink, entry: Entry, outcome: protocol.Outcome
    ) -> bool:
        if outcome.failure is not None:
            self._forget(place, link, entry)
            self._end(entry, CallEvent.ANSWER, rebuild(outcome.failure))
            return True
        metadata = entry.version.metadata
        if outcome.ring_end == 0 and outcome.outputs:
            self._forget(place, link, entry)
            self._keep(self._take_apart(link, entry, outcome))
            return True
        room = link.region.ring_room(link.ring_position, outcome.ring_end)
        if room is None:
            return self._refuse(place, link, entry, "its room in the ring is none")
        flaw = tensors.mismatch(outcome.outputs, room[0], room[1], metadata)
        if flaw is not None:
            return self._refuse(place, link, entry, f"output {flaw[0]}: {flaw[1]}")
        try:
            outputs = tensors.read(outcome.outputs, link.region.memory, copy=True)
        except ValueError as error:
            return self._refuse(place, link, entry, str(error))
        link.ring_position = outcome.ring_end
        self._forget(place, link, entry)
        self._finish(link, entry, outcome, outputs)
        return True

    def _finish(
        self, link: WorkerLink, entry: Entry, outcome: protocol.Outcome, outputs: dict[str, np.ndarray]
    ) -> None:
        arrived_ns, queued_ns, launched_ns, finished_ns, launch, batched, stream = outcome.timing
        timing = InferenceTiming(
            arrived_ns=arrived_ns,
            queued_ns=queued_ns,
            launched_ns=launched_ns,
            finished_ns=finished_ns,
            launch=launch,
            batched=batched,
            stream=stream,
            worker=link.name,
        )
        result = InferenceResult(
            id=entry.call.id, served_by=entry.version.spec.ref, outputs=outputs, timing=timing
        )
        self._end(entry, CallEvent.ANSWER, result)

    async def _take_apart(self, link: WorkerLink, entry: Entry, outcome: protocol.Outcome) -> None:
        """Copy a large result out of its file, off the loop, and check it."""
        descriptor = link.take_file(outcome.number)
        flaw: str | None = "its file did not come"
        outputs: dict[str, np.ndarray] = {}
        if descriptor is not None:
            outputs, flaw = await self._loop.run_in_executor(
                None,
                read_own_file,
                descriptor,
                outcome.outputs,
                entry.version.metadata,
                self.options.max_call_bytes,
            )
        if entry.state is CallState.DONE:
            return
        if flaw is not None:
            self._end(entry, CallEvent.ANSWER, OutcomeRefused(worker=link.name, reason=flaw))
            link.end("protocol violated: an impossible result")
            return
        self._finish(link, entry, outcome, outputs)

    def _refuse(self, place: WorkerPlace, link: WorkerLink, entry: Entry, reason: str) -> bool:
        self._forget(place, link, entry)
        self._end(entry, CallEvent.ANSWER, OutcomeRefused(worker=link.name, reason=reason))
        link.end("protocol violated: an impossible result")
        return False

    def _forget(self, place: WorkerPlace, link: WorkerLink, entry: Entry) -> None:
        """The worker has answered: its room and its credit are free."""
        del place.sent[entry.number]
        if entry.seen:
            place.suspects -= 1
        if entry.slot is None:
            place.own_files -= 1
        else:
            link.slots.give(entry.slot)
            entry.slot = None

    def _end(self, entry: Entry, event: CallEvent, outcome: InferenceResult | PlumblineError) -> None:
        self._journal.end(entry, event, outcome)
        told = outcome if isinstance(outcome, PlumblineError) else outcome.timing
        self._on_done(entry.version.spec.ref, entry.call, told)
        if not len(self._journal):
            self._emptied.set()
