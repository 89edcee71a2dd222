"""WebSockets through the shell: who may open one, and what the native application gets (L4-28)."""

import time
from socket import create_connection

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.gateway.parts import GatewayOptions
from plumbline.serving.gateway.server import ServerKind
from plumbline.testing.gateways import FakeAuthenticator, fake_gateway, running_gateway

both = pytest.mark.parametrize("kind", list(ServerKind))
PAGE = "https://page.example"


async def native(scope, receive, send):
    if scope["type"] != "websocket":
        raise RuntimeError("only a socket is expected here")
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        principal = scope["state"]["principal"]
        name = "nobody" if principal is None else principal.id
        await send({"type": "websocket.send", "text": f"{name}: {message['text']}"})


def opened(gateway, path="/ws", **how):
    return connect(f"ws://{gateway.host}:{gateway.port}{path}", open_timeout=60, **how)


def refused(gateway, **how):
    with pytest.raises(InvalidStatus) as caught:
        opened(gateway, **how)
    return caught.value.response.status_code


@both
def test_a_socket_reaches_the_native_application_as_its_principal(kind):
    with running_gateway(fake_gateway(native=native), kind) as gateway:
        for _ in range(2):
            with opened(gateway) as socket:
                socket.send("hello")
                assert socket.recv(timeout=60) == "local: hello"


@both
def test_a_page_of_another_origin_opens_no_socket(kind):
    options = GatewayOptions(allowed_origins=(PAGE,))
    with running_gateway(fake_gateway(native=native, options=options), kind) as gateway:
        assert refused(gateway, origin="https://evil.example") == 403
        assert refused(gateway, path="/elsewhere") == 403
        with opened(gateway, origin=PAGE) as socket:
            socket.send("hello")
            assert socket.recv(timeout=60) == "local: hello"


@both
def test_with_keys_a_wrong_one_is_refused_and_without_one_the_native_application_asks(kind):
    """A browser cannot set headers: its first message has the key, and the shell vouches for nobody."""
    parts = fake_gateway(native=native, authenticator=FakeAuthenticator())
    with running_gateway(parts, kind) as gateway:
        assert refused(gateway, additional_headers={"x-api-key": "wrong"}) == 403
        with opened(gateway) as socket:
            socket.send("hello")
            assert socket.recv(timeout=60) == "nobody: hello"
        key = {"authorization": "Bearer client-key"}
        with opened(gateway, additional_headers=key) as socket:
            socket.send("hello")
            assert socket.recv(timeout=60) == "key-client: hello"


@both
def test_a_socket_on_a_connection_that_was_used_before_outlives_the_limit_of_idle_ones(kind):
    limits = GatewayLimits(header_timeout_s=0.3)
    with running_gateway(fake_gateway(native=native, limits=limits), kind) as gateway:
        kept = create_connection((gateway.host, gateway.port), timeout=60)
        kept.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        with connect(f"ws://{gateway.host}:{gateway.port}/ws", sock=kept, open_timeout=60) as socket:
            time.sleep(1.0)
            socket.send("still there")
            assert socket.recv(timeout=60) == "local: still there"
