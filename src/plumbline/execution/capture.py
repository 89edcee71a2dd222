"""Capture a sequence of actions once, replay it identically: no planning and no look-up on the way.

While capturing, wrapped streams only note what they are given; nothing runs. A replay issues the same calls
to the real streams in the same order, so its launch log equals that of a plain run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

from plumbline.errors import PlumblineError, ValidationError
from plumbline.execution.launch import NO_OBSERVER, LaunchObserver, LogEntry
from plumbline.hardware.device import Event, Stream
from plumbline.hardware.work import NativeLaunch, StreamWork


@dataclass(eq=False, kw_only=True)
class CaptureMisuseError(ValidationError):
    """A captured stream was asked for something that cannot be replayed."""

    code = "validation.capture_misuse"
    owner = "execution"
    template = "{operation} is not possible on stream {stream!r} while it is captured"

    operation: str
    stream: str


class CapturingStream:
    """Notes what a stream is given. It owns nothing: closing it leaves the real stream open."""

    def __init__(self, stream: Stream, calls: list[Callable[[], None]]) -> None:
        self._stream = stream
        self._calls = calls

    @property
    def label(self) -> str:
        """Name of the real stream."""
        return self._stream.label

    @property
    def threads(self) -> int:
        """Threads of the real stream."""
        return self._stream.threads

    @property
    def closed(self) -> bool:
        """Whether the real stream was closed."""
        return self._stream.closed

    def launch(self, work: StreamWork) -> None:
        """Note a launch."""
        self._calls.append(partial(self._stream.launch, work))

    def record(self, event: Event) -> None:
        """Note a record."""
        self._calls.append(partial(self._stream.record, event))

    def wait(self, event: Event) -> None:
        """Note a wait."""
        self._calls.append(partial(self._stream.wait, event))

    def run(self, work: StreamWork) -> None:
        """Refused: its result would be needed now."""
        raise CaptureMisuseError(operation="run", stream=self.label)

    def bind(self, work: NativeLaunch) -> Callable[[], None]:
        """Refused: what it makes would run at once."""
        raise CaptureMisuseError(operation="bind", stream=self.label)

    def synchronize(self, timeout_s: float | None = None) -> None:
        """Refused: nothing has been issued."""
        raise CaptureMisuseError(operation="synchronize", stream=self.label)

    def quiesce(self) -> None:
        """Refused: nothing has been issued."""
        raise CaptureMisuseError(operation="quiesce", stream=self.label)

    def close(self) -> None:
        """Leave the real stream open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class GraphCapture:
    """Collects one sequence over several streams; it is also the observer that keeps its log.

    capture = GraphCapture(streams)
    executor.issue(plan, launches, capture.streams, tracker, capture)
    graph = capture.finish()
    """

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self._calls: list[Callable[[], None]] = []
        self._entries: list[LogEntry] = []
        self._real = dict(streams)
        self.streams: dict[str, Stream] = {
            name: CapturingStream(stream, self._calls) for name, stream in streams.items()
        }

    def observe(self, entry: LogEntry) -> None:
        """Note a log entry."""
        self._entries.append(entry)

    def finish(self) -> CapturedGraph:
        """The captured sequence; later calls on the wrapped streams do not change it."""
        return CapturedGraph(calls=tuple(self._calls), entries=tuple(self._entries), streams=self._real)


class CapturedGraph:
    """A sequence that can be replayed. It borrows streams, events and contexts; keep them open."""

    def __init__(
        self,
        *,
        calls: tuple[Callable[[], None], ...],
        entries: tuple[LogEntry, ...],
        streams: Mapping[str, Stream],
    ) -> None:
        self._calls = calls
        self._entries = entries
        used = dict.fromkeys(entry.stream for entry in entries)
        self._streams = tuple(stream for name, stream in streams.items() if name in used or not entries)

    def issue(self, observer: LaunchObserver = NO_OBSERVER) -> None:
        """Issue the sequence and return at once."""
        for call in self._calls:
            call()
        if observer is not NO_OBSERVER:
            for entry in self._entries:
                observer.observe(entry)

    def replay(self, observer: LaunchObserver = NO_OBSERVER, timeout_s: float | None = None) -> None:
        """Issue the sequence and wait for its streams.

        Raises:
            StreamTimeoutError, LaunchFailedError, DeviceLostError: as `Executor.run`.
        """
        self.issue(observer)
        failures: list[PlumblineError] = []
        for stream in self._streams:
            try:
                stream.synchronize(timeout_s)
            except PlumblineError as error:
                failures.append(error)
        if failures:
            raise failures[0]
