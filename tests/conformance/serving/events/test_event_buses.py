"""The bus of the gateway passes the suite (L4-26, L4-37, L4-55)."""

from __future__ import annotations

from plumbline.contracts.clock import FakeClock
from plumbline.serving.events.bus import EventBus
from plumbline.serving.ports import EventService
from plumbline.testing.event_buses import EventBusConformance


class TestEventBus(EventBusConformance):
    def make_bus(self, *, history: int, waiting: int) -> EventService:
        return EventBus(FakeClock(), history=history, waiting=waiting)
