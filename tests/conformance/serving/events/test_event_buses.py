"""The bus of the gateway passes the suite (L4-26, L4-37, L4-55)."""

from __future__ import annotations

import asyncio

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.identity import LOCAL_PRINCIPAL
from plumbline.serving.events.bus import EventBus
from plumbline.serving.events.refusals import CursorAhead, CursorTooOld
from plumbline.serving.ports import EventService
from plumbline.testing.event_buses import EventBusConformance


class TestEventBus(EventBusConformance):
    def make_bus(self, *, history: int, waiting: int) -> EventService:
        return EventBus(FakeClock(), history=history, waiting=waiting)


@pytest.mark.parametrize("events", [0, 1, 50, 5000])
def test_a_cursor_of_another_run_is_refused_however_many_events_there_were_since(events: int) -> None:
    """L4-26: it never names events of this run, also where it would be a number that this run had."""

    async def test() -> None:
        clock = FakeClock()
        earlier = EventBus(clock)
        for _ in range(100):
            clock.advance(1_000_000)
            earlier.publish("k", "x")
        cursors = [earlier.newest - back for back in (0, 1, 99)]
        clock.advance(1_000_000_000)
        later = EventBus(clock)
        for _ in range(events):
            later.publish("k", "y")
        for cursor in cursors:
            with pytest.raises(CursorTooOld):
                later.subscribe(LOCAL_PRINCIPAL, after=cursor)
        with pytest.raises(CursorAhead):
            earlier.subscribe(LOCAL_PRINCIPAL, after=later.newest)
        assert later.newest < 2**53, "every JSON reader has it exactly"

    asyncio.run(test())


def test_a_cursor_of_a_run_whose_clock_was_ahead_is_refused() -> None:
    async def test() -> None:
        ahead = EventBus(FakeClock(wall_ns=1_700_000_003_000_000_000))
        ahead.publish("k", "x")
        present = EventBus(FakeClock(wall_ns=1_700_000_000_000_000_000))
        for _ in range(1000):
            present.publish("k", "y")
        with pytest.raises(CursorAhead):
            present.subscribe(LOCAL_PRINCIPAL, after=ahead.newest)

    asyncio.run(test())


def test_the_cursor_0_is_before_the_first_event_of_any_run() -> None:
    async def test() -> None:
        bus = EventBus(FakeClock(), history=3)
        for n in range(3):
            bus.publish("k", str(n))
        stream = bus.subscribe(LOCAL_PRINCIPAL, after=0)
        assert [(await anext(stream)).subject for _ in range(3)] == ["0", "1", "2"]
        bus.publish("k", "3")
        with pytest.raises(CursorTooOld):
            bus.subscribe(LOCAL_PRINCIPAL, after=0)

    asyncio.run(test())
