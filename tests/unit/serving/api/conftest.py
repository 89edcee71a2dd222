"""One native application over fakes, and a client that talks to it without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from plumbline.contracts.clock import MonotonicClock
from plumbline.serving.api.application import native_application
from plumbline.serving.api.parts import NativeParts
from plumbline.serving.devices.inventory import DeviceManager
from plumbline.serving.events.bus import EventBus
from plumbline.serving.identity.authentication import ApiKeyAuthenticator
from plumbline.serving.identity.key_ring import KeyRing
from plumbline.serving.identity.key_store import MemoryKeyStore
from plumbline.serving.tasks.memory_store import MemoryTaskStore
from plumbline.serving.tasks.node import wire_tasks
from plumbline.testing.native_parts import (
    FakeDecisions,
    FakeInference,
    FakeModels,
    FakeWorkers,
    SimulatedDevices,
)


class Native:
    """An application, its parts, and a client."""

    def __init__(
        self, parts: NativeParts, client: httpx.AsyncClient, application: Any, ring: KeyRing
    ) -> None:
        self.parts, self.client, self.application, self.ring = parts, client, application, ring


@asynccontextmanager
async def open_native(*, with_keys: bool = False, **more: Any) -> AsyncIterator[Native]:
    clock = MonotonicClock()
    bus, models, store = EventBus(clock), FakeModels(), MemoryKeyStore()
    devices = DeviceManager(SimulatedDevices(), bus, clock)
    devices.refresh()
    authenticator = ApiKeyAuthenticator(store, clock)
    ring = KeyRing(store, clock, authenticator.forget)
    node = wire_tasks(
        store=MemoryTaskStore(), inference=FakeInference(), models=models, allocator=devices.allocator,
        events=bus, clock=clock,
    )  # fmt: skip
    values: dict[str, Any] = {
        "authenticator": authenticator if with_keys else None,
        "tasks": node.manager,
        "devices": devices,
        "models": models,
        "workers": FakeWorkers(),
        "decisions": FakeDecisions(),
        "events": bus,
        "keys": ring,
    }
    parts = NativeParts(**{**values, **more})
    application = native_application(parts)
    transport = httpx.ASGITransport(app=application)
    await node.start()
    async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
        yield Native(parts, client, application, ring)
    await node.stop(drain=False, timeout_s=0)


@pytest.fixture
def serve() -> Callable[..., None]:
    """Runs a test against a fresh application."""

    def run(test: Callable[[Native], Awaitable[None]], **options: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60), open_native(**options) as native:
                await test(native)

        asyncio.run(bounded())

    return run
