"""A table of routes: path templates to operations, found without patterns or regular expressions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from plumbline.serving.open_inference.exchange import Answer, Asked
from plumbline.serving.ports import Permission

__all__ = ["Handle", "Match", "Operation", "Route", "RouteTable"]

Handle = Callable[[Asked, Mapping[str, str]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of a route.

    Attributes:
        handle: answers; gets the values of the path's placeholders.
        permission: what it asks for; None: open to everyone.
        body: media types that it reads; empty: a body is not read. A missing media type counts as the first.
    """

    handle: Handle
    permission: Permission | None
    body: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path template such as `/v2/models/{model}/ready` and its methods."""

    template: str
    operations: Mapping[str, Operation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A route that fits a path, and the values of its placeholders."""

    route: Route
    values: Mapping[str, str]


class RouteTable:
    """Routes by the number of their parts. Immutable after it was made.

    Literal parts win over placeholders: give `/v2/models/stats` before `/v2/models/{model}`.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._by_length: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        for route in routes:
            parts = tuple(route.template.split("/"))
            self._by_length.setdefault(len(parts), []).append((parts, route))

    def find(self, path: str) -> Match | None:
        """The first route that fits; None when there is none. Placeholders are never empty."""
        given = path.split("/")
        for parts, route in self._by_length.get(len(given), ()):
            values = _fit(parts, given)
            if values is not None:
                return Match(route=route, values=values)
        return None


def _fit(parts: Sequence[str], given: Sequence[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for part, value in zip(parts, given, strict=True):
        if part.startswith("{"):
            if not value:
                return None
            values[part[1:-1]] = value
        elif part != value:
            return None
    return values
