"""The stateless executor: issues an ordered plan of launches, records and waits to streams.

It keeps nothing between calls and never waits for a whole device: `run` waits for the streams that it used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from plumbline.errors import PlumblineError
from plumbline.execution.dependencies import DependencyPlan, DependencyTracker, PlannedAction
from plumbline.execution.launch import NO_OBSERVER, ActionKind, Launch, LaunchObserver, LogEntry
from plumbline.hardware.device import Stream, UpstreamFailedError
from plumbline.telemetry.points import EventRecord, EventWait, KernelLaunch, TracePoint
from plumbline.telemetry.sinks import TraceSink


class Executor:
    """Launches segments. Has no state, so any number of threads may share one."""

    __slots__ = ()

    def issue(
        self,
        plan: DependencyPlan,
        launches: Mapping[str, Launch],
        streams: Mapping[str, Stream],
        tracker: DependencyTracker,
        observer: LaunchObserver = NO_OBSERVER,
    ) -> None:
        """Queue everything in plan order and return at once.

        Args:
            plan: what to issue.
            launches: the launch of each segment of the plan.
            streams: the stream of each name in the plan.
            tracker: holds the plan's events on the device of the streams.
            observer: told of every action.
        """
        for action in plan.actions:
            launch = launches[action.segment]
            _issue_one(action, launch, streams[action.stream], tracker)
            observer.observe(_entry(action, launch))

    def run(
        self,
        plan: DependencyPlan,
        launches: Mapping[str, Launch],
        streams: Mapping[str, Stream],
        tracker: DependencyTracker,
        observer: LaunchObserver = NO_OBSERVER,
        timeout_s: float | None = None,
    ) -> None:
        """Issue the plan and wait for the streams that it uses, in order of first use.

        Raises:
            StreamTimeoutError: a stream was not done in time.
            LaunchFailedError, DeviceLostError, UpstreamFailedError: of the first stream that failed; every
                stream has been waited for before it is raised.
        """
        self.issue(plan, launches, streams, tracker, observer)
        _join(plan, streams, timeout_s)

    def run_inline(self, launch: Launch, stream: Stream) -> None:
        """Run one segment on the calling thread: the low-latency path of a single-segment executable."""
        stream.run(launch.work)

    def run_inline_traced(self, launch: Launch, stream: Stream, sink: TraceSink) -> None:
        """As `run_inline`, and emit the launch with its duration."""
        started_ns = time.monotonic_ns()
        stream.run(launch.work)
        duration_ns = time.monotonic_ns() - started_ns
        sink.emit(_launch_point(launch, stream.label, started_ns, duration_ns))

    def run_traced(
        self,
        plan: DependencyPlan,
        launches: Mapping[str, Launch],
        streams: Mapping[str, Stream],
        tracker: DependencyTracker,
        sink: TraceSink,
        observer: LaunchObserver = NO_OBSERVER,
        timeout_s: float | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """As `run`, and emit one trace point for every action."""
        for action in plan.actions:
            launch = launches[action.segment]
            issued_ns = now_ns()
            _issue_one(action, launch, streams[action.stream], tracker)
            observer.observe(_entry(action, launch))
            sink.emit(_point(action, launch, issued_ns))
        _join(plan, streams, timeout_s)


def _issue_one(action: PlannedAction, launch: Launch, stream: Stream, tracker: DependencyTracker) -> None:
    match action.kind:
        case ActionKind.LAUNCH:
            stream.launch(launch.work)
        case ActionKind.RECORD:
            tracker.record(action.event, stream)
        case ActionKind.WAIT:
            tracker.wait(action.event, stream)


def _join(plan: DependencyPlan, streams: Mapping[str, Stream], timeout_s: float | None) -> None:
    failures: list[PlumblineError] = []
    for name in plan.streams:
        try:
            streams[name].synchronize(timeout_s)
        except PlumblineError as error:
            failures.append(error)
    if failures:
        raise _root_failure(failures)


def _root_failure(failures: list[PlumblineError]) -> PlumblineError:
    """The failure that made the others fail, where one did."""
    roots = [error for error in failures if not isinstance(error, UpstreamFailedError)]
    return (roots or failures)[0]


def _entry(action: PlannedAction, launch: Launch) -> LogEntry:
    name = action.segment if action.kind is ActionKind.LAUNCH else action.event
    return LogEntry(kind=action.kind, stream=action.stream, name=name, requests=launch.requests)


def _point(action: PlannedAction, launch: Launch, timestamp_ns: int) -> TracePoint:
    if action.kind is ActionKind.LAUNCH:
        return _launch_point(launch, action.stream, timestamp_ns, None)
    kind = EventRecord if action.kind is ActionKind.RECORD else EventWait
    return kind(
        timestamp_ns=timestamp_ns,
        request_id=",".join(launch.requests),
        stream_id=action.stream,
        event_id=action.event,
        tensor=action.tensor,
    )


def _launch_point(launch: Launch, stream: str, timestamp_ns: int, duration_ns: int | None) -> KernelLaunch:
    return KernelLaunch(
        timestamp_ns=timestamp_ns,
        request_id=",".join(launch.requests),
        stream_id=stream,
        operator=launch.segment,
        duration_ns=duration_ns,
    )
