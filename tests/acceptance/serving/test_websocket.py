"""`/ws` at the real process: tenants, cursors, slow clients, origins (L4-26, L4-37, L4-55)."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

BODY = {
    "model": "echo",
    "inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}],
    "cache": False,
}
ENDS = {"task.succeeded", "task.failed", "task.cancelled", "task.expired"}


def opened(base: str, headers: dict[str, str] | None = None, **how: Any) -> ClientConnection:
    url = base.replace("http", "ws", 1) + "/ws"
    return connect(url, additional_headers=headers or {}, open_timeout=60, proxy=None, **how)


def receive(door: ClientConnection) -> dict[str, Any]:
    """The next message that is no ping."""
    while True:
        message: dict[str, Any] = json.loads(door.recv(timeout=60))
        if message["type"] != "ping":
            return message
        door.send('{"type":"pong"}')


def read_for(door: ClientConnection, seconds: float) -> None:
    """Read messages and forget them."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        receive(door)


def subscribe(door: ClientConnection, **what: Any) -> None:
    while receive(door)["type"] != "welcome":
        pass
    door.send(json.dumps({"type": "subscribe", **what}))
    assert receive(door)["type"] == "subscribed"


def events_until(door: ClientConnection, task: str) -> list[dict[str, Any]]:
    """Events up to the end of a task."""
    found: list[dict[str, Any]] = []
    while True:
        message = receive(door)
        assert message["type"] == "event", message
        found.append(message["event"])
        if found[-1]["subject"] == task and found[-1]["kind"] in ENDS:
            return found


def submit(keyed: Any, tenant: str) -> str:
    status, _, document = keyed.server.ask(
        "POST", "/api/v1/tasks", BODY, headers=keyed.headers("client", tenant)
    )
    assert status == 202, document
    return str(document["id"])


def test_each_of_two_tenants_sees_its_own_tasks_in_order_and_no_other(keyed: Any) -> None:
    """L4-37, L4-26."""
    doors = {t: opened(keyed.base, keyed.headers("client", t)) for t in ("acme", "globex")}
    try:
        for door in doors.values():
            subscribe(door, kinds=["task"])
        tasks = {tenant: [submit(keyed, tenant) for _ in range(3)] for tenant in doors}
        for tenant, door in doors.items():
            seen: list[dict[str, Any]] = []
            for task in tasks[tenant]:
                if not any(e["subject"] == task and e["kind"] in ENDS for e in seen):
                    seen += events_until(door, task)
            assert {event["subject"] for event in seen} == set(tasks[tenant])
            numbers = [event["sequence"] for event in seen]
            assert numbers == sorted(numbers)
            for task in tasks[tenant]:
                kinds = [e["kind"] for e in seen if e["subject"] == task and e["kind"] != "task.progress"]
                assert kinds == ["task.accepted", "task.queued", "task.running", "task.succeeded"]
    finally:
        for door in doors.values():
            door.close()


def test_a_client_that_comes_back_misses_nothing(keyed: Any) -> None:
    """L4-26: reconnect with the cursor of the last event it had."""
    headers = keyed.headers("client")
    with opened(keyed.base, headers) as door:
        subscribe(door, kinds=["task"])
        cursor = events_until(door, submit(keyed, "acme"))[-1]["sequence"]
    missed = submit(keyed, "acme")
    with opened(keyed.base, headers) as door:
        subscribe(door, after=cursor, kinds=["task"], subjects=[missed])
        kinds = [event["kind"] for event in events_until(door, missed)]
    assert kinds[0] == "task.accepted"
    assert kinds[-1] == "task.succeeded"


def test_a_cursor_of_the_future_is_refused_and_the_connection_stays(keyed: Any) -> None:
    with opened(keyed.base, keyed.headers("client")) as door:
        assert receive(door)["type"] == "welcome"
        door.send('{"type":"subscribe","after":99999999}')
        assert receive(door)["type"] == "refused"
        door.send('{"type":"subscribe"}')
        assert receive(door)["type"] == "subscribed"


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_foreign_origin_opens_no_socket(keyed: Any, origin: str) -> None:
    """X-56: also with a valid key."""
    with pytest.raises(InvalidStatus) as caught:
        opened(keyed.base, keyed.headers("client"), origin=origin)
    assert caught.value.response.status_code == 403


def test_an_allowed_page_says_who_it_is_in_its_first_message(keyed: Any) -> None:
    with opened(keyed.base, origin="https://page.example") as door:
        door.send(json.dumps({"type": "authenticate", "key": keyed.key("client")}))
        welcome = receive(door)
        assert (welcome["type"], welcome["tenant"]) == ("welcome", "acme")


def test_without_a_key_a_socket_is_closed_with_the_code_of_the_error(keyed: Any) -> None:
    with opened(keyed.base) as door:
        door.send('{"type":"subscribe"}')
        with pytest.raises(ConnectionClosed) as caught:
            read_for(door, 60.0)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code in {4400, 4401}


def test_clients_that_read_nothing_delay_nobody(keyed: Any) -> None:
    """L4-55: whoever reads gets everything, in order."""
    headers = keyed.headers("client")
    silent = [half_open(keyed.base, headers["authorization"]) for _ in range(5)]
    try:
        with opened(keyed.base, headers) as door:
            subscribe(door, kinds=["task"])
            tasks = {submit(keyed, "acme") for _ in range(30)}
            seen: list[dict[str, Any]] = []
            while {event["subject"] for event in seen if event["kind"] in ENDS} != tasks:
                seen.append(receive(door)["event"])
        numbers = [event["sequence"] for event in seen]
        assert numbers == sorted(set(numbers))
    finally:
        for each in silent:
            each.close()


@pytest.mark.slow
def test_a_client_that_confirms_nothing_gets_one_window_and_is_closed(start_server: Any) -> None:
    """L4-55: more than a window of events waits; one window comes, then the end, typed."""
    server = start_server("--load", "echo")
    server.wait_ready()
    last = ""
    for _ in range(700):
        last = server.post("/api/v1/tasks", BODY)[2]["id"]
    with opened(server.base) as door:
        subscribe(door, after=0)
        everything = sum(len(json.dumps(event)) for event in events_until(door, last))
    assert everything > 700 * 1024, "there is more than the window"
    received: list[int] = []
    with opened(server.base) as door:
        door.send('{"type":"subscribe","after":0}')
        with pytest.raises(ConnectionClosed) as caught:
            read_without_confirming(door, received)
    assert 256 * 1024 < sum(received) <= 512 * 1024 + 4096
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4408, "resource.socket_idle")
    assert server.echo(1.0)[0] == 200


def read_without_confirming(door: ClientConnection, sizes: list[int]) -> None:
    """Read until the server ends it; no ping is answered."""
    while True:
        sizes.append(len(door.recv(timeout=60)))


def half_open(base: str, authorization: str) -> socket.socket:
    """A client that subscribes to everything from the beginning and never reads."""
    host, _, port = base.removeprefix("http://").rpartition(":")
    door = socket.create_connection((host, int(port)), timeout=60)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    door.sendall(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        + f"Authorization: {authorization}\r\n\r\n".encode()
    )
    message = b'{"type":"subscribe","after":0}'
    mask = b"\x01\x02\x03\x04"
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(message))
    door.sendall(bytes([0x81, 0x80 | len(message)]) + mask + masked)
    return door


def test_many_clients_of_one_tenant_get_the_same_events(keyed: Any) -> None:
    doors = [opened(keyed.base, keyed.headers("client")) for _ in range(8)]
    seen: list[list[int]] = [[] for _ in doors]
    try:
        for door in doors:
            subscribe(door, kinds=["task"])
        task = submit(keyed, "acme")

        def read(index: int) -> None:
            seen[index] = [e["sequence"] for e in events_until(doors[index], task) if e["subject"] == task]

        threads = [threading.Thread(target=read, args=(index,)) for index in range(len(doors))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        for door in doors:
            door.close()
    assert seen[0]
    assert all(numbers == seen[0] for numbers in seen)


def test_a_socket_of_a_revoked_key_ends(keyed: Any) -> None:
    """X-60: within two seconds, as the guide says; bounded generously here."""
    admin = keyed.headers("admin")
    made = keyed.server.ask("POST", "/api/v1/keys", {"tenant": "acme", "roles": ["client"]}, headers=admin)[2]
    with opened(keyed.base, {"authorization": f"Bearer {made['key']}"}) as door:
        subscribe(door)
        keyed.server.ask("DELETE", f"/api/v1/keys/{made['id']}", headers=admin)
        with pytest.raises(ConnectionClosed) as caught:
            read_for(door, 60.0)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4401, "policy.api_key")
