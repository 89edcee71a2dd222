"""Connections that are kept: idle ones end, requests behind each other are answered in order (X-56)."""

import socket

import pytest

from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.gateway.server import ServerKind
from plumbline.testing.gateways import fake_gateway, running_gateway

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


@both
def test_a_connection_that_says_nothing_after_an_answer_is_closed(kind):
    with running_gateway(fake_gateway(limits=GatewayLimits(header_timeout_s=0.3)), kind) as gateway:
        assert told(gateway, LIVE % (b"first", b"")).count(b"200 OK") == 1


@both
def test_requests_sent_behind_each_other_are_answered_in_order(kind):
    with running_gateway(fake_gateway(), kind) as gateway:
        requests = [LIVE % (b"r%d" % number, LAST if number == 9 else b"") for number in range(10)]
        found = told(gateway, b"".join(requests))
        places = [found.index(b"x-request-id: r%d\r\n" % number) for number in range(10)]
        assert places == sorted(places)
        assert found.count(b"200 OK") == 10


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
