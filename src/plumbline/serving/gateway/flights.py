"""Requests in flight: their number, their bytes, slow bodies, clients that went away, and the drain.

Instead of a timer and a watching task per request there is one sweep for all of them, ten times a second and
only while there are any: it ends bodies that are too slow and starts watching the connection of a request
that has been running for longer than one sweep.
"""

from __future__ import annotations

import asyncio
import time

from plumbline.contracts.requests import RequestId
from plumbline.scheduling.refusals import DuplicateRequest
from plumbline.serving.gateway.asgi import Receive
from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.gateway.refusals import Draining, TooManyRequests

__all__ = ["Flight", "Flights"]

_SWEEP_S = 0.1


class Flight:
    """One request in flight. Owned by `Flights`; the request's own task changes the others:
    `reading` its body, `has_body` as a whole, `watched` for a client that leaves."""

    __slots__ = (
        "began_s",
        "buffered_bytes",
        "gone",
        "has_body",
        "reading",
        "receive",
        "task",
        "too_slow",
        "watched",
        "watcher",
    )

    def __init__(self, task: asyncio.Task[object] | None, receive: Receive, began_s: float) -> None:
        self.task, self.receive, self.began_s = task, receive, began_s
        self.buffered_bytes = 0
        self.reading = False
        self.has_body = False
        self.watched = False
        self.too_slow = False
        self.gone = False
        self.watcher: asyncio.Task[None] | None = None


class Flights:
    """Owner of everything in flight. Used on one event loop only.

    Attributes:
        is_draining: nothing new is taken, and every answer is the last of its connection.
    """

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self._flights: dict[RequestId, Flight] = {}
        self._buffered_bytes = 0
        self._sweeping = False
        self.is_draining = False
        self._empty: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._flights)

    def has(self, request_id: RequestId) -> bool:
        """Whether a request of this id is in flight."""
        return request_id in self._flights

    def enter(self, request_id: RequestId, receive: Receive) -> Flight:
        """Take a request in.

        Raises:
            Draining, TooManyRequests: no room, come again later.
            DuplicateRequest: another request has this id.
        """
        flights = self._flights
        if self.is_draining:
            raise Draining()
        if len(flights) >= self._limits.max_requests:
            raise TooManyRequests(what="requests", limit=self._limits.max_requests)
        if request_id in flights:
            raise DuplicateRequest(request_id=request_id, state="in flight")
        flight = flights[request_id] = Flight(asyncio.current_task(), receive, time.monotonic())
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        return flight

    def hold(self, flight: Flight, size_bytes: int) -> None:
        """Count bytes of a body that is being held. Raises TooManyRequests."""
        if self._buffered_bytes + size_bytes > self._limits.max_buffered_bytes:
            raise TooManyRequests(what="bytes of bodies", limit=self._limits.max_buffered_bytes)
        flight.buffered_bytes += size_bytes
        self._buffered_bytes += size_bytes

    def leave(self, request_id: RequestId) -> None:
        """A request was answered."""
        flight = self._flights.pop(request_id)
        self._buffered_bytes -= flight.buffered_bytes
        if flight.watcher is not None:
            flight.watcher.cancel()
        if self._empty is not None and not self._flights:
            self._empty.set()

    async def drain(self, timeout_s: float) -> int:
        """Take nothing new and wait for what is in flight. Returns how many requests are still there."""
        self.is_draining = True
        self._empty = asyncio.Event()
        if self._flights:
            try:
                await asyncio.wait_for(self._empty.wait(), timeout_s)
            except TimeoutError:
                return len(self._flights)
        return 0

    def _sweep(self) -> None:
        if not self._flights:
            self._sweeping = False
            return
        now = time.monotonic()
        for flight in self._flights.values():
            age_s = now - flight.began_s
            if flight.reading and age_s > self._limits.body_timeout_s and not flight.too_slow:
                flight.too_slow = True
                if flight.task is not None:
                    flight.task.cancel()
            elif flight.watched and flight.watcher is None and age_s > _SWEEP_S:
                flight.watcher = asyncio.ensure_future(self._watch(flight))
        asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    async def _watch(self, flight: Flight) -> None:
        while (await flight.receive())["type"] != "http.disconnect":
            pass
        flight.gone = True
        if flight.watched and flight.task is not None:
            flight.task.cancel()
