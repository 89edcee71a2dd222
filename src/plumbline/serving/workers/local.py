"""`InProcessPool`: the port `WorkerPool` on one engine in this process, for library use.

Same rules as with processes as far as one process can keep them: nothing is copied, nothing crosses; a native
fault ends the caller too. There is one group, for models and classes alike, whatever version.toml names. A
run of a class that takes too long turns the worker stalled until it ends; nothing bounds its memory.

Calls are submitted on the event loop, so a session that takes long to admit a call holds it up. Outcomes come
from the engine's thread and are handed over many at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from plumbline.contracts.inference import InferenceCall, InferenceResult, VersionRef
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import PlumblineError
from plumbline.serving.ports import WorkerState, WorkerStatus
from plumbline.serving.workers import tensors
from plumbline.serving.workers.desk import OnDone
from plumbline.serving.workers.failures import (
    CallTooLarge,
    IntakeFull,
    PoolStopped,
    ScaleRefused,
    WorkerUnknown,
)
from plumbline.serving.workers.journal import CallEvent, CallState, Entry, Journal, LoadedVersion
from plumbline.serving.workers.journal import apply as apply_call
from plumbline.serving.workers.log_health import log_trouble
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import OnEvent, no_event, nobody_is_told
from plumbline.serving.workers.process import OpenSession, WorkerEngine, give_memory_back, load_warm
from plumbline.serving.workers.progress import Look, ProgressWatch
from plumbline.serving.workers.reporting import as_plumbline
from plumbline.serving.workers.run_board import RunSeats, find_overrun
from plumbline.serving.workers.versions import LoadedVersions

__all__ = ["InProcessPool"]

_NAME = "w0"
_RUN_WORDS = 2048


class InProcessPool:
    """Owner of one engine and the journal of its calls. Used on the event loop that calls `start`.

    Args:
        open_session: makes a session of a version.
        make_scheduler: called at `start` as `make_scheduler(name="w0", log_folder=..., progress=cell,
            log_health=cell of two)`.
        log_folder: a folder `w0-g1` below it is made for the decision log; None for none.
        options: of them `calls_per_worker`, `max_call_bytes`, `retry_after_s` and the watch's times hold.
        on_event: told of the worker's start, stall and stop.
        on_done: told of outcomes.
    """

    def __init__(
        self,
        open_session: OpenSession,
        make_scheduler: Callable[..., WorkerEngine],
        *,
        log_folder: Path | None = None,
        options: PoolOptions | None = None,
        on_event: OnEvent = no_event,
        on_done: OnDone = nobody_is_told,
    ) -> None:
        self._open_session, self._make_scheduler = open_session, make_scheduler
        self._log_folder, self.options = log_folder, options or PoolOptions()
        self._announce, self._on_done = on_event, on_done
        self._journal, self._versions = Journal(), LoadedVersions()
        self._progress, self._run_words = [0], [0] * _RUN_WORDS
        self._log_health = [0, 0]
        self._runs = RunSeats(self._run_words)
        self._state = WorkerState.DEAD
        self._done: deque[tuple[Entry, InferenceResult | PlumblineError]] = deque()
        self._collecting = False
        self._engine: WorkerEngine | None = None

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the engine.

        Raises:
            PlumblineError: it does not start.
        """
        self._loop = asyncio.get_running_loop()
        self._emptied = asyncio.Event()
        self._chores = ThreadPoolExecutor(1, thread_name_prefix="plumbline load")
        folder = None
        if self._log_folder is not None:
            folder = self._log_folder / f"{_NAME}-g1"
            folder.mkdir(parents=True, exist_ok=True)
        self._engine = self._make_scheduler(
            name=_NAME, log_folder=folder, progress=self._progress, log_health=self._log_health
        )
        self._engine.start()
        self._state = WorkerState.READY
        self._watching = self._loop.create_task(self._watch(), name=f"{_NAME} watch")
        self._announce("worker.started", _NAME, generation=1, pid=0)

    async def stop(self, *, drain: bool, timeout_s: float) -> None:
        """End: finish what was accepted (drain) or refuse it, then stop the engine. Idempotent."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        self._state = WorkerState.DRAINING
        self._watching.cancel()
        if drain and len(self._journal):
            self._emptied.clear()
            await asyncio.wait((self._loop.create_task(self._emptied.wait()),), timeout=timeout_s)
        for entry in self._journal:
            self._end(entry, CallEvent.FAIL, PoolStopped())
        try:
            await self._chore(engine.stop, drain=False, timeout_s=max(timeout_s, 1.0))
            await self._chore(engine.close)
        finally:
            self._state = WorkerState.DEAD
            self._chores.shutdown(wait=False)
            self._versions = LoadedVersions()
            self._announce("worker.stopped", _NAME, generation=1, reason="told to stop", calls=0)

    async def scale(self, count: int) -> None:
        """One engine is what there is.

        Raises:
            ScaleRefused: another number.
        """
        if count != 1:
            raise ScaleRefused(count=count, limit=1)

    # -- versions --------------------------------------------------------------------------------------------

    async def load(self, spec: VersionSpec) -> ModelMetadata:
        """Load a version; returns after a warm-up inference.

        Raises:
            PlumblineError: nothing stays loaded.
        """
        return await asyncio.shield(asyncio.ensure_future(self._load(spec)))

    async def _load(self, spec: VersionSpec) -> ModelMetadata:
        engine = self._running()
        async with self._versions.changes:
            self._versions.verify_new(spec.ref)
            try:
                metadata: ModelMetadata = await self._chore(
                    load_warm, engine, spec, self._open_session, self._runs
                )
            except Exception as error:
                raise as_plumbline(error, "load") from error
            self._versions.commit(spec, metadata)
            return metadata

    async def unload(self, ref: VersionRef) -> None:
        """Unload a version. Accepted calls of it are finished first.

        Raises:
            VersionNotLoaded: it is not, or another unload is under way.
        """
        engine = self._running()
        version = self._versions.get(ref)
        await asyncio.shield(asyncio.ensure_future(self._unload(engine, version)))

    async def _unload(self, engine: WorkerEngine, version: LoadedVersion) -> None:
        await self._versions.idle(version)
        async with self._versions.changes:
            self._versions.drop(version.spec.ref)
            await self._chore(engine.unload, version.spec.ref)
            await self._chore(give_memory_back)

    async def _chore(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return await self._loop.run_in_executor(self._chores, partial(function, *arguments, **named))

    def _running(self) -> WorkerEngine:
        if self._engine is None:
            raise PoolStopped()
        return self._engine

    # -- calls -----------------------------------------------------------------------------------------------

    async def infer(self, ref: VersionRef, call: InferenceCall, worker: str | None = None) -> InferenceResult:
        """Run a call on a loaded version.

        Raises:
            PlumblineError: the refusal or the one outcome, as `ProcessPool.infer`.
        """
        entry = self._accept(ref, call, worker)
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._cancel(entry)
            raise

    def _accept(self, ref: VersionRef, call: InferenceCall, worker: str | None) -> Entry:
        engine = self._running()
        version = self._versions.get(ref)
        self._journal.verify_new(call.id)
        if worker is not None:
            self._verify_name(worker)
        limit = self.options.calls_per_worker
        if len(self._journal) >= limit:
            retry_after_s = self.options.retry_after_s
            raise IntakeFull(what="calls of the worker", used=limit, limit=limit, retry_after_s=retry_after_s)
        _, size = tensors.pack(call.inputs)
        if size > self.options.max_call_bytes:
            raise CallTooLarge(what="inputs", size_bytes=size, limit_bytes=self.options.max_call_bytes)
        entry = self._journal.accept(call, version, self._loop.create_future())
        entry.state = apply_call(entry.state, CallEvent.SEND)
        try:
            engine.submit(ref, call, partial(self._completed, entry))
        except Exception as error:  # noqa: BLE001 - the worker: one call fails, the engine goes on
            self._end(entry, CallEvent.ANSWER, as_plumbline(error, "submission"))
        return entry

    def cancel(self, request: RequestId) -> bool:
        """Ask for a call to be cancelled; False when it is not alive."""
        entry = self._journal.find(request)
        if entry is not None:
            self._cancel(entry)
        return entry is not None

    def _cancel(self, entry: Entry) -> None:
        if self._engine is not None and entry.state is CallState.SENT:
            self._engine.cancel(entry.call.id)

    def _completed(self, entry: Entry, completion: InferenceResult | PlumblineError) -> None:
        """On the engine's thread."""
        self._done.append((entry, completion))
        if not self._collecting:
            self._collecting = True
            self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._collecting = False
        while self._done:
            entry, completion = self._done.popleft()
            if entry.state is CallState.SENT:
                self._end(entry, CallEvent.ANSWER, completion)

    def _end(self, entry: Entry, event: CallEvent, outcome: InferenceResult | PlumblineError) -> None:
        self._journal.end(entry, event, outcome)
        told = outcome if isinstance(outcome, PlumblineError) else outcome.timing
        self._on_done(entry.version.spec.ref, entry.call, told)
        if not len(self._journal):
            self._emptied.set()

    def _verify_name(self, worker: str) -> None:
        if worker != _NAME:
            raise WorkerUnknown(worker=worker[:40], known=_NAME)

    # -- facts -----------------------------------------------------------------------------------------------

    def workers(self) -> Sequence[WorkerStatus]:
        """The one worker; its process is the caller's, so it has no pid of its own."""
        running, budget_bytes = 0, None
        if self._engine is not None:
            status = self._engine.status()
            running, budget_bytes = status.running, status.budget_bytes
            if status.failed:
                self._state = WorkerState.DEAD
        return (
            WorkerStatus(
                name=_NAME,
                generation=1,
                pid=0,
                state=self._state,
                queued=max(len(self._journal) - running, 0),
                running=running,
                steps=self._progress[0],
                versions=self._versions.names(),
                memory_bytes=self._versions.memory_bytes(),
                budget_bytes=budget_bytes,
                log_trouble=log_trouble(self._log_health[0]),
                missed_decisions=self._log_health[1],
            ),
        )

    def sole_worker(self, ref: VersionRef) -> str | None:
        """The one worker, once it has the version."""
        is_ready = self._state is WorkerState.READY and self._versions.find(ref) is not None
        return _NAME if is_ready else None

    def output(self, worker: str) -> str:
        """Empty: what the one worker prints goes where its process prints.

        Raises:
            WorkerUnknown: another name.
        """
        self._verify_name(worker)
        return ""

    async def _watch(self) -> None:
        """A frozen engine turns the state to stalled, until it moves: a thread cannot be killed."""
        interval_s = self.options.watch_interval_s
        watch, looks = ProgressWatch(int(interval_s * 1e9)), 0
        while True:
            await asyncio.sleep(interval_s)
            looks += 1
            bounds = [entry.version.spec.settings.cost_bound_ns for entry in self._journal]
            uncalibrated_ns = int(self.options.uncalibrated_stall_s * 1e9)
            look = Look(
                at_ns=time.monotonic_ns(),
                beats=looks,
                steps=self._progress[0],
                busy=bool(bounds),
                bound_ns=max((bound or uncalibrated_ns for bound in bounds), default=uncalibrated_ns),
                floor_ns=int(self.options.stall_floor_s * 1e9),
            )
            overrun = find_overrun(self._run_words, look.at_ns, int(self.options.max_run_s * 1e9))
            reason = watch.observe(look) or (None if overrun is None else overrun.reason)
            if reason is not None and self._state is WorkerState.READY:
                self._state = WorkerState.STALLED
                self._announce("worker.stalled", _NAME, generation=1, reason=reason)
            elif reason is None and self._state is WorkerState.STALLED:
                self._state = WorkerState.READY
