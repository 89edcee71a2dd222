"""Where a gateway may listen (requirement X-55)."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from plumbline.errors import PolicyError, ResourceError

__all__ = [
    "ListenerRefused",
    "ListenerUnavailable",
    "is_loopback",
    "open_listener",
    "verify_listener",
    "verify_port",
]


@dataclass(eq=False, kw_only=True)
class ListenerRefused(PolicyError):
    """A listener that others can reach, on a gateway without authentication."""

    code = "policy.open_listener"
    owner = "serving.gateway"
    template = "{host} is not a loopback address: configure authentication first, or listen on 127.0.0.1"

    host: str


@dataclass(eq=False, kw_only=True)
class ListenerUnavailable(ResourceError):
    """An address that cannot be listened on: taken, not of this machine, or not permitted."""

    code = "resource.listener"
    owner = "serving.gateway"
    template = "cannot listen on {host} port {port}: {reason}"

    host: str
    port: int
    reason: str


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`, an address or a name.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)


def verify_listener(host: str, *, authenticated: bool) -> None:
    """Refuse a listener that others can reach when nobody asks who they are. Raises ListenerRefused."""
    if not authenticated and not is_loopback(host):
        raise ListenerRefused(host=host)


def verify_port(host: str, port: int) -> None:
    """Raises ListenerUnavailable for a number that is no port."""
    if not 0 <= port < 65536:
        raise ListenerUnavailable(host=host, port=port, reason="a port is from 0 to 65535")


def open_listener(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket that nobody else listens on; port 0 takes a free one. To be closed.

    Raises:
        ListenerUnavailable: with the reason of the system, which itself takes 99999 for 34463.
    """
    verify_port(host, port)
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ListenerUnavailable(host=host, port=port, reason=error.strerror or "unknown name") from None
    listener = socket.socket(address[0], address[1], address[2])
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address[4])
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ListenerUnavailable(host=host, port=port, reason=error.strerror or "refused") from None
    return listener
