"""What a gateway is composed of. The lead composition fills it; nothing here chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from plumbline.contracts.clock import Clock, MonotonicClock
from plumbline.serving.gateway.asgi import Application
from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.open_inference.trace_settings import TraceSettings
from plumbline.serving.ports import Authenticator, HealthService, InferenceService, ModelDirectory

__all__ = ["Gateway", "GatewayOptions", "Observer"]

Observer = Callable[[str, str, int, int], None]
"""Told of each answer: route template, method, status, nanoseconds. Never raises, never blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Choices of the operator.

    Attributes:
        name: of the service, as it names itself.
        version: of the program.
        allowed_origins: exact origins (`https://host:port`) that browsers may call from; empty: none but its
            own. `*` is refused.
        allowed_hosts: further `Host` values (without port) that a gateway without authentication answers to;
            loopback names are always among them.
        contract_versions: versions of the native API that exist.
        native_prefixes: path prefixes that the native application gets.
    """

    name: str = "plumbline"
    version: str = "0"
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    contract_versions: tuple[int, ...] = (1,)
    native_prefixes: tuple[str, ...] = ("/api/v1/", "/ws", "/docs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The parts of a gateway.

    Attributes:
        inference: answers calls.
        models: which models there are.
        health: live and ready.
        authenticator: says who asks; None: everyone is the local principal, and only a loopback listener is
            served (`serve` refuses another).
        native: ASGI application behind `options.native_prefixes`, or None. It finds `principal`
            (`Principal`) and `request_id` in `scope["state"]`; its body was read and bounded before. It
            asks the authenticator for permissions itself. A WebSocket without a key header comes with no
            principal (None): the first message of a browser has the key, and the native application asks.
        status_page: the HTML of `/` for browsers, or None. Static: its inline scripts and styles are allowed
            by their hashes and nothing else is; live values are fetched by it.
        reference_page: the HTML of `/docs`, or None for the page of the native application. Static too, and
            open to everyone, as `/openapi.json` is.
        metrics: the exposition of `/metrics` and its media type, made at each call, or None.
        openapi: the merged document of `/openapi.json`, or None for that of `/v2` alone.
        trace: trace settings of `/v2`.
        observe: told of each answer, or None.
        limits: of sizes, counts and times.
        options: choices of the operator.
        clock: monotonic and wall time.
    """

    inference: InferenceService
    models: ModelDirectory
    health: HealthService
    authenticator: Authenticator | None = None
    native: Application | None = None
    status_page: bytes | None = None
    reference_page: bytes | None = None
    metrics: Callable[[], tuple[bytes, str]] | None = None
    openapi: Callable[[], Mapping[str, Any]] | None = None
    trace: TraceSettings = field(default_factory=TraceSettings)
    observe: Observer | None = None
    limits: GatewayLimits = field(default_factory=GatewayLimits)
    options: GatewayOptions = field(default_factory=GatewayOptions)
    clock: Clock = field(default_factory=MonotonicClock)
