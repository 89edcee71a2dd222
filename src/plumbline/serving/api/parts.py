"""What the native application is composed of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from plumbline.contracts.clock import Clock, MonotonicClock
from plumbline.serving.events.socket_limits import SocketLimits
from plumbline.serving.identity.keys import KeyService
from plumbline.serving.ports import (
    Authenticator,
    DecisionService,
    DeviceService,
    EventService,
    ModelDirectory,
    PlanService,
    TaskService,
    WorkerPool,
)

__all__ = ["CanaryService", "NativeParts", "PublicationService"]


class CanaryService(Protocol):
    """Shares of traffic between versions; adapted by the composition from `serving.models`."""

    def canary(self, model: str) -> Mapping[str, Any]:
        """The JSON document of the canary that runs or ended last. Raises: unknown model (404)."""

    async def set_canary(self, model: str, version: str, share: float) -> Mapping[str, Any]:
        """Give a version a share (0..1) of unpinned requests; returns its JSON document."""

    async def roll_back(self, model: str) -> Mapping[str, Any]:
        """Give all unpinned requests back to the stable version; returns its JSON document."""

    async def promote(self, model: str) -> Mapping[str, Any]:
        """Give the canary all unpinned requests; returns its JSON document."""


class PublicationService(Protocol):
    """What is said of a version for good: kept by the repository, and seen by every server of it."""

    async def pin(self, model: str, version: str) -> None:
        """Give it all requests that name none. Raises: unknown (404), retired (409 or 410)."""

    async def unpin(self, model: str, version: str) -> None:
        """Take the pin away."""

    async def retire(self, model: str, version: str) -> None:
        """End its use; returns when it is unloaded. Raises: pinned, or the base of a canary (409)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeParts:
    """Attributes:
    authenticator: says who may do what; None: everyone is the local principal (a loopback listener).
    tasks, devices, models, workers, decisions, events: the services behind the routes.
    keys: keys of this store, or None where there are none; their routes are refused by name then.
    canary: canary releases, or None likewise.
    publication: pins and retirements, or None likewise.
    plans: memory plans and their pictures, or None likewise.
    name: of the service.
    version: of the program.
    allowed_origins: exact origins that browsers may open `/ws` from, besides its own host.
    socket: limits of `/ws`.
    clock: wall time for documents.
    openapi: the document that `/docs` shows; None for that of the native API alone.
    """

    authenticator: Authenticator | None
    tasks: TaskService
    devices: DeviceService
    models: ModelDirectory
    workers: WorkerPool
    decisions: DecisionService
    events: EventService
    keys: KeyService | None = None
    canary: CanaryService | None = None
    publication: PublicationService | None = None
    plans: PlanService | None = None
    name: str = "plumbline"
    version: str = "0"
    allowed_origins: tuple[str, ...] = ()
    socket: SocketLimits = field(default_factory=SocketLimits)
    clock: Clock = field(default_factory=MonotonicClock)
    openapi: Callable[[], Mapping[str, Any]] | None = None
