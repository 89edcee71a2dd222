"""Fakes behind the ports of the gateway, and a real server around it, for tests of whatever is in front."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from plumbline.contracts.identity import Principal, Role
from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind, VersionState, VersionStatus
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.errors import PolicyError, Recoverability, ResourceError, ValidationError
from plumbline.serving.gateway.application import GatewayApplication, build_application
from plumbline.serving.gateway.parts import Gateway
from plumbline.serving.gateway.server import Listening, ServerKind, serve
from plumbline.serving.ports import Permission, VersionStatistics

__all__ = [
    "ECHO",
    "FakeAuthenticator",
    "FakeHealth",
    "FakeInference",
    "FakeModels",
    "RunningGateway",
    "Told",
    "ask",
    "ask_soon",
    "echo_metadata",
    "fake_gateway",
    "running_gateway",
]

ECHO = VersionRef(model="echo", version="1")

_DATATYPES = [
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
]


@dataclass(eq=False, kw_only=True)
class FakeModelUnknown(ValidationError):
    """A fake directory was asked for what it does not hold."""

    code = "validation.testing_model_unknown"
    owner = "testing"
    http_status = 404
    template = "there is no model {model!r}"

    model: str


@dataclass(eq=False, kw_only=True)
class FakeUnauthenticated(PolicyError):
    """A fake authenticator was shown no key that it knows."""

    code = "policy.testing_unauthenticated"
    owner = "testing"
    http_status = 401
    template = "no valid key"


@dataclass(eq=False, kw_only=True)
class FakeForbidden(PolicyError):
    """A fake authenticator knows the key, and its roles are not enough."""

    code = "policy.testing_forbidden"
    owner = "testing"
    template = "permission {permission} is missing"

    permission: str


@dataclass(eq=False, kw_only=True)
class FakeRateExceeded(ResourceError):
    """A fake authenticator counted one request too many."""

    code = "resource.testing_rate"
    owner = "testing"
    http_status = 429
    recoverability = Recoverability.TRANSIENT
    template = "more than {limit} requests"

    limit: int
    retry_after_s: float


def echo_metadata() -> ModelMetadata:
    """The interface of the echo model: one tensor per datatype; each output is the input of its name."""
    specs = tuple(TensorSpec(name=datatype, datatype=datatype, shape=(-1,)) for datatype in _DATATYPES)
    return ModelMetadata(
        ref=ECHO, kind=VersionKind.PYTHON, inputs=specs, outputs=specs, digest="0" * 64, max_rows=8
    )


class FakeInference:
    """Answers with the inputs. Owner of what it was asked, and of the calls that it holds back.

    Attributes:
        calls: every call, in order.
        cancelled: ids of calls whose caller went away.
        error: raised instead of an answer, when set.
        hold: when set, calls wait until `release`.
    """

    def __init__(self) -> None:
        self.calls: list[InferenceCall] = []
        self.cancelled: list[RequestId] = []
        self.error: Exception | None = None
        self.outputs: Mapping[str, np.ndarray] | None = None
        self.hold = False
        self.remember = True
        self._released: asyncio.Event | None = None

    def release(self) -> None:
        """Let held calls go on. Called on their event loop."""
        self.hold = False
        if self._released is not None:
            self._released.set()

    async def infer(self, call: InferenceCall) -> InferenceResult:
        """Its own inputs, those that are wanted."""
        if self.remember:
            self.calls.append(call)
        if self.error is not None:
            raise self.error
        if call.model != ECHO.model or call.version not in (None, ECHO.version):
            raise FakeModelUnknown(model=call.model)
        if self.hold:
            await self._wait(call)
        outputs = call.inputs if self.outputs is None else self.outputs
        if call.wanted:
            outputs = {name: outputs[name] for name in call.wanted if name in outputs}
        now = call.arrived_ns
        timing = InferenceTiming(arrived_ns=now, queued_ns=now, launched_ns=now, finished_ns=now)
        return InferenceResult(id=call.id, served_by=ECHO, outputs=outputs, timing=timing)

    def cancel(self, request: RequestId) -> bool:
        """Nothing is ever cancelled by id here."""
        return False

    async def _wait(self, call: InferenceCall) -> None:
        if self._released is None:
            self._released = asyncio.Event()
        try:
            await self._released.wait()
        except asyncio.CancelledError:
            self.cancelled.append(call.id)
            raise


class FakeModels:
    """One model, `echo`, version 1. Owner of whether it is loaded and of what was asked.

    `operations` are `("load" or "unload", model, version, settings)`.
    """

    def __init__(self) -> None:
        self.ready = True
        self.operations: list[tuple[str, str, str | None, Mapping[str, Any] | None]] = []
        self._metadata = echo_metadata()

    def statuses(self) -> Sequence[VersionStatus]:
        """Of the one version."""
        state = VersionState.READY if self.ready else VersionState.UNLOADED
        return [VersionStatus(ref=ECHO, state=state)]

    def metadata(self, model: str, version: str | None = None) -> ModelMetadata:
        """Of the one version, or a refusal (404)."""
        self._verify(model, version)
        return self._metadata

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Whether it is the one version, loaded."""
        return self.ready and model == ECHO.model and version in (None, ECHO.version)

    def statistics(self, model: str | None = None, version: str | None = None) -> Sequence[VersionStatistics]:
        """Fixed counts of the one version."""
        return [
            VersionStatistics(
                ref=ECHO,
                last_inference_wall_ns=1_700_000_000_000_000_000,
                inferences=3,
                executions=2,
                successes=3,
                success_ns=300,
                batches={1: (1, 100), 2: (1, 150)},
            )
        ]

    async def load(
        self, model: str, version: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Remember it."""
        self._verify(model, version)
        self.operations.append(("load", model, version, settings))
        self.ready = True

    async def unload(self, model: str, version: str | None = None) -> None:
        """Remember it."""
        self._verify(model, version)
        self.operations.append(("unload", model, version, None))
        self.ready = False

    def _verify(self, model: str, version: str | None) -> None:
        if model != ECHO.model or version not in (None, ECHO.version):
            raise FakeModelUnknown(model=model[:64])


@dataclass(slots=True)
class FakeHealth:
    """As healthy as it is told to be."""

    live: bool = True
    ready: bool = True
    checks: dict[str, Any] = field(default_factory=lambda: {"workers": "1 of 1"})

    def is_live(self) -> bool:
        """As told."""
        return self.live

    def readiness(self) -> tuple[bool, Mapping[str, Any]]:
        """As told."""
        return self.ready, self.checks


class FakeAuthenticator:
    """Keys `client-key`, `operator-key` and `admin-key`, each of the tenant before the dash.

    Owner of the number of requests. A client may read and infer, an operator more, an admin everything.
    """

    def __init__(self, rate: int = 1_000_000) -> None:
        self.rate, self.spent = rate, 0

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The principal of a key."""
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        name, _, rest = key.partition("-")
        if rest != "key" or name not in {role.value for role in Role}:
            raise FakeUnauthenticated()
        return Principal(id=f"key-{name}", tenant=TenantId(name), roles=frozenset({Role(name)}))

    def authorise(self, principal: Principal, permission: Permission) -> None:
        """See the class."""
        allowed = {
            Role.CLIENT: {Permission.READ, Permission.INFER, Permission.TASKS},
            Role.OPERATOR: set(Permission) - {Permission.KEYS},
            Role.ADMIN: set(Permission),
        }
        if not any(permission in allowed[role] for role in principal.roles):
            raise FakeForbidden(permission=permission.value)

    def spend(self, principal: Principal) -> None:
        """Count; above the rate a refusal for 2.5 seconds."""
        self.spent += 1
        if self.spent > self.rate:
            raise FakeRateExceeded(limit=self.rate, retry_after_s=2.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an application answered in process."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


def ask(
    application: GatewayApplication,
    method: str,
    path: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | Sequence[bytes] = b"",
) -> Told:
    """Ask an application without a server, in an event loop of its own.

    Args:
        application: to ask.
        method: such as `GET`.
        path: without query.
        headers: sent as they are; `host` is added.
        body: or its chunks.
    """
    return asyncio.run(ask_soon(application, method, path, headers=headers, body=body))


async def ask_soon(
    application: GatewayApplication,
    method: str,
    path: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | Sequence[bytes] = b"",
) -> Told:
    """`ask` inside a running event loop."""
    chunks = [body] if isinstance(body, bytes) else list(body)
    given = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if not any(name == b"host" for name, _ in given):
        given.append((b"host", b"127.0.0.1:8000"))
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": given}
    sent: list[Any] = []

    async def receive() -> Any:
        if chunks:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope, receive, send)
    start = sent[0]
    answered = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Told(status=start["status"], headers=answered, body=content)


def fake_gateway(**parts: Any) -> Gateway:
    """A gateway over fakes; any part can be given instead."""
    chosen = {"inference": FakeInference(), "models": FakeModels(), "health": FakeHealth(), **parts}
    return Gateway(**chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """A gateway behind real sockets.

    Attributes:
        host: always 127.0.0.1.
        port: of HTTP.
        grpc_port: of gRPC, None when it was not asked for.
        application: behind it.
        loop: that it runs on, in a thread of its own.
    """

    host: str
    port: int
    grpc_port: int | None
    application: GatewayApplication
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    @property
    def url(self) -> str:
        """Of HTTP, without trailing slash."""
        return f"http://{self.host}:{self.port}"

    def begin_stop(self) -> None:
        """Ask the server to drain and stop, without waiting."""
        self.loop.call_soon_threadsafe(self.stop.set)


@contextmanager
def running_gateway(
    parts: Gateway,
    kind: ServerKind = ServerKind.UVICORN,
    *,
    with_grpc: bool = False,
    drain_timeout_s: float = 5.0,
) -> Iterator[RunningGateway]:
    """A real server on a free port, in a thread of its own; stopped and joined at the end."""
    started: list[RunningGateway] = []
    failed: list[BaseException] = []
    ready = threading.Event()

    async def main() -> None:
        stop = asyncio.Event()
        application = build_application(parts)

        def tell(listening: Listening) -> None:
            started.append(
                RunningGateway(
                    host=listening.host,
                    port=listening.port,
                    grpc_port=listening.grpc_port,
                    application=application,
                    loop=asyncio.get_running_loop(),
                    stop=stop,
                )
            )
            ready.set()

        await serve(
            application,
            port=0,
            grpc_port=0 if with_grpc else None,
            kind=kind,
            drain_timeout_s=drain_timeout_s,
            stop=stop,
            on_listening=tell,
        )

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name=f"gateway-{kind}")
    thread.start()
    ready.wait(timeout=60)
    try:
        if failed or not started:
            raise failed[0] if failed else RuntimeError("the server did not start within 60 s")
        yield started[0]
    finally:
        if started:
            started[0].begin_stop()
        thread.join(timeout=60)
    if failed:
        raise failed[0]
