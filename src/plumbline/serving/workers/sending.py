"""The way out of a worker: results into the ring, outcomes onto the socket, in one order."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Callable

from plumbline.contracts.inference import InferenceResult, Tensors
from plumbline.errors import PlumblineError
from plumbline.serving.workers import protocol, tensors
from plumbline.serving.workers.failures import CallTooLarge
from plumbline.serving.workers.files import send_file
from plumbline.serving.workers.frames import write_frame
from plumbline.serving.workers.own_files import write_own_file
from plumbline.serving.workers.region import SharedRegion
from plumbline.serving.workers.reporting import as_plumbline, report

__all__ = ["OutcomeSender"]

_NO_TIMING: protocol.Times = (0, 0, 0, 0, 0, 0, 0)
_RING_SHARE = 4
_LOOK_S = 0.05


class OutcomeSender:
    """Owner of what is written to the control socket, behind a lock. Any thread may call it.

    Threads that complete at the same time do not queue up for the socket: one of them sends for all, several
    outcomes in one message.
    """

    def __init__(
        self, control: socket.socket, region: SharedRegion, files: socket.socket, is_over: Callable[[], bool]
    ) -> None:
        self._control, self._region, self._files, self._is_over = control, region, files, is_over
        self._lock = threading.Lock()
        self._pending: deque[tuple[int, InferenceResult | PlumblineError]] = deque()
        self._written: list[protocol.Outcome] = []
        self._closed = False

    def send(self, message: protocol.FromWorker) -> None:
        """Send a message that is no outcome."""
        with self._lock:
            if not self._closed:
                data = protocol.encode(message)
                if len(data) > protocol.MAX_MESSAGE_BYTES and isinstance(message, protocol.Loaded):
                    error = CallTooLarge(
                        what="a description", size_bytes=len(data), limit_bytes=protocol.MAX_MESSAGE_BYTES
                    )
                    data = protocol.encode(protocol.Loaded(message.handle, failure=report(error)))
                self._write(data)
        self._send_while_pending()

    def outcome(self, number: int, completion: InferenceResult | PlumblineError) -> None:
        """Send the outcome of a job."""
        self._pending.append((number, completion))
        self._send_while_pending()

    def keep(self, number: int, completion: InferenceResult | PlumblineError) -> None:
        """Send the outcome of a job with the next `flush`, or before."""
        self._pending.append((number, completion))

    def flush(self) -> None:
        """Send what was kept, in one message."""
        self._send_while_pending()

    def _send_while_pending(self) -> None:
        """Whoever finds the lock taken leaves its outcome to the holder, who looks again after that.

        So everybody who takes the lock ends with this.
        """
        while self._pending and self._lock.acquire(blocking=False):
            try:
                self._send_pending()
            finally:
                self._lock.release()

    def close(self) -> None:
        """Send what is left, and no more after that."""
        with self._lock:
            self._send_pending()
            self._closed = True

    def _send_pending(self) -> None:
        while self._pending:
            number, completion = self._pending.popleft()
            self._written.append(self._outcome(number, completion))
        self._send_written()

    def _send_written(self) -> None:
        written, self._written = self._written, []
        if not written or self._closed:
            return
        data = protocol.encode(protocol.Outcomes(written))
        if len(data) <= protocol.MAX_MESSAGE_BYTES:
            self._write(data)
            return
        for outcome in written:
            self._write(protocol.encode(protocol.Outcomes([outcome])))

    def _write(self, data: bytes) -> None:
        write_frame(self._control, data, self._is_over, _LOOK_S)

    def _outcome(self, number: int, completion: InferenceResult | PlumblineError) -> protocol.Outcome:
        if isinstance(completion, PlumblineError):
            return protocol.Outcome(number, [], 0, _NO_TIMING, report(completion))
        try:
            places, ring_end = self._store(number, completion)
        except Exception as error:  # noqa: BLE001 - the worker: one result cannot leave, the worker goes on
            return protocol.Outcome(
                number, [], 0, _NO_TIMING, report(as_plumbline(error, "sending a result"))
            )
        at = completion.timing
        timing = (
            at.arrived_ns, at.queued_ns, at.launched_ns, at.finished_ns, at.launch, at.batched, at.stream,
        )  # fmt: skip
        return protocol.Outcome(number, places, ring_end, timing)

    def _store(self, number: int, result: InferenceResult) -> tuple[list[protocol.TensorAt], int]:
        packed, size = tensors.pack(result.outputs)
        if size > self._region.ring_bytes // _RING_SHARE:
            return self._store_apart(number, result.outputs), 0
        room = self._region.reserve(size, self._is_over, self._send_written)
        if room is None:
            os._exit(0)
        offset, end = room
        return tensors.write(packed, self._region.memory, offset), end

    def _store_apart(self, number: int, outputs: Tensors) -> list[protocol.TensorAt]:
        descriptor, places = write_own_file(outputs)
        try:
            with contextlib.suppress(BrokenPipeError):
                send_file(self._files, number, descriptor)
        finally:
            os.close(descriptor)
        return places
