"""Browsers: which origins may call, and by which host names a local gateway may be called.

CORS is off by default. A page of another origin may neither read nor write unless its exact origin is on the
allow-list. A gateway without authentication also checks `Host`, so that a name on the web that resolves to
127.0.0.1 does not make a page local (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plumbline.serving.gateway.refusals import HostRefused, OriginListRefused, OriginRefused

__all__ = ["Origins"]

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = (
    b"authorization, x-api-key, content-type, accept, x-request-id, traceparent, "
    b"inference-header-content-length"
)
_EXPOSED = b"x-request-id, retry-after, inference-header-content-length"
_REMEMBERED = 256


class Origins:
    """The allow-lists. Owner of a small memory of hosts that were checked."""

    def __init__(
        self, *, allowed_origins: Sequence[str], allowed_hosts: Sequence[str], check_host: bool
    ) -> None:
        for origin in allowed_origins:
            _verify_origin(origin)
        self._origins = frozenset(origin.encode("latin-1") for origin in allowed_origins)
        self._hosts = _LOCAL | {host.lower() for host in allowed_hosts}
        self._check_host = check_host
        self._known: set[bytes] = set()

    def verify(self, method: str, headers: Mapping[bytes, bytes]) -> bytes | None:
        """The origin to be named in the answer, or None for a caller that is no foreign page.

        Args:
            method: of the request; `WEBSOCKET` for a handshake.
            headers: lower-case names.

        Raises:
            HostRefused: see above.
            OriginRefused: a foreign page writes, asks for permission (preflight), or opens a WebSocket.
        """
        host = headers.get(b"host", b"")
        if self._check_host and host not in self._known:
            self._verify_host(host)
        origin = headers.get(b"origin")
        if origin is None:
            return None
        if origin in self._origins:
            return origin
        if _is_own(origin, host):
            return None
        if method not in _SAFE or (method == "OPTIONS" and b"access-control-request-method" in headers):
            raise OriginRefused(origin=_printable(origin))
        return None

    def headers(self, origin: bytes, preflight: bool) -> tuple[tuple[bytes, bytes], ...]:
        """CORS headers for an allowed origin."""
        named = ((b"access-control-allow-origin", origin), (b"vary", b"origin"))
        if not preflight:
            return (*named, (b"access-control-expose-headers", _EXPOSED))
        return (
            *named,
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _HEADERS),
            (b"access-control-max-age", b"600"),
        )

    def _verify_host(self, host: bytes) -> None:
        name = host.decode("latin-1").lower()
        bare = name if name.endswith("]") else name.rpartition(":")[0] or name
        if host and bare not in self._hosts:
            raise HostRefused(host=_printable(host))
        if len(self._known) < _REMEMBERED:
            self._known.add(host)


def _is_own(origin: bytes, host: bytes) -> bool:
    scheme, separator, authority = origin.partition(b"://")
    return bool(separator) and scheme in (b"http", b"https") and authority == host


def _printable(value: bytes) -> str:
    return ascii(value.decode("latin-1"))[1:-1][:200]


def _verify_origin(origin: str) -> None:
    scheme, separator, authority = origin.partition("://")
    if not separator or scheme not in ("http", "https") or not authority or set(authority) & set("/*?# "):
        raise OriginListRefused(origin=origin[:200])
