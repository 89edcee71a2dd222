"""Records: what was decided, in one format with one chain, for decision logs now and for evidence later.

A record is a fixed sequence of plain values. Its body is MessagePack of `[kind, field, field, ...]` in the
order of the fields below; mappings inside are written with sorted keys, so equal records have equal bytes. A
body is chained by `chain_digest(previous, body)`: SHA-256 over the digest before it and the body. Whoever
holds the digest of the last record can tell whether any record before it was changed, left out or moved.

No record holds a payload: no tensor, no text of a client, only names, numbers and times (absolute monotonic
nanoseconds of the machine that wrote it). Fields are only ever added, at the end, with a default;
`SCHEMA_VERSION` rises with every other change.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from plumbline.errors import ArtifactError

__all__ = [
    "DIGEST_BYTES",
    "SCHEMA_VERSION",
    "START_DIGEST",
    "Arrival",
    "BatchFacts",
    "Boundary",
    "Breach",
    "Cancellation",
    "Expiry",
    "Finish",
    "Held",
    "LaunchStart",
    "Promise",
    "Record",
    "RecordUnreadable",
    "Refusal",
    "RequestFacts",
    "Routing",
    "Segment",
    "Selection",
    "Snapshot",
    "chain_digest",
    "decode_record",
    "encode_record",
]

SCHEMA_VERSION = 1

DIGEST_BYTES = 32
START_DIGEST = bytes(DIGEST_BYTES)
"""What the first record of a chain follows."""


@dataclass(eq=False, kw_only=True)
class RecordUnreadable(ArtifactError):
    """Bytes that are not the body of a record of this schema."""

    code = "artifact.record"
    owner = "contracts"
    template = "not a record of schema {schema}: {reason}"

    schema: int
    reason: str


class BatchFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """With whom a request may share a launch; the fields of `scheduling.request.BatchTerms`."""

    key: str
    units: int
    max_units: int
    max_requests: int
    max_delay_ns: int


class RequestFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request as it was scheduled; the fields of `scheduling.request.ExecutionRequest`."""

    id: str
    graph: str
    tenant: str
    priority: int
    arrived_ns: int
    deadline_ns: int | None
    start_by_ns: int | None
    cost_bound_ns: int
    segment_bounds_ns: tuple[int, ...]
    period_ns: int | None
    task: str | None
    stream: int | None
    batch: BatchFacts | None


class Segment(msgspec.Struct, frozen=True, array_like=True, tag="segment", gc=False):
    """First record of a segment of a log.

    Attributes:
        time_ns: when it was begun.
        schema: of the records in it.
        log: name of the log.
        number: of the segment, from 0.
        first_record: number of this record in the log, from 0.
        wall_ns: the same moment, nanoseconds since 1970 UTC.
        fresh: whether the records before it say nothing of the state here: a new life of the engine began,
            and what was queued or running before ended with that one; or some were missed.
        missed: records before it that the log could not take; what they would have said, nobody knows.
    """

    time_ns: int
    schema: int
    log: str
    number: int
    first_record: int
    wall_ns: int
    fresh: bool
    missed: int = 0


class Snapshot(msgspec.Struct, frozen=True, array_like=True, tag="snapshot"):
    """The whole state of a decision core, so that replay can begin here. `state` holds plain values."""

    time_ns: int
    state: dict[str, Any]


class Arrival(msgspec.Struct, frozen=True, array_like=True, tag="arrival", gc=False):
    """A request entered the queue.

    Attributes:
        time_ns: when.
        request: everything that was known about it.
        number: in arrival order, from 0.
        key: that the policy gave; the lowest goes first.
        depth: requests in the queue, with this one.
    """

    time_ns: int
    request: RequestFacts
    number: int
    key: tuple[int, ...]
    depth: int


class Selection(msgspec.Struct, frozen=True, array_like=True, tag="selection", gc=False):
    """Requests were chosen to run together. Losers and their reasons follow from replay.

    Attributes:
        time_ns: when.
        launch: its number, from 0.
        stream: where.
        requests: ids, the head first.
        key: of the head.
        reason: why now: a code of `scheduling.decisions.SelectionReason`.
        values: the numbers behind the reason: units taken, bound of units, nanoseconds the head had waited.
        busy: graphs without a free instance then, sorted; they were passed over.
        above: key of the launch that was interrupted, or None.
        depth: requests left in the queue.
        state: digest of the state after it.
    """

    time_ns: int
    launch: int
    stream: int
    requests: tuple[str, ...]
    key: tuple[int, ...]
    reason: str
    values: tuple[int, ...]
    busy: tuple[str, ...]
    above: tuple[int, ...] | None
    depth: int
    state: bytes


class Held(msgspec.Struct, frozen=True, array_like=True, tag="held", gc=False):
    """A stream stayed idle so that a launch could fill up.

    Attributes:
        time_ns: when it was decided.
        stream: which stayed idle.
        request: id of the head of the launch that is waited for.
        until_ns: when the waiting ends at the latest.
        waiting: requests that would have shared the launch.
        units: of the bound that they take.
        busy: graphs without a free instance then, sorted.
    """

    time_ns: int
    stream: int
    request: str
    until_ns: int
    waiting: int
    units: int
    busy: tuple[str, ...]


class LaunchStart(msgspec.Struct, frozen=True, array_like=True, tag="launch", gc=False):
    """A launch began on its stream."""

    time_ns: int
    launch: int


class Boundary(msgspec.Struct, frozen=True, array_like=True, tag="boundary", gc=False):
    """A launch is between two segments; `segment` comes next."""

    time_ns: int
    launch: int
    segment: int


class Finish(msgspec.Struct, frozen=True, array_like=True, tag="finish", gc=False):
    """A launch is over. `outcomes`: pairs of request id and word (`ok`, `failed`, `cancelled`, ...)."""

    time_ns: int
    launch: int
    outcomes: tuple[tuple[str, str], ...]
    depth: int


class Cancellation(msgspec.Struct, frozen=True, array_like=True, tag="cancel", gc=False):
    """A request was cancelled. `launch`: None when it was in the queue, else the launch it is part of."""

    time_ns: int
    request: str
    launch: int | None
    depth: int


class Expiry(msgspec.Struct, frozen=True, array_like=True, tag="expire", gc=False):
    """A request left the queue because it could no longer start (`start_by`) or end (`deadline`) in time."""

    time_ns: int
    request: str
    cause: str
    due_ns: int
    depth: int


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refuse"):
    """A request was turned away. `reason` is a code, `fields` its values."""

    time_ns: int
    request: RequestFacts
    reason: str
    fields: dict[str, Any]


class Promise(msgspec.Struct, frozen=True, array_like=True, tag="promise"):
    """Admission promised that a request ends at most `bound_ns` after it arrived."""

    time_ns: int
    request: str
    bound_ns: int
    fields: dict[str, Any]


class Breach(msgspec.Struct, frozen=True, array_like=True, tag="breach"):
    """A promise was broken: how late, and the cause as a code."""

    time_ns: int
    request: str
    late_ns: int
    cause: str
    fields: dict[str, Any]


class Routing(msgspec.Struct, frozen=True, array_like=True, tag="route"):
    """A request was sent to a version, instance or worker.

    Attributes:
        time_ns: when.
        request: its id.
        model: what it asked for.
        candidates: everything that was considered, in the order of consideration.
        rejected: pairs of candidate and reason, in that order.
        chosen: one of the candidates, or empty when none was left.
        reason: why the chosen one: a code.
        fields: the values behind the reason.
    """

    time_ns: int
    request: str
    model: str
    candidates: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]
    chosen: str
    reason: str
    fields: dict[str, Any]


Record: TypeAlias = (
    Segment
    | Snapshot
    | Arrival
    | Selection
    | Held
    | LaunchStart
    | Boundary
    | Finish
    | Cancellation
    | Expiry
    | Refusal
    | Promise
    | Breach
    | Routing
)
"""One entry of a log. Every kind begins with `time_ns`."""

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """The body of a record. Equal records give equal bytes."""
    return _encoder.encode(record)


def decode_record(body: bytes) -> Record:
    """The record of a body.

    Raises:
        RecordUnreadable: the bytes are not a record.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordUnreadable(schema=SCHEMA_VERSION, reason=str(error)[:200]) from error


def chain_digest(previous: bytes, body: bytes) -> bytes:
    """Digest of a record: SHA-256 over the digest of the record before it, then its body (32 bytes)."""
    return hashlib.sha256(previous + body).digest()
