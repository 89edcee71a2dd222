"""Connections that are kept: idle ones end, requests behind each other are answered in order (X-56)."""

import contextlib
import http.client
import resource
import socket
import time

import pytest

from plumbline.serving.gateway.limits import GatewayLimits, connection_room
from plumbline.serving.gateway.server import ServerKind
from plumbline.testing.gateways import FakeInference, fake_gateway, running_gateway

HANG_S = 60
LIVE = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nx-request-id: %s\r\n%b\r\n"
LAST = b"connection: close\r\n"

both = pytest.mark.parametrize("kind", list(ServerKind))


def told(gateway, *parts):
    """Everything that comes until the server closes the connection."""
    found = b""
    with socket.create_connection((gateway.host, gateway.port), timeout=HANG_S) as connection:
        for part in parts:
            connection.sendall(part)
        while chunk := connection.recv(65536):
            found += chunk
    return found


def wait_until(happened):
    until = time.monotonic() + HANG_S
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


@both
def test_a_connection_that_says_nothing_after_an_answer_is_closed(kind):
    for limit_s in (0.3, 1.0, 5.0):  # a machine that holds the request up for as long gets two more tries
        with running_gateway(fake_gateway(limits=GatewayLimits(header_timeout_s=limit_s)), kind) as gateway:
            answered = told(gateway, LIVE % (b"first", b"")).count(b"200 OK")
        if answered:
            break
    assert answered == 1


@both
def test_requests_sent_behind_each_other_are_answered_in_order(kind):
    with running_gateway(fake_gateway(), kind) as gateway:
        requests = [LIVE % (b"r%d" % number, LAST if number == 9 else b"") for number in range(10)]
        found = told(gateway, b"".join(requests))
        places = [found.index(b"x-request-id: r%d\r\n" % number) for number in range(10)]
        assert places == sorted(places)
        assert found.count(b"200 OK") == 10


@both
@pytest.mark.parametrize("size", [b"-1", b"f" * 17, b"zz"])
def test_a_body_with_broken_chunks_is_answered(kind, size):
    with running_gateway(fake_gateway(), kind) as gateway:
        head = b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        found = told(gateway, head, size + b"\r\n{}\r\n0\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 400")
        assert found.count(b"HTTP/1.1") == 1


def test_what_is_no_request_does_not_answer_the_one_before_it_under_uvicorn():
    inference = FakeInference()
    inference.hold = True
    body = b'{"inputs": [{"name": "FP32", "shape": [1], "datatype": "FP32", "data": [1]}]}'
    head = LIVE.replace(b"GET /health/live", b"POST /v2/models/echo/infer")
    with running_gateway(fake_gateway(inference=inference), ServerKind.UVICORN) as gateway:
        length = b"content-length: %d\r\n" % len(body)
        assert told(gateway, head % (b"runs", length) + body + b"\x16\x03\x01 no request\r\n\r\n") == b""


@both
def test_a_trailer_is_no_header(kind):
    with running_gateway(fake_gateway(), kind) as gateway:
        head = (
            b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n" + LAST
        )
        found = told(gateway, head + b"\r\n2\r\n{}\r\n0\r\nx-request-id: of-the-trailer\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 400")
        assert b"of-the-trailer" not in found


def test_a_length_beside_chunks_is_refused_by_uvicorn():
    """The classic of request smuggling: two servers that disagree where a request ends."""
    with running_gateway(fake_gateway(), ServerKind.UVICORN) as gateway:
        head = (
            b"POST /v2 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        assert told(gateway, head + b"0\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_a_wish_for_http2_is_answered_with_http1_and_a_closed_connection_by_uvicorn():
    with running_gateway(fake_gateway(), ServerKind.UVICORN) as gateway:
        wish = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
        found = told(gateway, LIVE % (b"java", wish))
        assert found.startswith(b"HTTP/1.1 200")
        assert b"x-request-id: java" in found


def idle(stack, gateway, count):
    """That many connections that say nothing."""
    for _ in range(count):
        connection = socket.create_connection((gateway.host, gateway.port), timeout=HANG_S)
        stack.enter_context(connection)


@both
def test_idle_connections_keep_nobody_out(kind):
    """Pools of clients hold many more connections than there are requests in flight (X-56)."""
    with (
        running_gateway(fake_gateway(limits=GatewayLimits(max_requests=2)), kind) as gateway,
        contextlib.ExitStack() as stack,
    ):
        idle(stack, gateway, 100)
        assert told(gateway, LIVE % (b"late", LAST)).startswith(b"HTTP/1.1 200")


@both
def test_connections_are_bounded_and_there_is_room_again_when_they_end(kind):
    with running_gateway(fake_gateway(limits=GatewayLimits(max_connections=4)), kind) as gateway:
        with contextlib.ExitStack() as stack:
            idle(stack, gateway, 4)
            if kind is ServerKind.UVICORN:
                assert told(gateway).startswith(b"HTTP/1.1 503")
            else:
                waiting = socket.create_connection((gateway.host, gateway.port), timeout=HANG_S)
                waiting.sendall(LIVE % (b"waits", LAST))
        if kind is ServerKind.GRANIAN:
            with waiting:
                assert waiting.recv(65536).startswith(b"HTTP/1.1 200")
        # uvicorn hears of the ends one after another
        wait_until(lambda: told(gateway, LIVE % (b"again", LAST)).startswith(b"HTTP/1.1 200"))


def test_connections_leave_descriptors_for_the_rest_of_the_process():
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connection_room(10) == 10
    assert connection_room(10 * descriptors) < descriptors


@both
def test_an_answer_of_a_stopping_server_is_the_last_of_its_connection(kind):
    """Or its client sends the next request into a connection that closes, and cannot know its outcome."""
    inference = FakeInference()
    inference.hold = True
    with running_gateway(fake_gateway(inference=inference), kind, drain_timeout_s=HANG_S) as gateway:
        connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=HANG_S)
        body = b'{"inputs": [{"name": "FP32", "shape": [1], "datatype": "FP32", "data": [1]}]}'
        connection.request("POST", "/v2/models/echo/infer", body, {"content-type": "application/json"})

        def release_when_stopping():
            if inference.calls:
                gateway.stop.set()
            if gateway.application.flights.is_draining:
                inference.release()
            else:
                gateway.loop.call_later(0.01, release_when_stopping)

        gateway.loop.call_soon_threadsafe(release_when_stopping)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (200, "close")
        connection.close()


def test_a_client_that_leaves_with_requests_behind_each_other_cancels_the_one_that_runs_under_uvicorn(caplog):
    inference = FakeInference()
    inference.hold = True
    body = b'{"inputs": [{"name": "FP32", "shape": [1], "datatype": "FP32", "data": [1]}]}'
    head = LIVE.replace(b"GET /health/live", b"POST /v2/models/echo/infer")
    with running_gateway(fake_gateway(inference=inference), ServerKind.UVICORN) as gateway:
        with socket.create_connection((gateway.host, gateway.port), timeout=HANG_S) as connection:
            length = b"content-length: %d\r\n" % len(body)
            connection.sendall(b"".join(head % (name, length) + body for name in (b"runs", b"waits")))
            wait_until(lambda: inference.calls)
        wait_until(lambda: inference.cancelled)
        assert inference.cancelled == ["runs"]
        wait_until(lambda: not len(gateway.application.flights))
    assert [call.id for call in inference.calls] == ["runs"]
    assert "Traceback" not in caplog.text
