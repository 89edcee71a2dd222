"""The desk of accepted calls: which worker takes one, how it gets there, and what becomes of it.

    accept (journal, credit, room) --> send --> outcome --> copy, check, end (journal)
                                        |
                        worker lost: once -> another worker, alone; twice -> failed

Rules. A call that finds no credit, no room or no ready worker is refused at once, typed and transient. What
is accepted is never refused later for want of room: it waits. A call whose worker died is sent once more;
such calls go to a worker one at a time (`suspects_at_once`), so the one that kills takes no others along.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.requests import RequestId
from plumbline.engine.outcomes import DeadlineMissed, RequestCancelled
from plumbline.errors import PlumblineError
from plumbline.serving.workers import protocol, tensors
from plumbline.serving.workers.choice import WorkerChoice
from plumbline.serving.workers.failures import CallRefused, CallTooLarge, OutcomeRefused, WorkerLostTwice
from plumbline.serving.workers.journal import MAX_SEEN, CallEvent, CallState, Entry, Journal, LoadedVersion
from plumbline.serving.workers.journal import apply as apply_call
from plumbline.serving.workers.link import WorkerLink
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.own_files import write_own_file
from plumbline.serving.workers.place import WorkerPlace
from plumbline.serving.workers.receiving import read_outcome, read_outcome_apart, result_of
from plumbline.serving.workers.reporting import rebuild
from plumbline.serving.workers.rerouting import OnRoute, nobody_is_routed, sent_again, worker_lost

__all__ = ["CallDesk", "OnDone"]

OnDone = Callable[[VersionRef, InferenceCall, InferenceTiming | PlumblineError], None]
"""Told the outcome of every accepted call, once."""

_LOOK_S = 0.05


class CallDesk:
    """Owner of the journal and of the calls that wait for a worker. Used on one event loop.

    Args:
        choice: of a worker.
        options: sizes and times.
        on_done: told of outcomes.
        on_route: told of accepted calls whose worker died.
    """

    def __init__(
        self,
        choice: WorkerChoice,
        options: PoolOptions,
        on_done: OnDone,
        on_route: OnRoute = nobody_is_routed,
    ) -> None:
        self._choice, self._options, self._on_done, self._on_route = choice, options, on_done, on_route
        self.journal = Journal()
        self._waiting: deque[Entry] = deque()
        self._apart: set[asyncio.Task[None]] = set()
        self._emptied = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._looking = self._loop.create_task(self._look_after_waiting(), name="waiting calls")

    # -- in --------------------------------------------------------------------------------------------------

    async def infer(self, version: LoadedVersion, call: InferenceCall, worker: str | None) -> InferenceResult:
        """Accept a call, and wait for its outcome. Cancelling the waiting task cancels the call.

        Raises:
            PlumblineError: the refusal, or the outcome.
        """
        self.journal.verify_new(call.id)
        place, link = self._choice.choose(version, worker)
        packed, size = tensors.pack(call.inputs)
        if size > self._options.max_call_bytes:
            raise CallTooLarge(what="inputs", size_bytes=size, limit_bytes=self._options.max_call_bytes)
        if size > self._options.own_file_bytes:
            self._choice.verify_own_file(place)
            entry = self.journal.accept(call, version, self._loop.create_future())
            self._start_apart(self._send_apart(entry, place, link))
        else:
            slot = self._choice.take_slot(link, size)
            places = tensors.write(packed, link.region.memory, slot[0])
            entry = self.journal.accept(call, version, self._loop.create_future())
            entry.slot = slot
            self._post(entry, place, link, places)
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._abandon(entry)
            raise

    def cancel(self, request: RequestId) -> bool:
        """Ask for the end of a call; False when it is not alive."""
        entry = self.journal.find(request)
        if entry is not None:
            self._abandon(entry)
        return entry is not None

    def _abandon(self, entry: Entry) -> None:
        entry.unwanted = True
        if entry.state is CallState.ACCEPTED:
            cancelled = RequestCancelled(request=entry.call.id, launched=False)
            self._end(entry, CallEvent.FAIL, cancelled)
        elif entry.state is CallState.SENT:
            link = self._choice.link_of(entry.worker)
            if link is not None:
                link.post_cancel(entry.call.id)

    # -- out -------------------------------------------------------------------------------------------------

    def _post(
        self, entry: Entry, place: WorkerPlace, link: WorkerLink, places: list[protocol.TensorAt]
    ) -> None:
        call = entry.call
        entry.state = apply_call(entry.state, CallEvent.SEND)
        entry.worker = place.name
        place.sent[entry.number] = entry
        if entry.seen:
            place.suspects += 1
            self._on_route(sent_again(entry, self._choice, place))
        job = protocol.Job(
            entry.number, entry.version.handle, call.id, places, entry.slot is None, call.tenant,
            call.priority, call.arrived_ns, call.deadline_ns, call.start_by_ns, call.wanted,
            dict(call.parameters) if call.parameters else None, call.traceparent,
        )  # fmt: skip
        link.post(job)

    async def _send_apart(self, entry: Entry, place: WorkerPlace, link: WorkerLink) -> None:
        """Write a file of its own, off the loop, and send it."""
        place.own_files += 1
        descriptor = -1
        try:
            descriptor, places = await self._loop.run_in_executor(None, write_own_file, entry.call.inputs)
            if entry.state is not CallState.ACCEPTED:
                return
            if link is not place.link or not place.is_ready:
                self._waiting.append(entry)
                return
            link.send_file(entry.number, descriptor)
            self._post(entry, place, link, places)
        except OSError as error:
            reason = f"its file cannot be sent: {type(error).__name__}"
            self._end(entry, CallEvent.FAIL, CallRefused(request=entry.call.id, reason=reason))
        finally:
            if entry.state is not CallState.SENT and link is place.link:
                place.own_files -= 1
            if descriptor >= 0:
                os.close(descriptor)

    def unsendable(self, link: WorkerLink, number: int, reason: str) -> None:
        """A job could not be written as a message: what a caller gave is no plain value."""
        place = self._choice.place_of(link)
        entry = None if place is None else place.sent.get(number)
        if place is None or entry is None:
            return
        self._forget(place, link, entry)
        if entry.state is CallState.SENT:
            self._end(entry, CallEvent.FAIL, CallRefused(request=entry.call.id, reason=reason))

    def dispatch_waiting(self) -> None:
        """Send accepted calls that have no worker, as far as ready workers take suspects."""
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            if entry.state is CallState.ACCEPTED and not self._dispatch(entry):
                self._waiting.append(entry)

    def _dispatch(self, entry: Entry) -> bool:
        chosen = self._choice.choose_for_suspect(entry.version)
        if chosen is None:
            return False
        place, link = chosen
        packed, size = tensors.pack(entry.call.inputs)
        if size > self._options.own_file_bytes:
            self._start_apart(self._send_apart(entry, place, link))
            return True
        slot = link.slots.take(size)
        if slot is None:
            return False
        entry.slot = slot
        self._post(entry, place, link, tensors.write(packed, link.region.memory, slot[0]))
        return True

    async def _look_after_waiting(self) -> None:
        """Accepted calls that wait for a worker keep their deadlines."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now_ns = time.monotonic_ns()
            for entry in tuple(self._waiting):
                missed = _missed(entry.call, now_ns)
                if missed is not None and entry.state is CallState.ACCEPTED:
                    self._end(entry, CallEvent.FAIL, missed)
            if self._waiting:
                self.dispatch_waiting()

    # -- back ------------------------------------------------------------------------------------------------

    def outcomes(self, link: WorkerLink, outcomes: list[protocol.Outcome]) -> None:
        """Outcomes that a worker sent, in order. The first impossible one ends the worker."""
        place = self._choice.place_of(link)
        if place is None:
            return
        for outcome in outcomes:
            entry = place.sent.get(outcome.number)
            if entry is None:
                link.end("protocol violated: an outcome of no call that it has")
                return
            if not self._take(place, link, entry, outcome):
                return
        link.region.consume(link.ring_position)
        if self._waiting:
            self.dispatch_waiting()

    def _take(self, place: WorkerPlace, link: WorkerLink, entry: Entry, outcome: protocol.Outcome) -> bool:
        if outcome.failure is None and outcome.ring_end == 0 and outcome.outputs:
            self._start_apart(self._take_apart(place, link, entry, outcome))
            return True
        answer: InferenceResult | PlumblineError
        if outcome.failure is not None:
            answer, flaw = rebuild(outcome.failure), None
        else:
            outputs, flaw = read_outcome(link, outcome, entry.call.wanted, entry.version.metadata)
            answer = result_of(link.name, entry, outcome, outputs)
        return self._settle(place, link, entry, answer, flaw)

    async def _take_apart(
        self, place: WorkerPlace, link: WorkerLink, entry: Entry, outcome: protocol.Outcome
    ) -> None:
        """Copy a large result out of its file, off the loop, and check it. The call stays with its worker."""
        outputs, flaw = await read_outcome_apart(
            link, outcome, entry.call.wanted, entry.version.metadata, self._options.max_call_bytes
        )
        if place.sent.get(entry.number) is entry and place.link is link:
            answer = result_of(link.name, entry, outcome, outputs)
            self._settle(place, link, entry, answer, flaw)

    def _settle(
        self,
        place: WorkerPlace,
        link: WorkerLink,
        entry: Entry,
        answer: InferenceResult | PlumblineError,
        flaw: str | None,
    ) -> bool:
        self._forget(place, link, entry)
        if flaw is not None:
            answer = OutcomeRefused(worker=link.name, reason=flaw)
        if entry.state is CallState.SENT:
            self._end(entry, CallEvent.ANSWER, answer)
        if flaw is not None:
            link.end("protocol violated: an impossible result")
        return flaw is None

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

    # -- ends ------------------------------------------------------------------------------------------------

    def lose(self, place: WorkerPlace, reason: str) -> None:
        """A worker is gone: send its calls elsewhere, or fail those that two dead workers have seen."""
        lost, place.sent = list(place.sent.values()), {}
        place.suspects = place.own_files = 0
        for entry in lost:
            entry.slot = None
            entry.seen += 1
            if entry.state is not CallState.SENT:
                continue
            if not entry.future.done():
                self._on_route(worker_lost(entry, self._choice, place, reason))
            if entry.unwanted:
                cancelled = RequestCancelled(request=entry.call.id, launched=True)
                self._end(entry, CallEvent.FAIL, cancelled)
            elif place.breach is not None and (limit := place.breach.outcome(entry)) is not None:
                self._end(entry, CallEvent.FAIL, limit)
            elif entry.seen >= MAX_SEEN:
                self._end(entry, CallEvent.FAIL, WorkerLostTwice(request=entry.call.id, reason=reason))
            else:
                entry.state = apply_call(entry.state, CallEvent.LOSE)
                self._waiting.append(entry)
        self.dispatch_waiting()

    def waiting_versions(self) -> set[int]:
        """Handles of the versions with accepted calls that have no worker."""
        return {entry.version.handle for entry in self._waiting if entry.state is CallState.ACCEPTED}

    def fail_waiting(
        self, make_error: Callable[[], PlumblineError], version: LoadedVersion | None = None
    ) -> None:
        """No worker will come soon, or none with this version: calls that wait for one are failed."""
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            if version is not None and entry.version is not version:
                self._waiting.append(entry)
            elif entry.state is CallState.ACCEPTED:
                self._end(entry, CallEvent.FAIL, make_error())

    async def drained(self, timeout_s: float) -> None:
        """Until every accepted call has its outcome, or the time is over."""
        self._emptied.clear()
        if len(self.journal):
            await asyncio.wait((self._loop.create_task(self._emptied.wait()),), timeout=timeout_s)

    def close(self, make_error: Callable[[], PlumblineError]) -> None:
        """Fail what is left."""
        for entry in self.journal:
            self._end(entry, CallEvent.FAIL, make_error())
        self._waiting.clear()
        self._looking.cancel()
        self._emptied.set()

    def _end(self, entry: Entry, event: CallEvent, outcome: InferenceResult | PlumblineError) -> None:
        self.journal.end(entry, event, outcome)
        told = outcome if isinstance(outcome, PlumblineError) else outcome.timing
        self._on_done(entry.version.spec.ref, entry.call, told)
        if not len(self.journal):
            self._emptied.set()

    def _start_apart(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._apart.add(task)
        task.add_done_callback(self._apart.discard)


def _missed(call: InferenceCall, now_ns: int) -> DeadlineMissed | None:
    for limit, moment_ns in (("deadline", call.deadline_ns), ("start_by", call.start_by_ns)):
        if moment_ns is not None and moment_ns <= now_ns:
            return DeadlineMissed(
                request=call.id, limit=limit, limit_ns=moment_ns, arrived_ns=call.arrived_ns,
                expired_ns=now_ns, waited_ns=now_ns - call.arrived_ns,
            )  # fmt: skip
    return None
