"""Answers of one launch are announced once, so that a worker sends them in one message."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import VersionRef
from plumbline.engine.lanes import LanePool
from plumbline.engine.scheduler import Scheduler
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.testing.sessions import EchoSession, echo_call

REF = VersionRef(model="echo", version="1")
HANG_S = 60.0


@contextmanager
def first_answer_held(
    is_over: Callable[[list[str]], bool],
) -> Iterator[tuple[Scheduler, list[str], Callable[[], None]]]:
    """An engine inside the callback of its first request; what was told, announcements as `|`; and a function
    that lets it go on and waits until that is enough.
    """
    scheduler = Scheduler(policy=EarliestDeadlineFirstPolicy(), streams=LanePool(), clock=MonotonicClock())
    told: list[str] = []
    inside, gate, over = threading.Event(), threading.Event(), threading.Event()

    def first_done(done: object) -> None:
        told.append("first")
        inside.set()
        gate.wait(HANG_S)

    def announced() -> None:
        told.append("|")
        if is_over(told):
            over.set()

    def go_on() -> None:
        gate.set()
        assert over.wait(HANG_S)

    scheduler.when_told(announced)
    scheduler.load(REF, EchoSession(REF))
    scheduler.start()
    try:
        scheduler.submit(REF, echo_call("first", REF), first_done)
        assert inside.wait(HANG_S)
        yield scheduler, told, go_on
    finally:
        scheduler.close()


def test_requests_of_one_launch_are_told_before_one_announcement() -> None:
    """Those that came while the engine was held up share a launch (L4-16)."""
    with first_answer_held(lambda told: len(told) - told.count("|") == 4) as (scheduler, told, go_on):
        for name in ("a", "b", "c"):
            scheduler.submit(REF, echo_call(name, REF), lambda done, name=name: told.append(name))
        go_on()
    assert told == ["first", "|", "a", "b", "c", "|"]


def test_an_answer_outside_of_a_launch_is_announced_too() -> None:
    """A request that is cancelled before it runs has an announcement of its own."""
    with first_answer_held(lambda told: "second" in told) as (scheduler, told, go_on):
        scheduler.submit(REF, echo_call("second", REF), lambda done: told.append("second"))
        assert scheduler.cancel("second")
        go_on()
    assert told == ["first", "|", "second", "|"]
