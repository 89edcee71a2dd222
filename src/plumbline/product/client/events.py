"""Events of `/ws` as an iterator that resumes: every event carries the cursor to begin behind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from plumbline.product.client.refusals import (
    AnswerLost,
    AnswerUnreadable,
    ServerUnreachable,
    refusal_of,
)
from plumbline.product.client.transport import Transport

__all__ = ["follow_events"]

_OPERATION = "GET /ws"
_MAX_MESSAGE_BYTES = 1 << 20
_CLOSE_S = 0.5
"""For the farewell of a caller that has enough: with events unread the library would not see the answer."""


def follow_events(
    transport: Transport,
    *,
    after: int | None,
    kinds: Sequence[str],
    subjects: Sequence[str],
    seconds: float | None,
) -> Iterator[dict[str, Any]]:
    """Events from now, or from behind a cursor, until `seconds` are over or the caller stops.

    Raises:
        ServerUnreachable: no connection.
        AnswerUnreadable: the other side speaks no such protocol, or refused the handshake without a word.
        ServerRefusal: key, origin, cursor or limit refused.
        AnswerLost: the connection broke.
    """
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
    from websockets.sync.client import connect

    ends = None if seconds is None else time.monotonic() + seconds
    url = transport.address.url.replace("http", "ws", 1) + "/ws"
    try:
        socket = connect(
            url,
            additional_headers=transport.headers,
            open_timeout=transport.timeout_s,
            max_size=_MAX_MESSAGE_BYTES,
            proxy=None,
            ping_interval=None,
            close_timeout=_CLOSE_S,
        )
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ServerUnreachable(address=transport.address.url, reason=reason) from None
    except InvalidStatus as error:
        status = error.response.status_code
        raise AnswerUnreadable(operation=_OPERATION, status=status, reason="no WebSocket") from None
    except WebSocketException as error:
        raise AnswerUnreadable(operation=_OPERATION, status=0, reason=type(error).__name__) from None
    wanted = {"type": "subscribe", "after": after, "kinds": list(kinds), "subjects": list(subjects)}
    with socket:
        try:
            socket.send(json.dumps(wanted))
            while ends is None or time.monotonic() < ends:
                left = None if ends is None else max(0.0, ends - time.monotonic())
                try:
                    message = json.loads(socket.recv(timeout=left))
                except TimeoutError:
                    return
                if message["type"] == "event":
                    yield message["event"]
                elif message["type"] == "ping":
                    socket.send('{"type":"pong"}')
                elif message["type"] in {"error", "refused"}:
                    raise _refusal(message["error"])
        except ConnectionClosed as closed:
            reason = closed.rcvd.reason if closed.rcvd and closed.rcvd.reason else "the connection ended"
            raise AnswerLost(operation=_OPERATION, reason=reason) from None
        except (ValueError, KeyError, TypeError) as error:
            reason = f"no event ({type(error).__name__})"
            raise AnswerUnreadable(operation=_OPERATION, status=101, reason=reason) from None


def _refusal(error: dict[str, Any]) -> Exception:
    return refusal_of({**error, "detail": error.get("detail") or error.get("message")}, 400)
