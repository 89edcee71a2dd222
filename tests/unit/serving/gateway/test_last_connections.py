"""The end of the server: who was connected by the kernel and not accepted yet is not reset."""

from __future__ import annotations

import socket

import pytest

from plumbline.serving.gateway.bounded_uvicorn import _take_and_close


def test_connections_that_wait_to_be_accepted_are_taken_before_the_listener_closes():
    """L4-54: a client that could connect is answered, also in the last moment."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    clients = [socket.create_connection(address, timeout=30.0) for _ in range(3)]
    taken = _take_and_close(listener)
    assert len(taken) == 3
    for client, connection in zip(clients, taken, strict=True):
        connection.sendall(b"answered")
        assert client.recv(8) == b"answered"
        connection.close()
        client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=30.0)


def test_a_listener_without_anybody_just_closes():
    listener = socket.create_server(("127.0.0.1", 0))
    assert _take_and_close(listener) == []
    assert listener.fileno() == -1
