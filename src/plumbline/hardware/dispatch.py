"""Ordered asynchronous work of one real stream: a queue, a lazily started thread, a kept failure.

The turn lock is held by whoever executes. A caller may execute inline when nothing is queued; the dispatcher
takes the turn for each queued command. A failed command makes later ones skip until the failure is collected.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from plumbline.errors import PlumblineError
from plumbline.hardware.device import StreamClosingError, StreamTimeoutError, UpstreamFailedError
from plumbline.hardware.work import LaunchFailedError, StreamWork

_POLL_S = 0.02


class Occurrence:
    """One recording of an event: reached, or failed, exactly once."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.reached_ns: int | None = None
        self.failure: PlumblineError | None = None
        self._done = threading.Event()

    @property
    def is_done(self) -> bool:
        """Whether the point was reached or can never be."""
        return self._done.is_set()

    def reach(self) -> None:
        """The stream got here."""
        self.reached_ns = time.monotonic_ns()
        self._done.set()

    def fail(self, error: PlumblineError) -> None:
        """The stream skipped this point because earlier work failed."""
        self.failure = error
        self._done.set()

    def wait(self, timeout_s: float | None) -> bool:
        """Block until done; False when the time ran out.

        Raises:
            UpstreamFailedError: the work before the point failed.
        """
        if not self._done.wait(timeout_s):
            return False
        if self.failure is not None:
            raise UpstreamFailedError(event=self.event, reason=self.failure.message) from self.failure
        return True


class Command(Protocol):
    """One entry of a queue."""

    def execute(self) -> None:
        """Do it, in turn."""

    def skip(self, error: PlumblineError) -> None:
        """Earlier work failed with `error`: do not do it, but leave nobody waiting."""


class LaunchCommand:
    """Run work."""

    def __init__(self, work: StreamWork, execute_work: Callable[[StreamWork], None]) -> None:
        self._work = work
        self._execute_work = execute_work

    def execute(self) -> None:
        """Run the work."""
        self._execute_work(self._work)

    def skip(self, error: PlumblineError) -> None:
        """Nothing waits for a launch directly."""


class RecordCommand:
    """Reach an occurrence."""

    def __init__(self, occurrence: Occurrence) -> None:
        self._occurrence = occurrence

    def execute(self) -> None:
        """Reach it."""
        self._occurrence.reach()

    def skip(self, error: PlumblineError) -> None:
        """Fail it."""
        self._occurrence.fail(error)


class WaitCommand:
    """Wait for an occurrence of another stream, or until this stream is closing."""

    def __init__(self, occurrence: Occurrence, is_closing: Callable[[], bool], stream: str) -> None:
        self._occurrence = occurrence
        self._is_closing = is_closing
        self._stream = stream

    def execute(self) -> None:
        """Block the dispatcher until the point is reached."""
        while not self._occurrence.wait(_POLL_S):
            if self._is_closing():
                raise StreamClosingError(stream=self._stream)

    def skip(self, error: PlumblineError) -> None:
        """Nothing waits for a wait."""


class DispatchQueue:
    """Owns the order of one stream."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._commands: deque[Command] = deque()
        self._changed = threading.Condition()
        self._dispatcher: threading.Thread | None = None
        self._closing = False
        self.failure: PlumblineError | None = None
        self.turn = threading.Lock()
        self.pending = 0

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    def submit(self, command: Command) -> None:
        """Queue a command and return at once.

        Raises:
            StreamClosingError: the queue was closed meanwhile; the command is skipped.
        """
        with self._changed:
            if self._closing:
                closing = StreamClosingError(stream=self._stream)
                command.skip(closing)
                raise closing
            self._commands.append(command)
            self.pending += 1
            if self._dispatcher is None:
                name = f"plumbline {self._stream} dispatch"
                self._dispatcher = threading.Thread(target=self._dispatch, name=name, daemon=True)
                self._dispatcher.start()
            self._changed.notify_all()

    def perform_now(self, command: Command) -> bool:
        """Perform a command on the calling thread if nothing is queued; False otherwise."""
        if not self.pending:
            with self.turn:
                if not self.pending and not self._closing:
                    self._perform(command)
                    return True
        return False

    def drain(self, timeout_s: float | None, *, kind: str = "stream") -> None:
        """Wait until nothing is queued or running, then raise and forget a kept failure.

        Raises:
            StreamTimeoutError: the time ran out first.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.pending == 0, timeout_s):
                raise StreamTimeoutError(kind=kind, label=self._stream, timeout_s=timeout_s or 0.0)
        with self.turn:
            self.raise_failure()

    def raise_failure(self) -> None:
        """Raise and forget a kept failure; the caller holds the turn."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Skip what is queued, let the running command end, end the dispatcher."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        dispatcher = self._dispatcher
        if dispatcher is not None and dispatcher is not threading.current_thread():
            dispatcher.join()
        with self.turn:
            self.failure = None

    def _dispatch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._commands or self._closing)
                if not self._commands:
                    return
                command = self._commands.popleft()
            with self.turn:
                if self._closing:
                    command.skip(StreamClosingError(stream=self._stream))
                else:
                    self._perform(command)
            with self._changed:
                self.pending -= 1
                self._changed.notify_all()

    def _perform(self, command: Command) -> None:
        if self.failure is not None:
            command.skip(self.failure)
            return
        try:
            command.execute()
        except PlumblineError as error:
            self.failure = error


def call_checked(function: Callable[[], object], *, label: str, stream: str) -> None:
    """Call user code on a stream; whatever it raises becomes a typed launch failure.

    Raises:
        LaunchFailedError: the function raised; the cause is chained.
    """
    try:
        function()
    except PlumblineError:
        raise
    except Exception as error:
        raise LaunchFailedError(label=label, stream=stream, reason=repr(error)) from error
