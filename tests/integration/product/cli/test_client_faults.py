"""The client against servers that misbehave: each failure is typed and sent once (X-26..X-36)."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from plumbline.errors import PlumblineError, SideEffect
from plumbline.product.cli import main
from plumbline.product.client import (
    AnswerLost,
    AnswerUnreadable,
    Client,
    ServerAddressRefused,
    ServerRefusal,
    ServerUnreachable,
    transport,
)

Answer = Callable[[socket.socket], None]


class Misbehaving:
    """A server on loopback that reads a request and then does what it is told; counts requests."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.requests, self.connections = answer, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.settimeout(5)
                while self.serve_one(connection):
                    pass

    def serve_one(self, connection: socket.socket) -> bool:
        data = b""
        try:
            while b"\r\n\r\n" not in data:
                received = connection.recv(65536)
                if not received:
                    return False
                data += received
            self.requests += 1
            self.answer(connection)
        except OSError:
            return False
        return True


@contextmanager
def misbehaving(answer: Answer) -> Iterator[Misbehaving]:
    server = Misbehaving(answer)
    try:
        yield server
    finally:
        server.listener.close()


def says(data: bytes, *, then_close: bool = False) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(data)
        if then_close:
            connection.shutdown(socket.SHUT_RDWR)

    return answer


def http(status: int, body: bytes, media: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {media}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


BAD_ANSWERS = [
    (says(b"", then_close=True), AnswerLost),
    (says(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf", then_close=True), AnswerLost),
    (says(b"SSH-2.0-OpenSSH\r\n", then_close=True), AnswerLost),
    (says(b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000, then_close=True), AnswerLost),
    (says(http(200, b"<html>")), AnswerUnreadable),
    (says(http(200, b"[" * 100_000)), AnswerUnreadable),
    (says(http(502, b"<html>bad gateway</html>", "text/html")), AnswerUnreadable),
    (says(http(302, b"")), AnswerUnreadable),
    (says(http(500, b'{"code": 7}')), AnswerUnreadable),
    (says(http(500, b"[1]")), AnswerUnreadable),
]


@pytest.mark.parametrize(("answer", "kind"), BAD_ANSWERS, ids=[str(n) for n in range(len(BAD_ANSWERS))])
def test_a_bad_answer_is_a_typed_error_and_nothing_is_sent_again(answer: Answer, kind: type) -> None:
    with misbehaving(answer) as server, Client(server.url, timeout_s=60) as client:
        with pytest.raises(kind):
            client.load("m")
        assert server.requests == 1


def test_an_answer_that_does_not_come_ends_with_the_wait_and_may_have_been_done() -> None:
    with misbehaving(lambda connection: time.sleep(3)) as server:
        with (
            Client(server.url, timeout_s=0.3) as client,
            pytest.raises(AnswerLost, match="too long") as caught,
        ):
            client.info()
        assert caught.value.side_effect is SideEffect.UNKNOWN


def test_an_answer_beyond_the_bound_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 1000)
    large = says(http(200, b'"' + b"x" * 2000 + b'"'))
    with (
        misbehaving(large) as server,
        Client(server.url) as client,
        pytest.raises(AnswerUnreadable, match="too large"),
    ):
        client.info()


def test_a_connection_is_kept_for_the_next_request() -> None:
    with misbehaving(says(http(200, b"{}"))) as server, Client(server.url) as client:
        for _ in range(5):
            client.info()
        assert (server.requests, server.connections) == (5, 1)


def test_a_connection_that_was_idle_is_replaced_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FRESH_S", 0.0)
    with misbehaving(says(http(200, b"{}"), then_close=True)) as server, Client(server.url) as client:
        for _ in range(3):
            client.info()
        assert (server.requests, server.connections) == (3, 3)


PROBLEM = {
    "code": "resource.gateway_full", "class": "resource", "recoverability": "transient", "status": 503,
    "detail": "the gateway is full", "retry_after": 2.5, "request_id": "r1",
}  # fmt: skip


PERMANENT = {"recoverability": "permanent"}


def test_a_problem_keeps_its_code_class_recoverability_and_hint() -> None:
    with misbehaving(says(http(503, json.dumps(PROBLEM).encode()))) as server, Client(server.url) as client:
        with pytest.raises(ServerRefusal) as caught:
            client.info()
        error = caught.value
        assert (error.code, error.error_class.value) == ("resource.gateway_full", "resource")
        assert (error.recoverability.value, error.retry_after_s, error.http_status) == ("transient", 2.5, 503)
        assert error.message == "the gateway is full (try again in 2.5 s)"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 6), (PERMANENT, 4), ({"class": "validation", **PERMANENT}, 3),
        ({"class": "backend", **PERMANENT}, 5), ({"class": "new", "recoverability": "new"}, 5),
        ({"retry_after": "soon"}, 6), ({"detail": 7}, 6),
    ],
)  # fmt: skip
def test_the_exit_code_of_a_command_is_that_of_the_problem(
    change: dict[str, object], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """L4-56: also where a server of another version says what this one does not know."""
    with misbehaving(says(http(503, json.dumps({**PROBLEM, **change}).encode()))) as server:
        assert main(["workers", "--server", server.url]) == code
        written = capsys.readouterr()
        assert written.err.startswith("error[resource.gateway_full]: ")
        assert main(["workers", "--server", server.url, "--json"]) == code
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "resource.gateway_full"


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1:8000", "ftp://x", "http://", "http://a:b", "http://me:secret@host", "http://h?q=1"],
)
def test_what_is_no_address_is_refused_and_shows_no_password(address: str) -> None:
    with pytest.raises(ServerAddressRefused) as caught:
        Client(address)
    assert "secret" not in caught.value.message


def test_a_key_is_in_no_message_and_no_representation(tmp_path: object) -> None:
    """X-60: the canary of the key."""
    key = "plk_canary"
    with misbehaving(says(http(401, json.dumps({**PROBLEM, "class": "policy"}).encode()))) as server:
        with Client(server.url, key=key) as client, pytest.raises(PlumblineError) as caught:
            client.info()
        assert key not in str(caught.value.to_dict())
        assert key not in repr(client)


def result(outputs: object) -> bytes:
    return http(200, json.dumps({"model_name": "m", "model_version": "1", "outputs": outputs}).encode())


@pytest.mark.parametrize(
    "outputs",
    [
        7, [7], [{}], [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1.0]}],
        [{"name": "y", "datatype": "FP99", "shape": [1], "data": [1.0]}],
        [{"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}],
        [{"name": "y", "datatype": "INT8", "shape": [1], "data": ["x"]}],
        [{"name": "y", "datatype": "BYTES", "shape": [2], "data": ["x"]}],
    ],
    ids=str,
)  # fmt: skip
def test_a_result_that_is_none_is_unreadable(outputs: object) -> None:
    with (
        misbehaving(says(result(outputs))) as server,
        Client(server.url) as client,
        pytest.raises(AnswerUnreadable),
    ):
        client.infer("m", {"x": np.ones(1, np.float32)})


def test_events_from_something_else_are_a_typed_error() -> None:
    with (
        misbehaving(says(http(200, b"hello"))) as server,
        Client(server.url, timeout_s=60) as client,
        pytest.raises(AnswerUnreadable),
    ):
        next(client.events())
    with Client("http://127.0.0.1:1") as client, pytest.raises(ServerUnreachable):
        next(client.events())
