"""Devices, models, workers, keys and the rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from plumbline.serving.api.schemas.document import Answer, Body

__all__ = [
    "CanaryBody",
    "CreatedKeyDocument",
    "DeviceCapabilities",
    "DeviceInfo",
    "DeviceList",
    "DeviceMemory",
    "Document",
    "Info",
    "KeyBody",
    "KeyDocument",
    "KeyList",
    "LoadBody",
    "ModelDocument",
    "ModelList",
    "PrincipalDocument",
    "TensorDocument",
    "Timeline",
    "UnloadBody",
    "VersionDocument",
    "WorkerDocument",
    "WorkerList",
    "WorkerOutput",
]

_Version = Annotated[str, Field(min_length=1, max_length=64)]
Document = dict[str, Any]


class PrincipalDocument(Answer):
    """Who is asking."""

    id: str
    tenant: str
    roles: list[str]
    permissions: list[str]


class Info(Answer):
    """The service, and the caller as it sees them."""

    name: str
    version: str
    api_versions: list[int]
    time: str
    principal: PrincipalDocument


class DeviceCapabilities(Answer):
    """What a device computes."""

    operators: list[str]
    dtypes: list[str]


class DeviceMemory(Answer):
    """Bytes; `null` where nobody tells."""

    total_bytes: int | None
    available_bytes: int | None


class DeviceInfo(Answer):
    """A device of this machine."""

    schema_: int = Field(alias="schema")
    id: str
    name: str | None
    type: str
    status: Literal["absent", "available", "draining", "drained", "lost", "retired"]
    reason: str
    capabilities: DeviceCapabilities | None
    memory: DeviceMemory
    allocations: int


class DeviceList(Answer):
    """Every device, and every kind that was looked for."""

    devices: list[DeviceInfo]


class TensorDocument(Answer):
    """An input or output; -1 is an extent that a request chooses."""

    name: str
    datatype: str
    shape: list[int]
    bounds: list[int | None]


class VersionDocument(Answer):
    """A version of a model at this server. Interface and memory are there once it is ready.

    `memory_bytes` is the sum of `memory`; parts that nobody stated are named in `memory_unstated`, and where
    nothing was stated it is null.
    """

    model: str
    version: str
    state: str
    ready: bool
    reason: str
    since: str | None
    pinned: bool
    share: float
    settings: dict[str, Any]
    kind: str | None = None
    digest: str | None = None
    inputs: list[TensorDocument] | None = None
    outputs: list[TensorDocument] | None = None
    max_rows: int | None = None
    unbatched_because: str | None = None
    memory_bytes: int | None = None
    memory: dict[str, int] | None = None
    memory_unstated: list[str] | None = None


class ModelDocument(Answer):
    """A model with its versions."""

    name: str
    ready: bool
    versions: list[VersionDocument]


class ModelList(Answer):
    """Every model."""

    models: list[ModelDocument]


class LoadBody(Body):
    """Which version to load, and how."""

    version: _Version | None = None
    settings: dict[Annotated[str, Field(min_length=1, max_length=64)], Any] | None = None


class UnloadBody(Body):
    """Which version to unload; without one, all."""

    version: _Version | None = None


class CanaryBody(Body):
    """The version under trial, and its share of unpinned requests."""

    version: _Version
    share: Annotated[float, Field(ge=0, le=1)]


class WorkerDocument(Answer):
    """A worker as the gateway sees it."""

    name: str
    generation: int
    pid: int
    state: str
    queued: int
    running: int
    steps: int
    versions: list[str]
    memory_bytes: int
    budget_bytes: int | None
    log_trouble: str
    missed_decisions: int


class WorkerList(Answer):
    """Every worker."""

    workers: list[WorkerDocument]


class WorkerOutput(Answer):
    """What a worker printed last."""

    name: str
    output: str


class Timeline(Answer):
    """The last launches, and the time on their clock at which they were read."""

    now_ns: int
    launches: list[dict[str, Any]]


class KeyBody(Body):
    """A key that is to be made."""

    tenant: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    roles: Annotated[list[Literal["admin", "operator", "client"]], Field(min_length=1, max_length=3)]
    rate: Annotated[str, Field(max_length=32)] | None = Field(default=None, examples=["100/second"])
    name: Annotated[str, Field(max_length=200)] = ""


class KeyDocument(Answer):
    """A key, without its secret."""

    id: str
    tenant: str
    roles: list[str]
    rate: str
    name: str
    created_at: str
    revoked_at: str | None


class CreatedKeyDocument(KeyDocument):
    """A new key. `key` is shown this once and kept nowhere."""

    key: str


class KeyList(Answer):
    """Keys that the caller manages."""

    keys: list[KeyDocument]
