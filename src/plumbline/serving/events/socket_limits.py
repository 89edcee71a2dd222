"""Limits of one `/ws` connection."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SocketLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketLimits:
    """Attributes:
    max_message_bytes: of one message of a client.
    messages_per_s: of a client, over one second.
    hello_timeout_s: from the connection to its first message.
    ping_s: a connection in which nothing was sent for so long gets a `ping` message.
    pong_timeout_s: a ping without any answer for so long closes the connection.
    window_bytes: sent and not confirmed by a `pong`; no event goes out beyond it.
    send_timeout_s: a client that takes no message for so long is closed.
    max_waiting: connections at once that have not said who they are.
    max_connections: at once.
    max_connections_of_tenant: at once.
    max_filters: kinds or subjects in one subscription.
    """

    max_message_bytes: int = 16 * 1024
    messages_per_s: int = 20
    hello_timeout_s: float = 10.0
    ping_s: float = 20.0
    pong_timeout_s: float = 20.0
    window_bytes: int = 512 * 1024
    send_timeout_s: float = 10.0
    max_waiting: int = 100
    max_connections: int = 1000
    max_connections_of_tenant: int = 200
    max_filters: int = 256
