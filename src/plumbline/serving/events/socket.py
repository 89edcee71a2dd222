"""`/ws`: events to browsers and programs (requirements L4-26, L4-37, L4-55)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from starlette.websockets import WebSocket

from plumbline.contracts.requests import TenantId
from plumbline.serving.events.refusals import SocketLimitReached, SocketOriginRefused
from plumbline.serving.events.socket_limits import SocketLimits
from plumbline.serving.events.socket_session import SocketSession
from plumbline.serving.ports import Authenticator, EventService

__all__ = ["EventSocket"]


class EventSocket:
    """Owns the counts of open connections.

    Args:
        events: the bus.
        authenticator: says who connects.
        allowed_origins: exact origins of foreign pages that may connect.
        limits: of a connection.
    """

    def __init__(
        self,
        events: EventService,
        authenticator: Authenticator,
        *,
        allowed_origins: Sequence[str] = (),
        limits: SocketLimits | None = None,
    ) -> None:
        self._events, self._authenticator = events, authenticator
        self._origins = frozenset(allowed_origins)
        self._limits = limits or SocketLimits()
        self._open: Counter[TenantId] = Counter()
        self._all = 0

    @property
    def connections(self) -> int:
        """How many are open and known by name."""
        return sum(self._open.values())

    async def endpoint(self, websocket: WebSocket) -> None:
        """Serve one connection until it ends. A foreign origin is refused before the handshake (403)."""
        session = SocketSession(websocket, self._events, self._authenticator, self._limits, self)
        refusal = self._origin_refusal(websocket.headers)
        if refusal is not None:
            await websocket.close(code=1008, reason=refusal.code)
            return
        if self._all - self.connections >= self._limits.max_waiting:
            await websocket.close(code=1013)
            return
        self._all += 1
        try:
            await session.run()
        finally:
            self._all -= 1

    def enter(self, tenant: TenantId) -> None:
        """Count a connection.

        Raises:
            SocketLimitReached: too many, of the tenant or in all.
        """
        limits = self._limits
        if self._open[tenant] >= limits.max_connections_of_tenant:
            limit = limits.max_connections_of_tenant
            raise SocketLimitReached(what="open connections of this tenant", limit=limit)
        if self.connections >= limits.max_connections:
            raise SocketLimitReached(what="open connections", limit=limits.max_connections)
        self._open[tenant] += 1

    def leave(self, tenant: TenantId) -> None:
        """A counted connection ended."""
        self._open[tenant] -= 1
        if self._open[tenant] <= 0:
            del self._open[tenant]

    def _origin_refusal(self, headers: Mapping[str, str]) -> SocketOriginRefused | None:
        origin = headers.get("origin")
        if origin is None or origin in self._origins:
            return None
        own = headers.get("host", "")
        if own and origin in {f"http://{own}", f"https://{own}"}:
            return None
        return SocketOriginRefused(origin=ascii(origin)[1:-1][:200])
