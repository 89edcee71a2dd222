"""Ports of the demonstration: the usual ones, or free ones where another program has them."""

from __future__ import annotations

from plumbline.serving.gateway.binding import ListenerUnavailable, open_listener

__all__ = ["usable_port"]

HOST = "127.0.0.1"


def usable_port(port: int) -> int:
    """The port, or 0 (a free one) where it is taken."""
    try:
        open_listener(HOST, port, backlog=1).close()
    except ListenerUnavailable:
        return 0
    return port
