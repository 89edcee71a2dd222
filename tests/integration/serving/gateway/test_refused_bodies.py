"""A body that is refused before it was read: its sender gets to read why (L4-39, issue 3, section 5)."""

import http.client
import json
import socket
import time
import urllib.error
import urllib.request

import pytest

from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.gateway.server import ServerKind
from plumbline.testing.gateways import FakeAuthenticator, fake_gateway, running_gateway

INFER = "/v2/models/echo/infer"
HANG_S = 15
TOO_LARGE = b"x" * 8_000_000
LIMITS = GatewayLimits(max_body_bytes=100_000)

both = pytest.mark.parametrize("kind", list(ServerKind))


@both
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_http_client_reads_the_refusal_of_a_body_beyond_the_limit(kind, chunked):
    body = (
        (TOO_LARGE[at : at + 100_000] for at in range(0, len(TOO_LARGE), 100_000)) if chunked else TOO_LARGE
    )
    with running_gateway(fake_gateway(limits=LIMITS), kind) as gateway:
        connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=HANG_S)
        connection.request("POST", INFER, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["code"] == "validation.body_too_large"
        connection.request("GET", "/health/live")
        assert connection.getresponse().status == 200
        connection.close()


@both
def test_urllib_reads_the_refusal_of_a_body_beyond_the_limit(kind):
    with running_gateway(fake_gateway(limits=LIMITS), kind) as gateway:
        url = f"http://{gateway.host}:{gateway.port}{INFER}"
        request = urllib.request.Request(url, TOO_LARGE, {"content-type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=HANG_S)
        assert refused.value.code == 413
        assert json.loads(refused.value.read())["code"] == "validation.body_too_large"


@both
def test_a_client_without_a_key_reads_that_too(kind):
    parts = fake_gateway(authenticator=FakeAuthenticator(), limits=LIMITS)
    with running_gateway(parts, kind) as gateway:
        connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=HANG_S)
        connection.request("POST", INFER, TOO_LARGE, {"content-type": "application/json"})
        assert connection.getresponse().status == 401
        connection.close()


@both
def test_a_client_that_expects_to_be_asked_for_its_body_is_refused_at_once(kind):
    head = b"POST %s HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 999999\r\n\r\n"
    with (
        running_gateway(fake_gateway(limits=LIMITS), kind) as gateway,
        socket.create_connection((gateway.host, gateway.port), timeout=HANG_S) as connection,
    ):
        connection.sendall(head % INFER.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


@both
@pytest.mark.parametrize("waits", [False, True], ids=["endless", "slow"])
def test_what_is_read_after_a_refusal_has_an_end(kind, waits):
    limits = GatewayLimits(max_body_bytes=1000, max_drained_bytes=200_000, drain_timeout_s=0.3)
    head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999\r\n\r\n" % INFER.encode()
    with (
        running_gateway(fake_gateway(limits=limits), kind) as gateway,
        socket.create_connection((gateway.host, gateway.port), timeout=HANG_S) as connection,
    ):
        connection.sendall(head)
        with pytest.raises(ConnectionError):
            _send_on(connection, b"x" if waits else b"x" * 10_000, 0.05 if waits else 0.0)


def _send_on(connection, part, pause_s):
    until = time.monotonic() + HANG_S
    while time.monotonic() < until:
        connection.sendall(part)
        time.sleep(pause_s)
