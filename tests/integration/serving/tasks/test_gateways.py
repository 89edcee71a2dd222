"""Two gateways over one store, restarts, and a gateway that is killed (L4-38, L4-42, L4-47, L4-74)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from plumbline.contracts.clock import Clock, FakeClock, MonotonicClock
from plumbline.contracts.identity import LOCAL_PRINCIPAL
from plumbline.serving.api.application import native_application
from plumbline.serving.api.parts import NativeParts
from plumbline.serving.devices.inventory import DeviceManager
from plumbline.serving.events.bus import EventBus
from plumbline.serving.identity.authentication import REVOCATION_BOUND_S, ApiKeyAuthenticator
from plumbline.serving.identity.key_ring import KeyRing
from plumbline.serving.identity.key_store import SqlKeyStore
from plumbline.serving.storage.database import open_database, sqlite_url
from plumbline.serving.tasks.node import wire_tasks
from plumbline.serving.tasks.options import TaskOptions
from plumbline.serving.tasks.sql_store import SqlTaskStore
from plumbline.testing.native_parts import (
    FakeDecisions,
    FakeInference,
    FakeModels,
    FakeWorkers,
    SimulatedDevices,
)

OPTIONS = TaskOptions(slots=2, lease_s=60.0, beat_s=0.1, poll_s=0.05)
TAKING_OVER = replace(OPTIONS, lease_s=2.0)
"""Short, where a lease has to lapse; long, where a busy machine must not let it."""
BODY = {"model": "double", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}

WORKER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
import test_gateways as gateways

async def main():
    async with gateways.gateway(sys.argv[1], gate=asyncio.Event()) as one:
        answer = await one.client.put("/api/v1/tasks/orphan", json=gateways.BODY, headers=one.headers)
        while not one.inference.calls:
            await asyncio.sleep(0.01)
        print("running", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


class Node:
    """A gateway: its client with a key of the tenant `acme`, and its engine."""

    def __init__(self, client: httpx.AsyncClient, inference: FakeInference, ring: KeyRing, text: str) -> None:
        self.client, self.inference, self.ring = client, inference, ring
        self.headers = {"x-api-key": text}


@asynccontextmanager
async def gateway(
    url: str,
    *,
    start: bool = True,
    gate: asyncio.Event | None = None,
    options: TaskOptions = OPTIONS,
    clock: Clock | None = None,
) -> AsyncIterator[Node]:
    clock = clock or MonotonicClock()
    database = await open_database(url)
    bus, inference, models = EventBus(clock), FakeInference(gate=gate), FakeModels()
    devices = DeviceManager(SimulatedDevices(), bus, clock)
    devices.refresh()
    keys = SqlKeyStore(database)
    authenticator = ApiKeyAuthenticator(keys, clock)
    ring = KeyRing(keys, clock, authenticator.forget)
    node = wire_tasks(
        store=SqlTaskStore(database), inference=inference, models=models, allocator=devices.allocator,
        events=bus, clock=clock, options=options,
    )  # fmt: skip
    parts = NativeParts(
        authenticator=authenticator, tasks=node.manager, devices=devices, models=models,
        workers=FakeWorkers(), decisions=FakeDecisions(), events=bus, keys=ring,
    )  # fmt: skip
    made = await ring.create(LOCAL_PRINCIPAL, tenant="acme", roles=["client"], rate=None, name="")
    transport = httpx.ASGITransport(app=native_application(parts))
    if start:
        await node.start()
    async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
        yield Node(client, inference, ring, made.text)
    await node.stop(drain=False, timeout_s=0)
    await database.close()


async def ended(node: Node, task: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            answer = await node.client.get(f"/api/v1/tasks/{task}", headers=node.headers)
            assert answer.status_code == 200, answer.text
            document = dict(answer.json())
            if document["status"] not in {"accepted", "queued", "running"}:
                return document
            await asyncio.sleep(0.02)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await test()

    asyncio.run(bounded())


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "plumb.db")
    return str(request.getfixturevalue("postgres_server").url)


def test_a_task_given_to_one_gateway_is_done_by_and_readable_at_the_other(url: str) -> None:
    """L4-74: the key too is good at both."""

    async def test() -> None:
        async with gateway(url, start=False) as front, gateway(url) as back:
            given = await front.client.post("/api/v1/tasks", json=BODY, headers=front.headers)
            task = given.json()["id"]
            back.headers = front.headers
            document = await ended(back, task)
            assert document["result"]["outputs"][0]["data"] == [2.0]
            assert await ended(front, task) == document
            assert (len(front.inference.calls), len(back.inference.calls)) == (0, 1)

    run(test)


def test_many_tasks_at_two_gateways_run_once_each(url: str) -> None:
    async def test() -> None:
        async with gateway(url) as one, gateway(url) as two:
            two.headers = one.headers
            bodies = [{**BODY, "cache": False, "name": str(n)} for n in range(20)]
            answers = await asyncio.gather(
                *[
                    (one, two)[n % 2].client.post("/api/v1/tasks", json=body, headers=one.headers)
                    for n, body in enumerate(bodies)
                ]
            )
            for answer in answers:
                assert (await ended(one, answer.json()["id"]))["claims"] == 1
            ids = [call.id for node in (one, two) for call in node.inference.calls]
            assert len(ids) == len(set(ids)) == 20

    run(test)


def test_a_result_is_read_after_a_restart_and_what_waited_is_done(url: str) -> None:
    """L4-42, L4-47."""

    async def test() -> None:
        async with gateway(url) as before:
            headers = before.headers
            done = await before.client.post("/api/v1/tasks", json=BODY, headers=headers)
            document = await ended(before, done.json()["id"])
        async with gateway(url, start=False) as stopped:
            waits = await stopped.client.post("/api/v1/tasks", json=BODY, headers=headers)
        async with gateway(url) as after:
            after.headers = headers
            assert await ended(after, done.json()["id"]) == document
            assert (await ended(after, waits.json()["id"]))["status"] == "succeeded"

    run(test)


def test_a_key_that_is_revoked_at_one_gateway_ends_at_the_other(url: str) -> None:
    """X-60."""

    async def test() -> None:
        clock = FakeClock(1_000_000_000)
        async with (
            gateway(url, start=False, clock=clock) as one,
            gateway(url, start=False, clock=clock) as two,
        ):
            assert (await two.client.get("/api/v1/info", headers=one.headers)).status_code == 200
            (key, *_) = [
                k
                for k in await one.ring.list(LOCAL_PRINCIPAL)
                if k.id == one.headers["x-api-key"].split("_")[1]
            ]
            await one.ring.revoke(LOCAL_PRINCIPAL, key.id)
            assert (await one.client.get("/api/v1/info", headers=one.headers)).status_code == 401
            clock.advance(round(REVOCATION_BOUND_S * 1e9))
            assert (await two.client.get("/api/v1/info", headers=one.headers)).status_code == 401

    run(test)


@pytest.mark.slow
def test_the_task_of_a_killed_gateway_is_taken_over(url: str) -> None:
    """L4-44, L4-74: SIGKILL in the middle of a task; the other gateway runs it, once."""
    here = Path(__file__).parent
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, url, str(here)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )

    async def test() -> None:
        assert process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)
        assert line == "running\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        async with gateway(url, options=TAKING_OVER) as heir:
            document = await ended(heir, "orphan")
            assert (document["status"], document["claims"]) == ("succeeded", 2)
            assert len(heir.inference.calls) == 1

    try:
        run(test)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
