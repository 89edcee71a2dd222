"""The suite that every `EventService` passes. Inherit it and say how to make one with a short history."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from plumbline.contracts.identity import Principal, Role
from plumbline.contracts.requests import TenantId
from plumbline.serving.events.refusals import CursorAhead, CursorTooOld, SubscriberTooSlow
from plumbline.serving.ports import EventService, RuntimeEvent

__all__ = ["EventBusConformance"]

A = Principal(id="a", tenant=TenantId("a"), roles=frozenset({Role.CLIENT}))
B = Principal(id="b", tenant=TenantId("b"), roles=frozenset({Role.ADMIN}))


class EventBusConformance(ABC):
    """What a bus promises. Requirements L4-26, L4-37, L4-55."""

    @abstractmethod
    def make_bus(self, *, history: int, waiting: int) -> EventService:
        """A bus that remembers `history` events and lets `waiting` wait for a subscriber."""

    def _run(
        self, test: Callable[[EventService], Awaitable[None]], *, history: int = 100, waiting: int = 50
    ) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test(self.make_bus(history=history, waiting=waiting))

        asyncio.run(bounded())

    def test_a_subscriber_gets_its_events_and_the_systems_and_no_others(self) -> None:
        """L4-37: two tenants; a role does not open another tenant's events."""

        async def test(bus: EventService) -> None:
            streams = [bus.subscribe(A), bus.subscribe(B)]
            bus.publish("task.queued", "1", A.tenant)
            bus.publish("task.queued", "2", B.tenant)
            bus.publish("worker.replaced", "w0")
            assert [e.subject for e in await take(streams[0], 2)] == ["1", "w0"]
            assert [e.subject for e in await take(streams[1], 2)] == ["2", "w0"]

        self._run(test)

    def test_filters_pass_families_of_kinds_and_exact_subjects(self) -> None:
        """`task` means `task.*`, and not `tasks`."""

        async def test(bus: EventService) -> None:
            stream = bus.subscribe(A, kinds=["task"], subjects=["1"])
            for kind, subject in (("tasks.x", "1"), ("task.a", "2"), ("model.b", "1"), ("task.c", "1")):
                bus.publish(kind, subject, A.tenant)
            assert [(e.kind, e.subject) for e in await take(stream, 1)] == [("task.c", "1")]

        self._run(test)

    def test_a_cursor_resumes_without_gap_or_repetition(self) -> None:
        """L4-26: whoever comes back with the last sequence gets what is after it, once."""

        async def test(bus: EventService) -> None:
            stream = bus.subscribe(A, after=0)
            for n in range(5):
                bus.publish("k", str(n), A.tenant)
            first = await take(stream, 2)
            bus.publish("k", "5", A.tenant)
            resumed = bus.subscribe(A, after=first[-1].sequence)
            bus.publish("k", "6", A.tenant)
            assert [e.subject for e in await take(resumed, 5)] == ["2", "3", "4", "5", "6"]

        self._run(test)

    def test_a_cursor_outside_the_history_is_refused_by_name(self) -> None:
        """Too old: events were missed. Ahead: of another gateway."""

        async def test(bus: EventService) -> None:
            stream = bus.subscribe(A)
            for n in range(5):
                bus.publish("k", str(n), A.tenant)
            at = [event.sequence for event in await take(stream, 5)]
            with pytest.raises(CursorTooOld) as caught:
                bus.subscribe(A, after=at[0])
            assert caught.value.oldest == at[2]
            with pytest.raises(CursorAhead):
                bus.subscribe(A, after=at[4] + 1)
            assert [e.subject for e in await take(bus.subscribe(A, after=at[1]), 3)] == ["2", "3", "4"]
            assert bus.subscribe(A, after=at[4]) is not None

        self._run(test, history=3)

    def test_a_slow_subscriber_is_dropped_with_its_cursor_and_others_are_not(self) -> None:
        """L4-55: it gets what fitted, then a typed end from which it can resume."""

        async def test(bus: EventService) -> None:
            slow, quick = bus.subscribe(A), bus.subscribe(A)
            seen: list[RuntimeEvent] = []
            for n in range(10):
                bus.publish("k", str(n), A.tenant)
                seen += await take(quick, 1)
            kept = await take(slow, 4)
            with pytest.raises(SubscriberTooSlow) as caught:
                await take(slow, 1)
            assert [e.subject for e in seen] == [str(n) for n in range(10)]
            assert caught.value.cursor == kept[-1].sequence
            resumed = bus.subscribe(A, after=caught.value.cursor)
            assert [e.subject for e in await take(resumed, 6)] == [str(n) for n in range(4, 10)]

        self._run(test, waiting=4)

    def test_events_of_many_threads_have_one_order_that_every_subscriber_sees(self) -> None:
        """L4-55: per task the order of publication is kept."""

        async def test(bus: EventService) -> None:
            streams = [bus.subscribe(A) for _ in range(2)]

            def publish(task: int) -> None:
                for n in range(50):
                    bus.publish("k", str(task), A.tenant, n=n)

            threads = [threading.Thread(target=publish, args=(task,)) for task in range(4)]
            for thread in threads:
                thread.start()
            one, two = [await take(stream, 200) for stream in streams]
            for thread in threads:
                thread.join()
            assert one == two
            first = one[0].sequence
            assert [e.sequence for e in one] == list(range(first, first + 200))
            for task in range(4):
                assert [e.fields["n"] for e in one if e.subject == str(task)] == list(range(50))

        self._run(test, history=500, waiting=500)


async def take(stream: AsyncIterator[RuntimeEvent], count: int) -> list[RuntimeEvent]:
    """The next events of a stream."""
    return [await anext(stream) for _ in range(count)]
