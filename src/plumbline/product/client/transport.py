"""`Transport`: one request, one answer, over one connection that is kept while it is fresh."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from plumbline.product.client.refusals import (
    AnswerLost,
    AnswerUnreadable,
    ServerAddressRefused,
    ServerUnreachable,
    refusal_of,
)

__all__ = ["Address", "Reply", "Transport", "parse_address", "place"]

MAX_ANSWER_BYTES = 1 << 30
_FRESH_S = 5.0
_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is. `prefix` is the path in front of every route, without a slash at its end."""

    secure: bool
    host: str
    port: int
    prefix: str

    @property
    def url(self) -> str:
        """As text."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.prefix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: status, headers by lower-case name, body."""

    operation: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> Any:
        """The JSON of the body.

        Raises:
            AnswerUnreadable: it has none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise AnswerUnreadable(operation=self.operation, status=self.status, reason="no JSON") from None


class Transport:
    """Owns one connection; not to be shared by threads.

    Nothing is sent twice: a connection that was idle for five seconds is replaced before it is used, since
    the server may have closed it, and a request whose answer is lost is `AnswerLost`.

    Args:
        address: of the server.
        key: API key, sent with every request.
        timeout_s: for a connection, and for each wait for bytes of an answer.
    """

    def __init__(self, address: Address, *, key: str | None, timeout_s: float) -> None:
        self.address, self.timeout_s = address, timeout_s
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._connection: http.client.HTTPConnection | None = None
        self._used_s = 0.0

    @property
    def headers(self) -> dict[str, str]:
        """That every request carries."""
        return dict(self._headers)

    def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        document: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Reply:
        """One request and its answer.

        Args:
            method: of HTTP.
            path: from the root, quoted, such as `place("api", "v1", "models", name)`.
            query: parameters; those that are None are left out.
            document: the body as JSON; or `body`: as bytes.
            headers: more of them.
            timeout_s: instead of that of the transport.
            accept: statuses that are answers although they are not 2xx.

        Raises:
            ServerUnreachable: no connection.
            AnswerLost: the answer did not come, or not whole.
            AnswerUnreadable: too large, or an error without a problem document.
            ServerRefusal: the server said no.
        """
        sent = {"accept": f"{_JSON}, */*;q=0.1", **self._headers, **(headers or {})}
        if document is not None:
            body = json.dumps(document, allow_nan=False).encode()
            sent["content-type"] = _JSON
        chosen = {name: value for name, value in (query or {}).items() if value is not None}
        target = self.address.prefix + path + (f"?{urlencode(chosen, doseq=True)}" if chosen else "")
        reply = self._send(method, target, body, sent, timeout_s or self.timeout_s)
        if 200 <= reply.status < 300 or reply.status in accept:
            return reply
        raise self._refusal(reply)

    def close(self) -> None:
        """End the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Reply:
        operation = f"{method} {target.partition('?')[0]}"
        connection = self._connected(timeout_s)
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER_BYTES + 1)
            if answer.length and len(content) <= MAX_ANSWER_BYTES:  # `read` does not tell that less came
                raise http.client.IncompleteRead(content, answer.length)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise AnswerLost(operation=operation, reason=_reason(error)) from None
        except BaseException:
            self.close()
            raise
        self._used_s = time.monotonic()
        if len(content) > MAX_ANSWER_BYTES:
            self.close()
            raise AnswerUnreadable(operation=operation, status=answer.status, reason="it is too large")
        found = {name.lower(): value for name, value in answer.getheaders()}
        if answer.will_close:
            self.close()
        return Reply(operation=operation, status=answer.status, headers=found, body=content)

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._connection is not None and time.monotonic() - self._used_s > _FRESH_S:
            self.close()
        if self._connection is None:
            kind = http.client.HTTPSConnection if self.address.secure else http.client.HTTPConnection
            connection = kind(self.address.host, self.address.port, timeout=timeout_s)
            try:
                connection.connect()
            except OSError as error:
                raise ServerUnreachable(address=self.address.url, reason=_reason(error)) from None
            self._connection = connection
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection

    def _refusal(self, reply: Reply) -> Exception:
        try:
            problem = json.loads(reply.body)
        except (ValueError, RecursionError):
            problem = None
        if isinstance(problem, dict) and isinstance(problem.get("code"), str):
            return refusal_of(problem, reply.status)
        reason = "it has no problem document"
        return AnswerUnreadable(operation=reply.operation, status=reply.status, reason=reason)


def parse_address(text: str) -> Address:
    """The parts of `http://HOST:PORT[/PREFIX]`.

    Raises:
        ServerAddressRefused: it is not one.

    >>> parse_address("http://127.0.0.1:8000/").url
    'http://127.0.0.1:8000'
    """
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        raise ServerAddressRefused(address=text[:200], reason="the port is not a number") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ServerAddressRefused(address=text[:200], reason="expected http://HOST:PORT")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ServerAddressRefused(
            address=parts.hostname[:200], reason="only host, port and path are part of it"
        )
    secure = parts.scheme == "https"
    prefix = parts.path.rstrip("/")
    return Address(secure=secure, host=parts.hostname, port=port or (443 if secure else 80), prefix=prefix)


def place(*parts: str) -> str:
    """A path of quoted parts.

    >>> place("v2", "models", "a/b")
    '/v2/models/a%2Fb'
    """
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    text = error.strerror if isinstance(error, OSError) else None
    return (text or type(error).__name__).lower()
