"""The gateway behind real sockets, on both servers (issue 3, section 5)."""

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from plumbline.serving.gateway.application import build_application
from plumbline.serving.gateway.binding import ListenerRefused, ListenerUnavailable, is_loopback, open_listener
from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.gateway.server import ServerKind, serve
from plumbline.testing.gateways import FakeAuthenticator, FakeInference, fake_gateway, running_gateway

INFER = "/v2/models/echo/infer"
BODY = json.dumps({"inputs": [{"name": "FP32", "shape": [1], "datatype": "FP32", "data": [1]}]})
HANG_S = 60

both = pytest.mark.parametrize("kind", list(ServerKind))


def ask(gateway, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=HANG_S)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def wait_until(happened):
    until = time.monotonic() + HANG_S
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def is_alive(gateway):
    """Whether it answers; one that was too slow for the limits is closed, and may ask again."""
    try:
        return ask(gateway, "GET", "/health/live")[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False


def exchange(gateway, *parts, pause_s=0.0):
    """Send raw bytes and read until the server closes the connection or says nothing for a while."""
    with socket.create_connection((gateway.host, gateway.port), timeout=HANG_S) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
        found = b""
        try:
            while chunk := connection.recv(65536):
                found += chunk
        except ConnectionError:
            pass
        return found


@both
def test_requests_are_answered_and_errors_are_problems(kind):
    with running_gateway(fake_gateway(), kind) as gateway:
        status, headers, body = ask(gateway, "POST", INFER, BODY, {"x-request-id": "r"})
        assert (status, headers["x-request-id"], json.loads(body)["outputs"][0]["data"]) == (200, "r", [1.0])
        for method, path, expected in (
            ("POST", "/v2/models/nobody/infer", 404),
            ("PATCH", "/v2", 405),
            ("GET", "/x%00%ff/../..", 404),
            ("GET", "/v2/models/%F0%9F%98%80", 404),
        ):
            status, headers, body = ask(gateway, method, path, BODY)
            assert (status, headers["content-type"]) == (expected, "application/problem+json")
            assert json.loads(body)["request_id"] == headers["x-request-id"]
        assert ask(gateway, "HEAD", "/v2")[2] == b""


@both
def test_a_chunked_body_is_bounded_while_it_streams(kind):
    limits = GatewayLimits(max_body_bytes=100_000)
    with running_gateway(fake_gateway(limits=limits), kind) as gateway:
        chunks = (b"x" * 10_000 for _ in range(1000))
        try:
            status, _, body = ask(gateway, "POST", INFER, chunks, {"transfer-encoding": "chunked"})
            assert (status, json.loads(body)["code"]) == (413, "validation.body_too_large")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer was sent and the connection closed before the client had sent everything
        assert ask(gateway, "POST", INFER, BODY)[0] == 200


@both
def test_a_slow_body_is_answered_with_408(kind):
    limits = GatewayLimits(body_timeout_s=0.2, drain_timeout_s=0.2)
    with running_gateway(fake_gateway(limits=limits), kind) as gateway:
        head = b"POST %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 50\r\n\r\n{"
        found = exchange(gateway, head % INFER.encode())
        assert found.startswith(b"HTTP/1.1 408")
        assert b"resource.body_too_slow" in found
        wait_until(lambda: not len(gateway.application.flights))


@both
@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nhost: local"])
def test_a_head_that_does_not_come_closes_the_connection(kind, head):
    with running_gateway(fake_gateway(limits=GatewayLimits(header_timeout_s=0.3)), kind) as gateway:
        assert b"200 OK" not in exchange(gateway, head)  # which ends when the server closes, or fails


@both
@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTX/1.1\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"POST /v2 HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
        + b"".join(b"h%d: x\r\n" % i for i in range(3000))
        + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 2_000_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
    ids=range(9),
)
def test_malformed_requests_end_their_connection_and_nothing_else(kind, raw):
    limits = GatewayLimits(header_timeout_s=0.5, body_timeout_s=0.5)
    with running_gateway(fake_gateway(limits=limits), kind) as gateway:
        found = b""
        with socket.create_connection((gateway.host, gateway.port), timeout=3) as connection:
            try:
                connection.sendall(raw)
                while chunk := connection.recv(65536):
                    found += chunk
            except (ConnectionError, TimeoutError):
                pass
        assert b" 200 " not in found.split(b"\r\n")[0]
        assert b" 500 " not in found.split(b"\r\n")[0]
        wait_until(lambda: is_alive(gateway))


@both
def test_a_client_that_goes_away_cancels_its_request(kind):
    inference = FakeInference()
    inference.hold = True
    with running_gateway(fake_gateway(inference=inference), kind) as gateway:
        connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=HANG_S)
        connection.request("POST", INFER, BODY, {"x-request-id": "gone"})
        wait_until(lambda: inference.calls)
        connection.close()
        wait_until(lambda: inference.cancelled)
        assert inference.cancelled == ["gone"]
        wait_until(lambda: not len(gateway.application.flights))


@both
def test_a_stopping_server_finishes_what_it_accepted(kind):
    inference = FakeInference()
    inference.hold = True
    statuses = []
    with running_gateway(fake_gateway(inference=inference), kind, drain_timeout_s=HANG_S) as gateway:
        asking = [
            threading.Thread(target=lambda: statuses.append(ask(gateway, "POST", INFER, BODY)[0]))
            for _ in range(8)
        ]
        for thread in asking:
            thread.start()
        wait_until(lambda: len(gateway.application.flights) == 8)
        gateway.begin_stop()
        wait_until(lambda: ask(gateway, "GET", "/health/ready")[0] != 200)
        status, headers, body = ask(gateway, "GET", "/health/ready")
        assert (status, json.loads(body)["code"]) == (503, "resource.gateway_draining")
        assert headers["retry-after"] == "5"
        gateway.loop.call_soon_threadsafe(inference.release)
        for thread in asking:
            thread.join(HANG_S)
    assert statuses == [200] * 8


@both
def test_many_clients_at_once_get_their_own_answers(kind):
    wrong = []

    def client(gateway, number):
        connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=HANG_S)
        for round_ in range(20):
            value = number * 1000 + round_
            inputs = [{"name": "INT64", "shape": [1], "datatype": "INT64", "data": [value]}]
            connection.request("POST", INFER, json.dumps({"inputs": inputs, "id": str(value)}))
            found = json.loads(connection.getresponse().read())
            if (found["id"], found["outputs"][0]["data"]) != (str(value), [value]):
                wrong.append(value)
        connection.close()

    with running_gateway(fake_gateway(), kind) as gateway:
        clients = [threading.Thread(target=client, args=(gateway, number)) for number in range(8)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(HANG_S)
            assert not thread.is_alive()
    assert wrong == []


async def _serve(application, **options):
    await serve(application, **options)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_open_listener_without_authentication_refuses_to_start(host):
    """X-55."""
    with pytest.raises(ListenerRefused):
        asyncio.run(_serve(build_application(fake_gateway()), host=host, port=0))


def test_loopback_is_told_from_the_rest():
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("no.such.host.invalid")


def test_with_authentication_an_open_listener_starts_and_a_taken_port_is_refused():
    application = build_application(fake_gateway(authenticator=FakeAuthenticator()))

    async def start_and_stop():
        stop = asyncio.Event()
        await serve(application, host="0.0.0.0", port=0, stop=stop, on_listening=lambda _: stop.set())

    asyncio.run(asyncio.wait_for(start_and_stop(), HANG_S))
    with open_listener("127.0.0.1", 0, 1) as taken, pytest.raises(ListenerUnavailable):
        asyncio.run(_serve(build_application(fake_gateway()), port=taken.getsockname()[1]))


async def native_greeting(scope, receive, send):
    """Knows GET only, as routes of the native API do."""
    status = 200 if scope["method"] == "GET" else 405
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@both
def test_head_tells_of_the_native_api_what_get_would(kind):
    with running_gateway(fake_gateway(native=native_greeting), kind) as gateway:
        connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=HANG_S)
        for method, body in (("HEAD", b""), ("GET", b"hello"), ("HEAD", b"")):  # on one connection
            connection.request(method, "/api/v1/greeting")
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("content-length")) == (200, "5")
            assert answer.read() == body
        connection.close()


@pytest.mark.parametrize("ports", [{"port": 99999}, {"port": -1}, {"port": 0, "grpc_port": 65536}], ids=str)
def test_a_number_that_is_no_port_is_refused(ports):
    """The system takes 99999 for 34463, and nobody would look there."""
    with pytest.raises(ListenerUnavailable, match="from 0 to 65535"):
        asyncio.run(_serve(build_application(fake_gateway()), **ports))


PROGRAM = """
import asyncio, sys
from plumbline.serving.gateway.application import build_application
from plumbline.serving.gateway.server import ServerKind, serve
from plumbline.testing.gateways import FakeInference, fake_gateway

inference = FakeInference()
inference.hold = True

def told(listening):
    sys.stdout.write(f"{listening.port}\\n")
    sys.stdout.flush()

async def tell_asked():
    while not inference.calls:
        await asyncio.sleep(0.01)
    sys.stdout.write("asked\\n")
    sys.stdout.flush()
    asyncio.get_running_loop().call_later(1.0, inference.release)

async def main():
    telling = asyncio.create_task(tell_asked())
    application = build_application(fake_gateway(inference=inference))
    return await serve(application, port=0, kind=ServerKind(sys.argv[1]), on_listening=told)

raise SystemExit(asyncio.run(main()))
"""


@both
def test_sigterm_finishes_requests_in_flight_and_ends_with_success(kind):
    command = [sys.executable, "-c", PROGRAM, kind.value]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
        connection.request("POST", INFER, BODY)
        assert process.stdout.readline() == "asked\n"
        process.terminate()
        assert connection.getresponse().status == 200
        connection.close()
        assert process.wait(HANG_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
