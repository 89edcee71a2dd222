"""One subscriber: what it may see, and a bounded queue of what it has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from plumbline.contracts.requests import TenantId
from plumbline.serving.events.refusals import SubscriberTooSlow
from plumbline.serving.ports import RuntimeEvent

__all__ = ["EventFilter", "Subscription"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events a subscriber gets.

    Attributes:
        tenant: its own; events of others never pass, those of nobody (the system's) do.
        kinds: dotted kinds or their beginnings (`task` means `task.*`); empty for all.
        subjects: exact; empty for all.
    """

    tenant: TenantId
    kinds: tuple[str, ...] = ()
    subjects: frozenset[str] = frozenset()

    def passes(self, event: RuntimeEvent) -> bool:
        """Whether the subscriber gets an event."""
        if event.tenant is not None and event.tenant != self.tenant:
            return False
        if self.subjects and event.subject not in self.subjects:
            return False
        return not self.kinds or any(_is_within(event.kind, kind) for kind in self.kinds)


class Subscription:
    """Owns the queue of one subscriber. Filled and emptied on its event loop.

    Args:
        wanted: which events pass.
        limit: most events that wait; one more and the subscriber is dropped.
        cursor: sequence of the last event that it had.
    """

    def __init__(self, wanted: EventFilter, limit: int, cursor: int) -> None:
        self.wanted = wanted
        self._limit, self._cursor = limit, cursor
        self._waiting: deque[RuntimeEvent] = deque()
        self._bell = asyncio.Event()
        self._is_dropped = False

    def offer(self, event: RuntimeEvent) -> None:
        """Queue an event that passes the filter. Never waits."""
        if self._is_dropped or event.sequence <= self._cursor or not self.wanted.passes(event):
            return
        if len(self._waiting) >= self._limit:
            self._is_dropped = True
        else:
            self._waiting.append(event)
        self._bell.set()

    async def take(self) -> RuntimeEvent:
        """The next event, when there is one.

        Raises:
            SubscriberTooSlow: events were lost behind the ones that were taken.
        """
        while not self._waiting:
            if self._is_dropped:
                raise SubscriberTooSlow(limit=self._limit, cursor=self._cursor)
            self._bell.clear()
            await self._bell.wait()
        event = self._waiting.popleft()
        self._cursor = event.sequence
        return event


def _is_within(kind: str, family: str) -> bool:
    return kind == family or kind.startswith(f"{family}.")
