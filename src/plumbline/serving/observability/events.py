"""`WatchedEvents`: an event service whose events are also counted and logged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from plumbline.contracts.identity import Principal
from plumbline.contracts.requests import TenantId
from plumbline.serving.events.refusals import SubscriberTooSlow
from plumbline.serving.ports import EventService, RuntimeEvent

__all__ = ["EventWatcher", "WatchedEvents"]

EventWatcher = Callable[[str, str, TenantId | None, Mapping[str, Any]], None]
"""Told (kind, subject, tenant, fields). Never blocks, never raises; may be called from any thread."""


class WatchedEvents:
    """Wraps an `EventService`.

    Args:
        inner: keeps and delivers the events.
        watchers: told of each one before it is delivered.
        on_dropped: told of a subscriber that fell behind.
    """

    def __init__(
        self, inner: EventService, watchers: tuple[EventWatcher, ...], on_dropped: Callable[[], None]
    ) -> None:
        self._inner, self._watchers, self._on_dropped = inner, watchers, on_dropped

    def publish(self, kind: str, subject: str, tenant: TenantId | None = None, **fields: Any) -> None:
        """Tell everyone."""
        for watcher in self._watchers:
            watcher(kind, subject, tenant, fields)
        self._inner.publish(kind, subject, tenant, **fields)

    def subscribe(
        self,
        principal: Principal,
        *,
        after: int | None = None,
        kinds: Sequence[str] = (),
        subjects: Sequence[str] = (),
    ) -> AsyncIterator[RuntimeEvent]:
        """Events of the inner service; its refusals are raised at the call."""
        stream = self._inner.subscribe(principal, after=after, kinds=kinds, subjects=subjects)
        return _WatchedStream(stream, self._on_dropped)


class _WatchedStream(AsyncIterator[RuntimeEvent]):
    def __init__(self, inner: AsyncIterator[RuntimeEvent], on_dropped: Callable[[], None]) -> None:
        self._inner, self._on_dropped = inner, on_dropped

    async def __anext__(self) -> RuntimeEvent:
        try:
            return await self._inner.__anext__()
        except SubscriberTooSlow:
            self._on_dropped()
            raise

    async def aclose(self) -> None:
        """End the subscription."""
        close = getattr(self._inner, "aclose", None)
        if close is not None:
            await close()
