"""`EventBus`: events of this gateway in one order, a bounded history, bounded subscribers (L4-55)."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import Any

from plumbline.contracts.clock import Clock
from plumbline.contracts.identity import Principal
from plumbline.contracts.requests import TenantId
from plumbline.serving.events.refusals import CursorAhead, CursorTooOld
from plumbline.serving.events.subscription import EventFilter, Subscription
from plumbline.serving.ports import RuntimeEvent

__all__ = ["EventBus"]


class EventBus:
    """`EventService` in memory. Owns the history and the set of subscribers.

    Sequences of one run begin at its start in microseconds since 1970, so a cursor of another run, or of
    another gateway, lies outside the history and is refused: it can never name other events than it did.

    `publish` may be called from any thread; events get their sequence under a lock, and every subscriber
    gets them in that order, so order per task is kept.

    Args:
        clock: stamps events.
        history: events that a cursor can resume behind.
        waiting: events that may wait for one subscriber.
        begin: sequence before the first; None for the microseconds since 1970.
    """

    def __init__(
        self, clock: Clock, *, history: int = 10_000, waiting: int = 1_000, begin: int | None = None
    ) -> None:
        self._clock, self._waiting = clock, waiting
        self._history: deque[RuntimeEvent] = deque(maxlen=history)
        self._sequence = self._begin = clock.wall_ns() // 1000 if begin is None else begin
        self._lock = threading.Lock()
        self._subscribers: dict[Subscription, asyncio.AbstractEventLoop] = {}

    @property
    def newest(self) -> int:
        """Sequence of the last event; before the first, the one that it follows."""
        return self._sequence

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._subscribers)

    def publish(self, kind: str, subject: str, tenant: TenantId | None = None, **fields: Any) -> None:
        """Tell everyone. Never blocks on a subscriber."""
        with self._lock:
            self._sequence += 1
            event = RuntimeEvent(
                sequence=self._sequence,
                kind=kind,
                subject=subject,
                tenant=tenant,
                wall_ns=self._clock.wall_ns(),
                fields=fields,
            )
            self._history.append(event)
            for subscription, loop in self._subscribers.items():
                _offer(loop, subscription, event)

    def subscribe(
        self,
        principal: Principal,
        *,
        after: int | None = None,
        kinds: Sequence[str] = (),
        subjects: Sequence[str] = (),
    ) -> AsyncIterator[RuntimeEvent]:
        """Events that the principal may see, from now or from behind a cursor, until the iterator is closed.

        Events count from the call, not from the first `anext`. The cursor 0 is before the first event.

        Raises:
            CursorTooOld: at the call: the history begins later; an earlier run gave the cursor, or too many
                events came since.
            CursorAhead: at the call: there was no such event yet.
            SubscriberTooSlow: while iterating: too many events waited.
        """
        wanted = EventFilter(tenant=principal.tenant, kinds=tuple(kinds), subjects=frozenset(subjects))
        with self._lock:
            after = self._begin if after == 0 else after
            missed = () if after is None else self._since(after)
            cursor = self._sequence if after is None else after
            limit = max(self._waiting, len(missed))
            subscription = Subscription(wanted, limit, cursor)
            for event in missed:
                subscription.offer(event)
            self._subscribers[subscription] = asyncio.get_running_loop()
        return _Stream(self, subscription)

    def _since(self, after: int) -> tuple[RuntimeEvent, ...]:
        if after > self._sequence or after < 0:
            raise CursorAhead(cursor=after, newest=self._sequence)
        missed = self._sequence - after
        if missed > len(self._history):
            oldest = self._history[0].sequence if self._history else self._begin + 1
            raise CursorTooOld(cursor=after, oldest=oldest)
        return tuple(islice(self._history, len(self._history) - missed, None))

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscribers.pop(subscription, None)


class _Stream(AsyncIterator[RuntimeEvent]):
    """The iterator of one subscriber; closing or losing it ends the subscription."""

    def __init__(self, bus: EventBus, subscription: Subscription) -> None:
        self._bus, self._subscription = bus, subscription

    async def __anext__(self) -> RuntimeEvent:
        try:
            return await self._subscription.take()
        except BaseException:
            self._bus._forget(self._subscription)
            raise

    async def aclose(self) -> None:
        """End the subscription."""
        self._bus._forget(self._subscription)

    def __del__(self) -> None:
        self._bus._forget(self._subscription)


def _offer(loop: asyncio.AbstractEventLoop, subscription: Subscription, event: RuntimeEvent) -> None:
    try:
        loop.call_soon_threadsafe(subscription.offer, event)
    except RuntimeError:  # the loop of a subscriber was closed under it: nobody is there to be told
        return
