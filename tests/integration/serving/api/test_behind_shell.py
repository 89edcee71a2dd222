"""The native application behind the shell: one authentication, one problem document, every route."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.identity import LOCAL_PRINCIPAL, Role
from plumbline.serving.api.application import native_application
from plumbline.serving.api.openapi import route_permissions
from plumbline.serving.api.parts import NativeParts
from plumbline.serving.devices.inventory import DeviceManager
from plumbline.serving.events.bus import EventBus
from plumbline.serving.gateway.application import build_application
from plumbline.serving.gateway.parts import Gateway
from plumbline.serving.identity.authentication import ApiKeyAuthenticator
from plumbline.serving.identity.key_ring import KeyRing
from plumbline.serving.identity.key_store import MemoryKeyStore
from plumbline.serving.identity.roles import ROLE_PERMISSIONS
from plumbline.serving.tasks.memory_store import MemoryTaskStore
from plumbline.serving.tasks.node import wire_tasks
from plumbline.testing.native_parts import (
    FakeDecisions,
    FakeInference,
    FakeModels,
    FakeWorkers,
    SimulatedDevices,
)

BODY = {"model": "double", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}


class Healthy:
    """Live and ready."""

    def is_live(self) -> bool:
        return True

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        return True, {}


class Door:
    def __init__(self, shell: Any, native: Any, ring: KeyRing, client: httpx.AsyncClient) -> None:
        self.shell, self.native, self.ring, self.client = shell, native, ring, client

    async def key(self, role: Role) -> dict[str, str]:
        made = await self.ring.create(LOCAL_PRINCIPAL, tenant="acme", roles=[role.value], rate=None, name="")
        return {"x-api-key": made.text}


@asynccontextmanager
async def opened() -> AsyncIterator[Door]:
    clock = MonotonicClock()
    bus, models, inference, keys = EventBus(clock), FakeModels(), FakeInference(), MemoryKeyStore()
    devices = DeviceManager(SimulatedDevices(), bus, clock)
    devices.refresh()
    authenticator = ApiKeyAuthenticator(keys, clock)
    ring = KeyRing(keys, clock, authenticator.forget)
    node = wire_tasks(
        store=MemoryTaskStore(), inference=inference, models=models, allocator=devices.allocator,
        events=bus, clock=clock,
    )  # fmt: skip
    native = native_application(
        NativeParts(
            authenticator=authenticator, tasks=node.manager, devices=devices, models=models,
            workers=FakeWorkers(), decisions=FakeDecisions(), events=bus, keys=ring,
        )
    )  # fmt: skip
    shell = build_application(
        Gateway(
            inference=inference, models=models, health=Healthy(), authenticator=authenticator, native=native,
            metrics=lambda: (b"", "text/plain"),
        )
    )  # fmt: skip
    await node.start()
    transport = httpx.ASGITransport(app=shell)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield Door(shell, native, ring, client)
    await node.stop(drain=False, timeout_s=0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


def test_each_role_reaches_exactly_its_routes_over_both_protocols() -> None:
    """X-62: every operation of `/v2`, of the service and of `/api/v1`, by the permission it declares."""

    async def test() -> None:
        async with opened() as door:
            routes = [(m, p, permission.value) for m, p, permission in route_permissions(door.native)]
            routes += [
                (method.upper(), path, operation.get("x-permission"))
                for path, operations in door.shell.openapi["paths"].items()
                for method, operation in operations.items()
            ]
            names = {
                "model": "double", "model_name": "double", "version": "1", "model_version": "1",
                "request_id": "known", "device_id": "none", "task_id": "none", "key_id": "none",
                "name": "w0",
            }  # fmt: skip
            assert sum(path.startswith("/v2") for _, path, _ in routes) >= 10
            for role in Role:
                key = await door.key(role)
                allowed = {permission.value for permission in ROLE_PERMISSIONS[role]}
                for method, path, permission in routes:
                    place = path.format_map(names)
                    body = b"{}" if method in {"POST", "PUT"} else None
                    headers = {**key, **({"content-type": "application/json"} if body else {})}
                    answer = await door.client.request(method, place, headers=headers, content=body)
                    is_forbidden = answer.status_code == 403
                    assert is_forbidden is (permission is not None and permission not in allowed), (
                        role, method, path, permission, answer.text,
                    )  # fmt: skip
                    bare = await door.client.request(method, place, content=body)
                    assert (bare.status_code == 401) is (permission is not None), (method, path, bare.text)

    run(test)


def test_a_task_goes_through_the_shell_with_its_request_id_and_its_problems_are_the_shells() -> None:
    """L4-39."""

    async def test() -> None:
        async with opened() as door:
            key = await door.key(Role.CLIENT)
            given = await door.client.post("/api/v1/tasks", json=BODY, headers={**key, "x-request-id": "r-1"})
            assert (given.status_code, given.headers["x-request-id"]) == (202, "r-1")
            assert given.headers["location"].startswith("/api/v1/tasks/t-")
            for method, path, status in (
                ("GET", "/api/v1/tasks/none", 404),
                ("GET", "/api/v1/nothing", 404),
                ("GET", "/api/v9/tasks", 404),
                ("PATCH", "/api/v1/tasks", 405),
            ):
                answer = await door.client.request(method, path, headers={**key, "x-request-id": "r-2"})
                assert answer.status_code == status, answer.text
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["request_id"] == answer.headers["x-request-id"] == "r-2"

    run(test)


def test_a_browser_says_who_it_is_in_its_first_message() -> None:
    """L4-37: it cannot set headers; a wrong header is refused before the handshake."""

    async def test() -> None:
        async with opened() as door:
            config = uvicorn.Config(
                door.shell, port=0, log_level="error", lifespan="off", ws="websockets-sansio"
            )
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.005)
            url = f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/ws"
            key = (await door.key(Role.CLIENT))["x-api-key"]
            async with connect(url) as client:
                await client.send(json.dumps({"type": "authenticate", "key": key}))
                assert json.loads(await client.recv())["tenant"] == "acme"
            async with connect(url, additional_headers={"x-api-key": key}) as client:
                assert json.loads(await client.recv())["tenant"] == "acme"
            with pytest.raises(InvalidStatus):
                await connect(url, additional_headers={"x-api-key": "plk_wrong"})
            server.should_exit = True
            await task

    run(test)
