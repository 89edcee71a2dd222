"""schemathesis over the OpenAPI document: no 5xx, no violation of a schema (L4-27, X-56)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from plumbline.contracts.clock import MonotonicClock
from plumbline.serving.api.application import native_application
from plumbline.serving.api.parts import NativeParts
from plumbline.serving.devices.inventory import DeviceManager
from plumbline.serving.events.bus import EventBus
from plumbline.serving.identity.key_ring import KeyRing
from plumbline.serving.identity.key_store import MemoryKeyStore
from plumbline.serving.tasks.memory_store import MemoryTaskStore
from plumbline.serving.tasks.node import wire_tasks
from plumbline.testing.native_parts import (
    FakeDecisions,
    FakeInference,
    FakeModels,
    FakePlans,
    FakeWorkers,
    SimulatedDevices,
)


def build() -> Any:
    clock = MonotonicClock()
    bus, models = EventBus(clock), FakeModels()
    devices = DeviceManager(SimulatedDevices(), bus, clock)
    devices.refresh()
    node = wire_tasks(
        store=MemoryTaskStore(), inference=FakeInference(), models=models, allocator=devices.allocator,
        events=bus, clock=clock,
    )  # fmt: skip
    return native_application(
        NativeParts(
            authenticator=None, tasks=node.manager, devices=devices, models=models, workers=FakeWorkers(),
            decisions=FakeDecisions(), events=bus, keys=KeyRing(MemoryKeyStore(), clock),
            plans=FakePlans(),
        )
    )  # fmt: skip


APPLICATION = build()
SCHEMA = schemathesis.openapi.from_dict(APPLICATION.openapi())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The application behind a real server, on a thread."""
    server = uvicorn.Server(uvicorn.Config(APPLICATION, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(
    max_examples=30,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_every_answer_is_as_declared(case: Any, address: str) -> None:
    case.call_and_validate(
        base_url=address,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
            response_headers_conformance,
            negative_data_rejection,
        ],
    )
