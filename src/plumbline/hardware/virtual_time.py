"""Virtual time: streams as queues of costed commands, advanced event by event, the same way every time.

A launch takes effect when its cost has passed. Nothing happens until somebody waits or advances the clock, so
a host call returns before the work that it queued.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from plumbline.errors import BackendError, PlumblineError
from plumbline.hardware.device import UpstreamFailedError


@dataclass(eq=False, kw_only=True)
class StreamDeadlockError(BackendError):
    """Nothing is running and nothing queued can ever start."""

    code = "backend.stream_deadlock"
    owner = "hardware"
    template = "streams {blocked} wait for each other; nothing can run"

    blocked: str


class SimulatedPoint:
    """One recording of an event in virtual time."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.reached_ns: int | None = None
        self.failure: PlumblineError | None = None

    @property
    def is_done(self) -> bool:
        """Whether the point was reached or can never be."""
        return self.reached_ns is not None or self.failure is not None


@dataclass(frozen=True, slots=True)
class CostedWork:
    """Run `function` after `cost_ns`."""

    function: Callable[[], None]
    cost_ns: int


@dataclass(frozen=True, slots=True)
class ReachPoint:
    """Reach a point."""

    point: SimulatedPoint


@dataclass(frozen=True, slots=True)
class AwaitPoint:
    """Let nothing later start before the point is done."""

    point: SimulatedPoint


VirtualCommand = CostedWork | ReachPoint | AwaitPoint


class VirtualLane:
    """The queue of one stream. `done_ns` is when the running work ends, None when nothing runs."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.commands: deque[VirtualCommand] = deque()
        self.done_ns: int | None = None
        self.failure: PlumblineError | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued or running."""
        return not self.commands

    def fail(self, error: PlumblineError) -> None:
        """Keep the first failure and skip everything that is queued."""
        self.failure = self.failure or error
        self.done_ns = None
        while self.commands:
            command = self.commands.popleft()
            if isinstance(command, ReachPoint):
                command.point.failure = error


class VirtualClock:
    """Owns virtual time and the lanes of one simulated device. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.lock = threading.RLock()
        self._lanes: list[VirtualLane] = []

    def open_lane(self, label: str) -> VirtualLane:
        """A new queue."""
        with self.lock:
            lane = VirtualLane(label)
            self._lanes.append(lane)
            return lane

    def close_lane(self, lane: VirtualLane, reason: PlumblineError) -> None:
        """Skip what a queue holds and forget it."""
        with self.lock:
            lane.fail(reason)
            self._lanes.remove(lane)

    def submit(self, lane: VirtualLane, command: VirtualCommand) -> None:
        """Append a command, or skip it when the lane has failed. Takes no virtual time."""
        with self.lock:
            if lane.failure is None:
                lane.commands.append(command)
            elif isinstance(command, ReachPoint):
                command.point.failure = lane.failure

    def advance_until(self, condition: Callable[[], bool], limit_ns: int | None = None) -> bool:
        """Advance event by event until `condition` holds; False when `limit_ns` came first.

        Raises:
            StreamDeadlockError: nothing is left that could make it hold.
        """
        with self.lock:
            self._start_ready()
            while not condition():
                due_ns = min((lane.done_ns for lane in self._lanes if lane.done_ns is not None), default=None)
                if due_ns is None:
                    blocked = ", ".join(lane.label for lane in self._lanes if not lane.is_idle)
                    raise StreamDeadlockError(blocked=blocked or "(none)")
                if limit_ns is not None and due_ns > limit_ns:
                    self.now_ns = max(self.now_ns, limit_ns)
                    return False
                self._finish_due(due_ns)
                self._start_ready()
            return True

    def advance(self, duration_ns: int) -> None:
        """Let virtual time pass; work that ends meanwhile takes effect in order of its end."""
        with self.lock:
            limit_ns = self.now_ns + duration_ns
            self._start_ready()
            while True:
                due = [lane.done_ns for lane in self._lanes if lane.done_ns is not None]
                if not due or min(due) > limit_ns:
                    break
                self._finish_due(min(due))
                self._start_ready()
            self.now_ns = limit_ns

    def _finish_due(self, due_ns: int) -> None:
        self.now_ns = max(self.now_ns, due_ns)
        for lane in self._lanes:
            if lane.done_ns == due_ns:
                self._finish(lane)

    def _finish(self, lane: VirtualLane) -> None:
        command = lane.commands.popleft()
        lane.done_ns = None
        if isinstance(command, CostedWork):
            try:
                command.function()
            except PlumblineError as error:
                lane.fail(error)

    def _start_ready(self) -> None:
        progressed = True
        while progressed:
            progressed = False
            for lane in self._lanes:
                while lane.done_ns is None and lane.commands and self._start(lane):
                    progressed = True

    def _start(self, lane: VirtualLane) -> bool:
        command = lane.commands[0]
        match command:
            case CostedWork(cost_ns=cost_ns):
                lane.done_ns = self.now_ns + cost_ns
            case ReachPoint(point=point):
                point.reached_ns = self.now_ns
                lane.commands.popleft()
            case AwaitPoint(point=point):
                if not point.is_done:
                    return False
                lane.commands.popleft()
                if point.failure is not None:
                    reason = point.failure.message
                    lane.fail(UpstreamFailedError(event=point.event, reason=reason))
        return True
