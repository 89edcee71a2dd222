"""Lanes: where launches run. A lane is a stream of the decision core with a thread, or without one.

The only lane of an engine runs launches on the orchestration thread itself, which saves two hand-overs
between threads; native code releases the interpreter meanwhile. Several lanes have a thread each. Between
two segments every lane asks the same question (`LaneControl.at_boundary`); a threaded one only when the loop
has raised its flag.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from plumbline.engine.dispatch import run_launch
from plumbline.engine.requests import LaunchWork, StageOutcome

__all__ = ["InlineLane", "Lane", "LaneControl", "LanePool", "LaneReport", "ThreadLane"]


LOOK_AGAIN_S = 0.1
"""How often a lane that waits for the loop looks whether it is being closed."""


@dataclass(slots=True)
class LaneReport:
    """A launch is over."""

    lane: Lane
    work: LaunchWork
    outcomes: Sequence[StageOutcome]


@dataclass(slots=True)
class BoundaryQuestion:
    """A threaded lane stands between two segments and waits for `answer`; `ready` is released then."""

    work: LaunchWork
    segment: int
    ready: threading.Lock
    answer: bool | LaunchWork = True


class LaneControl(Protocol):
    """What a lane needs from the orchestration loop.

    Attributes:
        watches_boundaries: it wants to be asked at every boundary, because it holds segments against bounds.
    """

    watches_boundaries: bool

    def at_boundary(self, work: LaunchWork, segment: int) -> bool | LaunchWork:
        """Go on, end, or run this launch first and ask again. On the orchestration thread."""

    def finish(self, report: LaneReport) -> None:
        """A launch is over. On the orchestration thread."""

    def poll(self) -> None:
        """Take what has arrived meanwhile. On the orchestration thread."""

    def post(self, handle: Callable[[object], None], argument: object) -> None:
        """Let the orchestration thread call `handle(argument)`. On any thread."""


class Lane(Protocol):
    """Runs launches one after the other; nested ones between the segments of another.

    Attributes:
        index: of the stream, from 0.
        busy: a launch is on it. Written by the orchestration thread.
        attention: something arrived that a boundary should know of. Set by the orchestration thread.
    """

    index: int
    busy: bool
    attention: bool

    def start(self, work: LaunchWork) -> None:
        """Run a launch and report it, now or later."""

    def close(self, timeout_s: float) -> bool:
        """End the lane; False when its thread is still in a launch when the time is over."""


class InlineLane:
    """Runs on the orchestration thread: `start` returns when the launch is over and reported."""

    def __init__(self, index: int, control: LaneControl) -> None:
        self.index, self.busy, self.attention = index, False, True
        self._control = control

    def start(self, work: LaunchWork) -> None:
        """Run and report."""
        control = self._control

        def between(segment: int) -> bool:
            control.poll()
            while isinstance(answer := control.at_boundary(work, segment), LaunchWork):
                self.start(answer)
            return answer

        control.finish(LaneReport(self, work, run_launch(work, between)))

    def close(self, timeout_s: float) -> bool:
        """Nothing to end."""
        return True


class ThreadLane:
    """Runs on a thread of its own: `start` returns at once, the report comes through the intake."""

    def __init__(self, index: int, control: LaneControl, name: str) -> None:
        self.index, self.busy, self.attention = index, False, False
        self._control = control
        self._closing = False
        self._works: SimpleQueue[LaunchWork | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, work: LaunchWork) -> None:
        """Hand the launch over."""
        self._works.put(work)

    def close(self, timeout_s: float) -> bool:
        """Let the running launch end, then the thread."""
        self._closing = True
        self._works.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._works.get()) is not None:
            self._perform(work)

    def _perform(self, work: LaunchWork) -> None:
        def between(segment: int) -> bool:
            if not (self._control.watches_boundaries or self.attention or _is_unwanted(work)):
                return True
            self.attention = False
            while isinstance(answer := self._ask(work, segment), LaunchWork):
                self._perform(answer)
            return answer

        report = LaneReport(self, work, run_launch(work, between))
        self._control.post(self._finish, report)

    def _ask(self, work: LaunchWork, segment: int) -> bool | LaunchWork:
        question = BoundaryQuestion(work, segment, threading.Lock())
        question.ready.acquire()
        self._control.post(self._answer, question)
        while not question.ready.acquire(timeout=LOOK_AGAIN_S):
            if self._closing:
                return False
        return question.answer

    def _answer(self, question: object) -> None:
        """On the orchestration thread."""
        if isinstance(question, BoundaryQuestion):
            try:
                question.answer = self._control.at_boundary(question.work, question.segment)
            finally:
                question.ready.release()

    def _finish(self, report: object) -> None:
        """On the orchestration thread."""
        if isinstance(report, LaneReport):
            self._control.finish(report)


def _is_unwanted(work: LaunchWork) -> bool:
    return any(request.cancelled for request in work.requests)


class LanePool:
    """The streams of an engine: how many launches go at once.

    Args:
        size: number of lanes. The only lane of a pool is inline, unless `inline` is False.
        inline: whether a pool of one may use the orchestration thread.
    """

    def __init__(self, size: int = 1, *, inline: bool = True) -> None:
        if size < 1:
            raise ValueError(f"an engine needs a lane, not {size}")
        self.size = size
        self._inline = inline and size == 1

    def open(self, control: LaneControl, name: str) -> list[Lane]:
        """The lanes, numbered from 0. Their owner closes them."""
        if self._inline:
            return [InlineLane(0, control)]
        return [self.open_thread(control, index, name) for index in range(self.size)]

    def open_thread(self, control: LaneControl, index: int, name: str) -> ThreadLane:
        """One more lane, with a thread of its own."""
        return ThreadLane(index, control, f"{name} stream {index}")
