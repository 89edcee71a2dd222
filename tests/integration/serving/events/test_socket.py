"""`/ws` over a real server and a real client (L4-26, L4-37, L4-55)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.identity import LOCAL_PRINCIPAL
from plumbline.contracts.requests import TenantId
from plumbline.serving.events.bus import EventBus
from plumbline.serving.events.socket import EventSocket
from plumbline.serving.events.socket_limits import SocketLimits
from plumbline.serving.identity.authentication import ApiKeyAuthenticator, LocalAuthenticator
from plumbline.serving.identity.key_ring import KeyRing
from plumbline.serving.identity.key_store import MemoryKeyStore

TWO_KINDS = '{"type":"subscribe","kinds":["a","b"]}'


class Served:
    """A socket at an address, its bus, and its keys."""

    def __init__(self, port: int, bus: EventBus, socket: EventSocket, ring: KeyRing) -> None:
        self.port, self.url = port, f"ws://127.0.0.1:{port}/ws"
        self.bus, self.socket, self.ring = bus, socket, ring

    async def key(self, tenant: str) -> tuple[str, str]:
        made = await self.ring.create(LOCAL_PRINCIPAL, tenant=tenant, roles=["client"], rate=None, name="")
        return made.key.id, made.text


@asynccontextmanager
async def serving(
    *, with_keys: bool = False, limits: SocketLimits | None = None, **bus_options: int
) -> AsyncIterator[Served]:
    clock = MonotonicClock()
    bus, keys = EventBus(clock, **bus_options), MemoryKeyStore()
    authenticator = ApiKeyAuthenticator(keys, clock)
    socket = EventSocket(
        bus,
        authenticator if with_keys else LocalAuthenticator(),
        allowed_origins=["https://friend.example"],
        limits=limits,
    )
    application = Starlette(routes=[WebSocketRoute("/ws", socket.endpoint)])
    config = uvicorn.Config(application, port=0, log_level="error", lifespan="off", ws="websockets-sansio")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(port, bus, socket, KeyRing(keys, clock, authenticator.forget))
    finally:
        server.should_exit = True
        await task


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await test()

    asyncio.run(bounded())


async def read(client: ClientConnection, wanted: str = "") -> dict[str, Any]:
    while True:
        message = json.loads(await client.recv())
        assert message["schema"] == 1
        if message["type"] == "ping" and wanted != "ping":
            await say(client, type="pong")
        elif wanted in {"", message["type"]}:
            return dict(message)


async def say(client: ClientConnection, **message: Any) -> None:
    await client.send(json.dumps(message))


async def read_for_ever(client: ClientConnection) -> None:
    while True:
        await client.recv()


async def end_of(client: ClientConnection) -> tuple[int, str]:
    await client.wait_closed()
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


def test_a_client_subscribes_reconnects_with_its_cursor_and_misses_nothing() -> None:
    """L4-26."""

    async def test() -> None:
        async with serving() as s:
            async with connect(s.url) as client:
                assert (await read(client))["principal"] == "local"
                await say(client, type="subscribe", kinds=["task"])
                await read(client, "subscribed")
                s.bus.publish("task.queued", "t1", TenantId("local"), n=1)
                event = (await read(client, "event"))["event"]
                assert (event["kind"], event["subject"], event["fields"]) == ("task.queued", "t1", {"n": 1})
            s.bus.publish("task.running", "t1", TenantId("local"))
            async with connect(s.url) as client:
                await say(client, type="subscribe", after=event["sequence"])
                assert (await read(client, "event"))["event"]["kind"] == "task.running"
            while s.bus.subscribers or s.socket.connections:
                await asyncio.sleep(0.01)

    run(test)


def test_only_the_events_of_the_callers_tenant_arrive() -> None:
    """L4-37: one client by header, one by first message as browsers must."""

    async def test() -> None:
        async with serving(with_keys=True) as s:
            (_, one), (_, two) = await s.key("one"), await s.key("two")
            async with connect(s.url, additional_headers={"x-api-key": one}) as a, connect(s.url) as b:
                await say(b, type="authenticate", key=two)
                for client, tenant in ((a, "one"), (b, "two")):
                    assert (await read(client))["tenant"] == tenant
                    await say(client, type="subscribe")
                    await read(client, "subscribed")
                for tenant in ("one", "two"):
                    s.bus.publish("task.queued", f"of {tenant}", TenantId(tenant))
                s.bus.publish("system.end", "end")
                for client, tenant in ((a, "one"), (b, "two")):
                    subjects = [(await read(client, "event"))["event"]["subject"] for _ in range(2)]
                    assert subjects == [f"of {tenant}", "end"]

    run(test)


def test_a_client_without_a_key_or_with_a_wrong_one_is_closed() -> None:
    async def test() -> None:
        async with serving(with_keys=True) as s:
            async with connect(s.url, additional_headers={"x-api-key": "plk_no"}) as client:
                assert await end_of(client) == (4401, "policy.api_key")
            async with connect(s.url) as client:
                await say(client, type="authenticate", key="plk_no")
                assert await end_of(client) == (4401, "policy.api_key")
            async with connect(s.url) as client:
                await say(client, type="subscribe")
                assert await end_of(client) == (4400, "validation.socket_message")
        limits = SocketLimits(hello_timeout_s=0.1)
        async with serving(with_keys=True, limits=limits) as s, connect(s.url) as client:
            assert await end_of(client) == (4408, "resource.socket_idle")

    run(test)


def test_a_revoked_key_ends_its_open_connection() -> None:
    """X-60."""

    async def test() -> None:
        async with serving(with_keys=True) as s:
            key, text = await s.key("one")
            async with connect(s.url, additional_headers={"x-api-key": text}) as client:
                await read(client, "welcome")
                await s.ring.revoke(LOCAL_PRINCIPAL, key)
                assert await end_of(client) == (4401, "policy.api_key")

    run(test)


def test_a_page_of_a_foreign_origin_may_not_connect() -> None:
    async def test() -> None:
        async with serving() as s:
            for origin in ("https://foe.example", "null", "https://friend.example.foe", "http://127.0.0.1"):
                with pytest.raises(InvalidStatus) as caught:
                    await connect(s.url, origin=origin)  # type: ignore[arg-type]
                assert caught.value.response.status_code == 403
            for origin in ("https://friend.example", f"http://127.0.0.1:{s.port}"):
                async with connect(s.url, origin=origin) as client:  # type: ignore[arg-type]
                    await read(client, "welcome")

    run(test)


def test_a_cursor_that_is_too_old_is_told_and_the_connection_stays() -> None:
    async def test() -> None:
        async with serving(history=2, begin=0) as s:
            for n in range(5):
                s.bus.publish("k", str(n))
            async with connect(s.url) as client:
                await say(client, type="subscribe", after=1)
                refused = (await read(client, "refused"))["error"]
                assert refused["code"] == "validation.event_cursor_too_old"
                assert refused["fields"] == {"cursor": 1, "oldest": 4}
                await say(client, type="subscribe", after=3)
                assert (await read(client, "event"))["event"]["sequence"] == 4

    run(test)


def test_a_slow_client_is_closed_by_name_and_another_one_gets_everything() -> None:
    """L4-55."""

    async def test() -> None:
        async with (
            serving(
                waiting=200,
                history=10,
                begin=0,
                limits=SocketLimits(window_bytes=100_000, send_timeout_s=2.0),
            ) as s,
            connect(s.url) as slow,
            connect(s.url) as quick,
        ):
            for client in (slow, quick):
                await say(client, type="subscribe")
                await read(client, "subscribed")
            for burst in range(5):
                for _ in range(100):
                    s.bus.publish("k", "x", filler="y" * 2000)
                for n in range(100):
                    assert (await read(quick, "event"))["event"]["sequence"] == burst * 100 + n + 1
            assert quick.close_code is None
            with pytest.raises(ConnectionClosedError):
                await read_for_ever(slow)
            assert (slow.close_code, slow.close_reason) == (4408, "resource.socket_idle")

    run(test)


@pytest.mark.parametrize(
    ("limits", "messages", "end"),
    [
        (SocketLimits(), ["nonsense"], (4400, "validation.socket_message")),
        (SocketLimits(), ['{"type":"dance"}'], (4400, "validation.socket_message")),
        (SocketLimits(), ['{"type":"subscribe","after":-1}'], (4400, "validation.socket_message")),
        (SocketLimits(), ['{"type":"subscribe","more":1}'], (4400, "validation.socket_message")),
        (SocketLimits(), ["[" * 9000], (4400, "validation.socket_message")),
        (SocketLimits(), [b"\xff"], (4400, "validation.socket_message")),
        (SocketLimits(), ["x" * 20_000], (4429, "resource.socket_limit")),
        (SocketLimits(messages_per_s=3), ['{"type":"ping"}'] * 60, (4429, "resource.socket_limit")),
        (SocketLimits(max_filters=1), [TWO_KINDS], (4429, "resource.socket_limit")),
        (SocketLimits(ping_s=0.05, pong_timeout_s=0.05), [], (4408, "resource.socket_idle")),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_client_outside_the_protocol_or_its_limits_is_closed_with_a_reason(
    limits: SocketLimits, messages: list[str | bytes], end: tuple[int, str]
) -> None:
    async def test() -> None:
        async with serving(limits=limits) as s, connect(s.url) as client:
            with suppress(ConnectionClosed):  # it may be over before the last one
                for message in messages:
                    await client.send(message)
            assert await end_of(client) == end

    run(test)


def test_a_client_that_answers_pings_stays() -> None:
    """Longer than the time for an answer. A machine that holds this process up gets two more tries."""

    async def stays(limits: SocketLimits) -> None:
        async with serving(limits=limits) as s, connect(s.url) as client:
            for _ in range(20):
                await read(client, "ping")
                await say(client, type="pong")
            await say(client, type="ping")
            await read(client, "pong")

    async def test() -> None:
        for limit_s in (0.5, 0.7):
            with suppress(ConnectionClosedError):
                return await stays(SocketLimits(ping_s=0.05, pong_timeout_s=limit_s, messages_per_s=100))
        return await stays(SocketLimits(ping_s=0.1, pong_timeout_s=1.5, messages_per_s=100))

    run(test)


def test_one_connection_more_than_allowed_is_closed_and_a_place_comes_free() -> None:
    async def test() -> None:
        async with serving(limits=SocketLimits(max_connections_of_tenant=1)) as s:
            async with connect(s.url) as first:
                await read(first, "welcome")
                async with connect(s.url) as second:
                    assert await end_of(second) == (4429, "resource.socket_limit")
            while s.socket.connections:
                await asyncio.sleep(0.01)
            async with connect(s.url) as third:
                await read(third, "welcome")

    run(test)
