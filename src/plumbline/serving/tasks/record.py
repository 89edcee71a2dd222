"""`TaskRecord`: everything that is remembered of a task, except its bodies (inputs and outputs)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from plumbline.contracts.requests import DEFAULT_PRIORITY, RequestId, TenantId
from plumbline.errors import ArtifactError

__all__ = [
    "RECORD_SCHEMA",
    "DamagedTask",
    "TaskRecord",
    "TaskState",
    "decode_record",
    "encode_record",
    "request_id_of",
]

RECORD_SCHEMA = 1


class TaskState(StrEnum):
    """Where in its life; `lifecycle` has the transitions."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(eq=False, kw_only=True)
class DamagedTask(ArtifactError):
    """A stored task cannot be read: another program or a newer version wrote it."""

    code = "artifact.stored_task"
    owner = "serving.tasks"
    template = "the stored task cannot be read: {reason}"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task.

    Attributes:
        tenant: whose; ids are unique within a tenant.
        id: of the task.
        sequence: order of acceptance; equal priorities run in this order.
        state: where in its life.
        priority: 0..9, higher first.
        model: name; version: pinned, or None.
        request_digest: SHA-256 of the request, which tells a repeated PUT from another one under the same id.
        revision: grows with every change that the store takes.
        owner: gateway that runs it, or empty.
        generation: how many times it was claimed; a write of an older one is refused.
        name: what the client calls it; shown, never interpreted.
        operation: what to do.
        device: preferred device, or None.
        submitted_by: id of the principal.
        traceparent: W3C trace context that every hop carries: the trace of the submitter, or a new one, and
            the span of the task in it.
        caller_span: span of the submitter, 16 hexadecimal digits; empty for none. None in records from before
            tasks had spans of their own.
        accepted_wall_ns, started_wall_ns, finished_wall_ns: when, None for not yet.
        deadline_wall_ns: when it expires, None for never.
        cancel_requested: its tenant asked for its end.
        stage: what the executor does for it now.
        stalled: it made no progress for longer than the bound.
        cached: the result came from the cache.
        served_by: `model@version` that answered; device_used: the device of its allocation.
        allocation: what was allocated for it, by which strategy, from when to when.
        timing: nanoseconds by name.
        error: document of the error that ended it.
        result_bytes: size of the stored result.
    """

    tenant: TenantId
    id: str
    sequence: int
    state: TaskState
    model: str
    request_digest: str
    accepted_wall_ns: int
    priority: int = DEFAULT_PRIORITY
    version: str | None = None
    revision: int = 0
    owner: str = ""
    generation: int = 0
    name: str = ""
    operation: str = "infer"
    device: str | None = None
    submitted_by: str = ""
    traceparent: str = ""
    caller_span: str | None = None
    started_wall_ns: int | None = None
    finished_wall_ns: int | None = None
    deadline_wall_ns: int | None = None
    cancel_requested: bool = False
    stage: str = ""
    stalled: bool = False
    cached: bool = False
    served_by: str = ""
    device_used: str = ""
    allocation: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, int] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    result_bytes: int = 0
    schema: int = RECORD_SCHEMA


def encode_record(record: TaskRecord) -> str:
    """JSON text; what `decode_record` reads."""
    return msgspec.json.encode(record).decode()


def decode_record(text: str) -> TaskRecord:
    """The record.

    Raises:
        DamagedTask: it is not one, or of another schema.
    """
    try:
        record = msgspec.json.decode(text, type=TaskRecord)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DamagedTask(reason=str(error)) from error
    if record.schema != RECORD_SCHEMA:
        raise DamagedTask(reason=f"schema {record.schema}, this version reads {RECORD_SCHEMA}")
    return record


def request_id_of(record: TaskRecord) -> RequestId:
    """The id of the inference request of the present generation; what `explain` is asked for."""
    key = hashlib.sha256(f"{record.tenant}\n{record.id}".encode()).hexdigest()[:24]
    return RequestId(f"task.{key}.{record.generation}")
