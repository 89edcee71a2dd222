"""The inside of a worker process: calls in, outcomes out, versions loaded beside the running ones.

The engine's loop takes calls from the control socket between two launches (`_Worker` is its inlet), and
whoever completes sends. One thread loads and unloads, and the first one shows that the process runs. Nothing
here decides anything: the engine owns the run queue, the gateway the accepted calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from plumbline.contracts.inference import InferenceCall, InferenceResult, Tensors, VersionRef
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.scheduler import EngineStatus
from plumbline.engine.session import RunBoard, Session, watch_runs
from plumbline.engine.sessions.python import ClassFailed
from plumbline.errors import PlumblineError, Recoverability
from plumbline.serving.workers import protocol, tensors
from plumbline.serving.workers.channel import WorkerChannel, die_with_parent, is_orphan
from plumbline.serving.workers.failures import LoadOutOfMemory
from plumbline.serving.workers.fault_notes import FaultNotes, folders_of
from plumbline.serving.workers.files import receive_file
from plumbline.serving.workers.frames import FrameReader, FrameTooLong
from plumbline.serving.workers.region import Field, SharedRegion
from plumbline.serving.workers.reporting import as_plumbline, report
from plumbline.serving.workers.run_board import RunSeats
from plumbline.serving.workers.sending import OutcomeSender

__all__ = ["FATAL_EXIT_CODE", "OpenSession", "WorkerEngine", "give_memory_back", "load_warm", "run_worker"]

FATAL_EXIT_CODE = 70
"""A worker that met a fatal error ends with it, after it told the gateway (requirement X-35)."""

_BEAT_S = 0.05
_STOP_S = 600.0
_NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})

OpenSession = Callable[[VersionSpec], Session]
"""Makes a session of a version on this machine. Raises PlumblineError."""


class WorkerEngine(Protocol):
    """What a worker needs of `engine.scheduler.Scheduler`; its docstrings say the rest."""

    def start(self) -> None:
        """Take requests from now on."""

    def stop(self, *, drain: bool, timeout_s: float) -> None:
        """End."""

    def close(self) -> None:
        """End, and close every version."""

    def load(
        self, ref: VersionRef, session: Session, *, instances: int = 1, stream: int | None = None
    ) -> None:
        """Take a session over."""

    def unload(self, ref: VersionRef) -> None:
        """Finish its requests and close it."""

    def submit(
        self,
        ref: VersionRef,
        call: InferenceCall,
        on_done: Callable[[InferenceResult | PlumblineError], None],
    ) -> RequestId:
        """Accept a call, or raise."""

    def when_told(self, told: Callable[[], None]) -> None:
        """Have this called after the callbacks of one moment."""

    def cancel(self, request_id: str) -> bool:
        """Ask for the end of a call."""

    def status(self) -> EngineStatus:
        """The engine now."""


def run_worker(
    channel: WorkerChannel, open_session: OpenSession, make_scheduler: Callable[..., WorkerEngine]
) -> int:
    """Serve until told to stop; returns the exit code.

    Args:
        channel: from the command line.
        open_session: for each version to load.
        make_scheduler: called once, as `make_scheduler(name="w0", log_folder=Path | None, progress=cell,
            inlet=inlet, log_health=cell of two)`; it passes name, progress and inlet on to `Scheduler`, and
            `log_health` to the decision log.
    """
    die_with_parent(channel.parent_pid)
    region = SharedRegion.attach(channel.region)
    folder = None if channel.log_folder is None else Path(channel.log_folder)
    worker = _Worker(channel, region, open_session)
    os.register_at_fork(after_in_child=worker.forget_in_fork)
    engine = make_scheduler(
        name=channel.name,
        log_folder=folder,
        progress=region.header[Field.STEPS : Field.STEPS + 1],
        inlet=worker,
        log_health=region.header[Field.LOG_FAILURE : Field.MISSED + 1],
    )
    return worker.serve(engine)


class _Worker:
    """Owner of the control socket and of what the gateway's handles mean; the inlet of the engine."""

    _engine: WorkerEngine

    def __init__(self, channel: WorkerChannel, region: SharedRegion, open_session: OpenSession) -> None:
        self._parent_pid, self._generation, self._region = channel.parent_pid, channel.generation, region
        self._open_session = open_session
        self._runs = RunSeats(region.header[Field.RUNS :])
        self._control = _inherited(channel.control)
        self._control.setblocking(False)
        self._frames = FrameReader(self._control, protocol.MAX_MESSAGE_BYTES)
        self._files = _inherited(channel.files)
        self._early_files: dict[int, int] = {}
        self._refs: dict[int, VersionRef] = {}
        self._notes = FaultNotes()
        self._chores: queue.SimpleQueue[protocol.Load | protocol.Unload | None] = queue.SimpleQueue()
        self._told_to_stop: queue.SimpleQueue[protocol.Stop] = queue.SimpleQueue()
        self._sender = OutcomeSender(
            self._control, region, self._files, is_over=lambda: is_orphan(channel.parent_pid)
        )

    def serve(self, engine: WorkerEngine) -> int:
        """Until told to stop; the exit code."""
        self._engine = engine
        engine.when_told(self._sender.flush)
        engine.start()
        chores = threading.Thread(target=self._run_chores, name="load", daemon=True)
        chores.start()
        self._sender.send(protocol.Hello(protocol.SCHEMA_VERSION, os.getpid(), self._generation))
        drain = self._beat_until_told()
        self._chores.put(None)
        if drain:
            chores.join()
        with contextlib.suppress(PlumblineError):
            engine.stop(drain=drain, timeout_s=_STOP_S)
        self._sender.close()
        return 0

    def forget_in_fork(self) -> None:
        """In a process that a class forked: close what leads to the gateway."""
        self._control.close()
        self._files.close()
        while self._early_files:
            os.close(self._early_files.popitem()[1])
        self._region.forget_in_fork()

    def _beat_until_told(self) -> bool:
        """Show that this process runs until it is told to stop; whether to drain."""
        header = self._region.header
        while True:
            header[Field.BEATS] += 1
            header[Field.RUNNING] = self._engine.status().running
            try:
                return self._told_to_stop.get(timeout=_BEAT_S).drain
            except queue.Empty:
                if is_orphan(self._parent_pid):
                    os._exit(0)

    # -- inlet: on the engine's thread -----------------------------------------------------------------------

    def fileno(self) -> int:
        """Of the control socket."""
        return self._control.fileno()

    def receive(self) -> None:
        """Take the messages that have come."""
        try:
            for frame in self._frames.read():
                self._take(protocol.decode_to_worker(frame))
        except BlockingIOError:
            return
        except EOFError:
            os._exit(0)  # the gateway is gone
        except (msgspec.DecodeError, UnicodeDecodeError, FrameTooLong) as error:
            print(f"not a message: {error}", file=sys.stderr)  # noqa: T201 - the gateway keeps this
            os._exit(FATAL_EXIT_CODE)

    def _take(self, message: protocol.ToWorker) -> None:
        if isinstance(message, protocol.Jobs):
            for job in message.jobs:
                self._submit(job)
            for request in message.cancel:
                self._engine.cancel(RequestId(request))
        elif isinstance(message, protocol.Stop):
            self._told_to_stop.put(message)
        else:
            self._chores.put(message)

    def _submit(self, job: protocol.Job) -> None:
        try:
            ref = self._refs[job.handle]
            call = InferenceCall(
                id=RequestId(job.id),
                model=ref.model,
                version=ref.version,
                inputs=self._inputs(job),
                wanted=job.wanted,
                tenant=TenantId(job.tenant),
                priority=job.priority,
                arrived_ns=job.arrived_ns,
                deadline_ns=job.deadline_ns,
                start_by_ns=job.start_by_ns,
                parameters=job.parameters or _NO_PARAMETERS,
                traceparent=job.traceparent,
            )
            self._engine.submit(ref, call, partial(self._completed, job.number))
        except Exception as error:  # noqa: BLE001 - the worker: one call fails, the worker goes on
            self._done(job.number, as_plumbline(error, "submission"))

    def _inputs(self, job: protocol.Job) -> Tensors:
        if not job.own_file:
            return tensors.read(job.inputs, self._region.memory, copy=True)
        descriptor = receive_file(self._files, job.number, self._early_files)
        try:
            size = os.fstat(descriptor).st_size
            memory = memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ))
        finally:
            os.close(descriptor)
        return tensors.read(job.inputs, memory, copy=False)

    def _completed(self, number: int, completion: InferenceResult | PlumblineError) -> None:
        """On the engine's thread, which says when the answers of a launch are complete."""
        if isinstance(completion, PlumblineError):
            self._done(number, completion)
        else:
            self._sender.keep(number, completion)

    def _done(self, number: int, completion: InferenceResult | PlumblineError) -> None:
        """On whatever thread completes the call."""
        self._sender.outcome(number, completion)
        if isinstance(completion, PlumblineError):
            self._notes.call_failed(completion)
        if isinstance(completion, PlumblineError) and completion.recoverability is Recoverability.FATAL:
            self._end_fatally(completion)

    def _end_fatally(self, error: PlumblineError) -> None:
        print(f"fatal: {error.code}: {error.message}", file=sys.stderr, flush=True)  # noqa: T201
        self._sender.close()
        os._exit(FATAL_EXIT_CODE)

    # -- loading ---------------------------------------------------------------------------------------------

    def _run_chores(self) -> None:
        while (chore := self._chores.get()) is not None:
            loaded, failure = self._carry_out(chore)
            budget_bytes = self._engine.status().budget_bytes
            self._sender.send(msgspec.structs.replace(loaded, budget_bytes=budget_bytes))
            if failure is not None and failure.recoverability is Recoverability.FATAL:
                self._end_fatally(failure)

    def _carry_out(
        self, chore: protocol.Load | protocol.Unload
    ) -> tuple[protocol.Loaded, PlumblineError | None]:
        """The answer, and the failure that it tells of."""
        try:
            if isinstance(chore, protocol.Unload):
                self._unload(chore)
                return protocol.Loaded(chore.handle), None
            return protocol.Loaded(chore.handle, self._load(chore)), None
        except Exception as error:  # noqa: BLE001 - the worker: one load fails, the worker goes on
            if isinstance(chore, protocol.Load):
                self._notes.load_failed(chore.spec, error)
            failure = as_plumbline(error, "load" if isinstance(chore, protocol.Load) else "unload")
            give_memory_back()
            return protocol.Loaded(chore.handle, failure=report(failure)), failure

    def _load(self, chore: protocol.Load) -> protocol.Metadata:
        self._notes.know(chore.spec)
        metadata = protocol.wire_metadata(load_warm(self._engine, chore.spec, self._open_session, self._runs))
        gc.collect()
        gc.freeze()  # a version stays: no collection looks at it while requests wait
        self._refs[chore.handle] = chore.spec.ref
        return metadata

    def _unload(self, chore: protocol.Unload) -> None:
        ref = self._refs.pop(chore.handle)
        self._engine.unload(ref)
        self._notes.forget(ref)
        give_memory_back()


def _inherited(descriptor: int) -> socket.socket:
    """A socket under the lowest number that is free: `select` takes small ones only."""
    lowest = os.dup(descriptor)
    os.close(descriptor)
    return socket.socket(fileno=lowest)


def load_warm(
    engine: WorkerEngine, spec: VersionSpec, open_session: OpenSession, runs: RunBoard
) -> ModelMetadata:
    """Open a version, load it, and run its example once, through the queue like any call.

    Args:
        engine: to load it in.
        spec: of the version.
        open_session: makes its session.
        runs: where runs of classes are shown.

    Raises:
        PlumblineError: nothing stays loaded. LoadOutOfMemory among them: the system gave too little.
    """
    planned_bytes = 0
    try:
        session = open_session(spec)
        planned_bytes = session.metadata.memory_bytes
        return _load_and_run(engine, spec, session, runs)
    except MemoryError as error:
        raise LoadOutOfMemory(
            version=str(spec.ref), planned_bytes=planned_bytes, reason=str(error)[:200] or "no memory"
        ) from error


def _load_and_run(engine: WorkerEngine, spec: VersionSpec, session: Session, runs: RunBoard) -> ModelMetadata:
    """The metadata of a session that is loaded, or closed again."""
    try:
        watch_runs(session, runs)
        metadata = session.metadata
        engine.load(spec.ref, session, instances=spec.settings.instances, stream=spec.settings.stream)
    except BaseException:
        session.close()
        raise
    done: queue.SimpleQueue[InferenceResult | PlumblineError] = queue.SimpleQueue()
    try:
        call = InferenceCall(
            id=RequestId(f"warm-up-{os.urandom(8).hex()}"),
            model=spec.ref.model,
            version=spec.ref.version,
            inputs=session.example(),
        )
        engine.submit(spec.ref, call, done.put)
        outcome = done.get()
        if isinstance(outcome, ClassFailed):
            outcome.repeat_text(tuple(folders_of(spec)))
        if isinstance(outcome, PlumblineError):
            raise outcome
    except BaseException:
        engine.unload(spec.ref)
        raise
    return metadata


def give_memory_back() -> None:
    """Collect garbage, and let the C library return free pages to the system where it can."""
    gc.unfreeze()
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
