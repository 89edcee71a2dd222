"""The gateway's end of one worker generation: its process, its control socket, its shared file."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.versions import VersionSpec
from plumbline.serving.workers import protocol
from plumbline.serving.workers.channel import WorkerChannel
from plumbline.serving.workers.failures import ProtocolViolated, WorkerNotStarted
from plumbline.serving.workers.files import receive_file_nowait, send_file, socket_pair
from plumbline.serving.workers.frames import Frame, FrameReader, FrameTooLong, LoopWriter, stream_pair
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.region import Field, SharedRegion
from plumbline.serving.workers.reporting import rebuild
from plumbline.serving.workers.slots import SlotAllocator
from plumbline.serving.workers.spawning import OutputTail, WorkerProcess, exit_reason

__all__ = ["LinkEnded", "WorkerLink"]

_UNENCODABLE = (OverflowError, TypeError, ValueError, RecursionError)


class LinkEnded(Exception):
    """The worker of this link ended while something was waited for; the text says how."""


class WorkerLink:
    """Owner of everything that belongs to one generation. Used on one event loop.

    `ended` becomes done when the worker is lost, with the reason; nothing that it sends is taken after
    `close`.

    Args:
        name: of the place.
        generation: from 1.
        command: of a worker; the channel is appended.
        log_folder: of this generation, exists; None for none.
        options: sizes and times.
        on_outcomes: told of outcomes, in order.
        on_unsendable: told of a job that cannot be written as a message, by number, and why.
    """

    def __init__(
        self,
        *,
        name: str,
        generation: int,
        command: Sequence[str],
        log_folder: Path | None,
        options: PoolOptions,
        on_outcomes: Callable[[WorkerLink, list[protocol.Outcome]], None],
        on_unsendable: Callable[[WorkerLink, int, str], None],
    ) -> None:
        self.name, self.generation, self.options = name, generation, options
        self._on_outcomes, self._on_unsendable = on_outcomes, on_unsendable
        self._loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[protocol.Loaded]] = {}
        self._outbox: list[protocol.Job] = []
        self._cancels: list[str] = []
        self._flushing = False
        self._closed = False
        self.loading = 0
        self.ring_position = 0
        self.budget_bytes: int | None = None
        self._early_files: dict[int, int] = {}
        self.region = SharedRegion.create(
            generation=generation, input_bytes=options.input_bytes, ring_bytes=options.ring_bytes
        )
        self.slots = SlotAllocator(self.region.input_start, options.input_bytes)
        self._files, worker_files = socket_pair()
        self._files.setblocking(False)
        self._control, worker_control = stream_pair()
        self._frames = FrameReader(self._control, protocol.MAX_MESSAGE_BYTES)
        self._writer = LoopWriter(
            self._control,
            lambda go_on: self._loop.add_writer(self._control, go_on),
            lambda: self._loop.remove_writer(self._control),
        )
        self._loop.add_reader(self._control, self._readable)
        self.output = OutputTail(options.log_bytes, None if log_folder is None else log_folder / "output.log")
        channel = WorkerChannel(
            name=name,
            generation=generation,
            parent_pid=os.getpid(),
            region=self.region.descriptor,
            control=worker_control.fileno(),
            files=worker_files.fileno(),
            log_folder=None if log_folder is None else str(log_folder),
        )
        self.process = WorkerProcess(
            [*command, channel.argument()],
            (self.region.descriptor, worker_control.fileno(), worker_files.fileno()),
            self.output,
            f"{name}-g{generation} waits",
        )
        self._worker_ends = (worker_control, worker_files)
        self.process.started.add_done_callback(self._process_started)
        self.process.exited.add_done_callback(self._process_exited)

    # -- life ------------------------------------------------------------------------------------------------

    async def opened(self) -> None:
        """Wait for the first message of the worker.

        Raises:
            WorkerNotStarted: it ended before, or took too long.
        """
        await asyncio.wait(
            (self.hello, self.ended),
            timeout=self.options.start_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self.hello.done() and not self.ended.done():
            return
        reason = self.ended.result() if self.ended.done() else f"no sign in {self.options.start_timeout_s} s"
        raise WorkerNotStarted(worker=self.name, reason=reason)

    def end(self, reason: str) -> None:
        """Call the worker lost. The first reason counts."""
        if not self.ended.done():
            self.ended.set_result(reason)
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(LinkEnded(reason))

    async def close(self) -> None:
        """Kill the worker, wait until it is gone, take what it sent before, and give everything back."""
        self.process.kill()
        try:
            await asyncio.shield(self.process.exited)
            with contextlib.suppress(BlockingIOError):
                while self._take_frames():
                    continue
        finally:
            self._closed = True
            self._writer.close()
            self._loop.remove_reader(self._control)
            self.region.close()
            self._close_worker_ends()
            self._control.close()
            self._files.close()
            self.output.close()
            for descriptor in self._early_files.values():
                os.close(descriptor)

    def _process_started(self, started: asyncio.Future[int]) -> None:
        if not self._closed:
            self.output.close_writer()
            self._close_worker_ends()
        if started.exception() is not None:
            self.end("the command of a worker cannot be run")

    def _close_worker_ends(self) -> None:
        for end in self._worker_ends:
            end.close()

    def _process_exited(self, exited: asyncio.Future[int]) -> None:
        self.end(exit_reason(exited.result()))

    # -- sending ---------------------------------------------------------------------------------------------

    def send(self, message: protocol.ToWorker) -> None:
        """Send a message after everything that waits to be sent."""
        self._flush()
        if not self._closed:
            self._writer.write(protocol.encode(message))

    def post(self, job: protocol.Job) -> None:
        """Send a job with all others of this turn of the loop."""
        self._outbox.append(job)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def post_cancel(self, request: str) -> None:
        """Send the wish to end a call, behind the jobs of this turn."""
        self._cancels.append(request)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def send_file(self, number: int, descriptor: int) -> None:
        """Send the file of a job before the job.

        Raises:
            OSError: the worker is gone, or takes no more now.
        """
        send_file(self._files, number, descriptor)

    def take_file(self, number: int) -> int | None:
        """The file that the worker sent for a job; None when there is none."""
        return receive_file_nowait(self._files, number, self._early_files)

    def _flush(self) -> None:
        self._flushing = False
        if (not self._outbox and not self._cancels) or self._closed:
            return
        jobs, cancels = self._outbox, self._cancels
        self._outbox, self._cancels = [], []
        try:
            data = protocol.encode(protocol.Jobs(jobs, cancels))
        except _UNENCODABLE:
            data = protocol.encode(protocol.Jobs(self._sendable(jobs), cancels))
        self._writer.write(data)

    def _sendable(self, jobs: list[protocol.Job]) -> list[protocol.Job]:
        sendable = []
        for job in jobs:
            try:
                protocol.encode(job)
                sendable.append(job)
            except _UNENCODABLE as error:
                self._on_unsendable(self, job.number, f"a value of it is not plain: {error}"[:200])
        return sendable

    # -- receiving -------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if not self._take_frames():
                self._loop.remove_reader(self._control)

    def _take_frames(self) -> bool:
        """Take what has come; False when nothing more is to be taken.

        Raises:
            BlockingIOError: nothing is there now.
        """
        try:
            for frame in self._frames.read():
                self._take(frame)
        except EOFError:
            return False
        except (msgspec.DecodeError, UnicodeDecodeError, FrameTooLong, ProtocolViolated) as error:
            self.end(f"protocol violated: {error}")
            return False
        except BlockingIOError:
            raise
        except Exception as error:
            self.end(f"a defect of the gateway: {type(error).__name__}")
            raise
        return True

    def _take(self, data: Frame) -> None:
        message = protocol.decode_from_worker(data)
        if isinstance(message, protocol.Outcomes):
            self._on_outcomes(self, message.outcomes)
        elif isinstance(message, protocol.Loaded):
            answer = self._answers.pop(message.handle, None)
            if answer is None:
                raise ProtocolViolated(reason="an answer that nobody asked for")
            if not answer.done():
                answer.set_result(message)
        else:
            self._greet(message)

    def _greet(self, hello: protocol.Hello) -> None:
        if self.hello.done():
            raise ProtocolViolated(reason="a second greeting")
        if hello.schema != protocol.SCHEMA_VERSION or hello.generation != self.generation:
            raise ProtocolViolated(
                reason=f"schema {hello.schema}, generation {hello.generation}; expected "
                f"{protocol.SCHEMA_VERSION} and {self.generation}"
            )
        self.hello.set_result(None)

    # -- versions --------------------------------------------------------------------------------------------

    async def load(self, handle: int, spec: VersionSpec) -> ModelMetadata:
        """Load a version in this worker.

        Raises:
            PlumblineError: what the worker said.
            LinkEnded: it ended, or took too long and is being ended.
        """
        loaded = await self._ask(protocol.Load(handle, spec))
        if loaded.metadata is None:
            raise WorkerNotStarted(worker=self.name, reason="it loaded a version and did not describe it")
        self.budget_bytes = loaded.budget_bytes
        try:
            metadata = protocol.metadata_of(loaded.metadata)
        except ValueError as error:
            self.end(f"protocol violated: {error}")
            raise LinkEnded("protocol violated") from error
        return metadata

    async def unload(self, handle: int) -> None:
        """Unload a version in this worker. Raises as `load`."""
        await self._ask(protocol.Unload(handle))

    async def _ask(self, question: protocol.Load | protocol.Unload) -> protocol.Loaded:
        if self.ended.done():
            raise LinkEnded(self.ended.result())
        answer: asyncio.Future[protocol.Loaded] = self._loop.create_future()
        self._answers[question.handle] = answer
        self.loading += 1
        try:
            self.send(question)
            loaded = await asyncio.wait_for(answer, self.options.load_timeout_s)
        except TimeoutError:
            self.end(f"no answer to a load in {self.options.load_timeout_s} s")
            raise LinkEnded("load took too long") from None
        finally:
            self.loading -= 1
        if loaded.failure is not None:
            raise rebuild(loaded.failure)
        return loaded

    # -- progress --------------------------------------------------------------------------------------------

    @property
    def beats(self) -> int:
        """Turns of the worker's main thread."""
        return self.region.header[Field.BEATS]

    @property
    def steps(self) -> int:
        """Steps of the worker's engine loop."""
        return self.region.header[Field.STEPS]

    @property
    def log_failure(self) -> int:
        """Why its decision log records nothing now; see `log_health.log_trouble`."""
        return self.region.header[Field.LOG_FAILURE]

    @property
    def missed(self) -> int:
        """Decisions that its log has missed."""
        return max(self.region.header[Field.MISSED], 0)

    @property
    def running(self) -> int:
        """Calls that its engine has launched, as of its last beat."""
        return self.region.header[Field.RUNNING]
