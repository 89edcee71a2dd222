"""Reading and checking a trace: schema, field types, and the pairs that must match."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.errors import ArtifactError
from plumbline.telemetry.points import POINT_CLASSES, SCHEMA_VERSION, TracePoint

MAX_TEXT = 1024
MAX_LINE = 16_384


@dataclass(eq=False, kw_only=True)
class TraceInvalidError(ArtifactError):
    """A trace does not follow its schema or contradicts itself. `line` counts from 1; 0 means the end."""

    code = "artifact.trace_invalid"
    owner = "telemetry"
    template = "trace line {line}: {reason}"

    line: int
    reason: str


def read_trace(lines: Iterable[str]) -> list[TracePoint]:
    """Parse JSON lines into points; each line must follow the schema.

    Raises:
        TraceInvalidError: a line does not.
    """
    return [_parse_line(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def verify_trace(points: Sequence[TracePoint]) -> None:
    """Check that a trace agrees with itself.

    An event is recorded before it is waited for; a completion's latency is its time after the submission when
    the trace has one; tensors are allocated before they are freed, once, and nothing stays allocated at the
    end; a policy names its reason.

    Raises:
        TraceInvalidError: at the first contradiction.
    """
    recorded: set[str] = set()
    submitted: dict[str, int] = {}
    live: Counter[str] = Counter()
    for number, point in enumerate(points, start=1):
        reason = _contradiction(point, recorded, submitted, live)
        if reason is not None:
            raise TraceInvalidError(line=number, reason=reason)
    remaining = sorted(tensor for tensor, count in live.items() if count)
    if remaining:
        raise TraceInvalidError(line=0, reason=f"tensor {remaining[0]!r} was never deallocated")


def _contradiction(
    point: TracePoint, recorded: set[str], submitted: dict[str, int], live: Counter[str]
) -> str | None:
    fields = {f.name: getattr(point, f.name) for f in dataclasses.fields(point)}
    match point.event:
        case "request_submitted":
            submitted[fields["request_id"]] = point.timestamp_ns
        case "policy_selection" if not fields["reason"].strip():
            return "a policy selection must say why"
        case "event_record":
            recorded.add(fields["event_id"])
        case "event_wait" if fields["event_id"] not in recorded:
            return f"event {fields['event_id']!r} is waited for before it was recorded"
        case "completion" if fields["request_id"] in submitted:
            latency = point.timestamp_ns - submitted[fields["request_id"]]
            if latency != fields["latency_ns"]:
                return f"latency {fields['latency_ns']} should be {latency}"
        case "allocation":
            live[fields["tensor"]] += 1
            if live[fields["tensor"]] > 1:
                return f"tensor {fields['tensor']!r} is allocated twice"
        case "deallocation":
            live[fields["tensor"]] -= 1
            if live[fields["tensor"]] < 0:
                return f"tensor {fields['tensor']!r} is freed before it was allocated"
    return None


def _parse_line(number: int, line: str) -> TracePoint:
    if len(line) > MAX_LINE:
        raise TraceInvalidError(line=number, reason=f"longer than {MAX_LINE} characters")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TraceInvalidError(line=number, reason="not JSON") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA_VERSION:
        raise TraceInvalidError(line=number, reason=f"not an object of schema {SCHEMA_VERSION}")
    kind = POINT_CLASSES.get(str(document.get("event")))
    if kind is None:
        raise TraceInvalidError(line=number, reason=f"unknown event {document.get('event')!r:.60}")
    values = {name: value for name, value in document.items() if name not in ("schema", "event")}
    if "timestamp" in values:
        values["timestamp_ns"] = values.pop("timestamp")
    _verify_fields(number, kind, values)
    return kind(**values)


def _verify_fields(number: int, kind: type[TracePoint], values: Mapping[str, Any]) -> None:
    expected = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(values.keys() - expected.keys())
    if unknown:
        raise TraceInvalidError(line=number, reason=f"{kind.event} has no field {unknown[0]!r:.60}")
    for name, field in expected.items():
        optional = field.default is not dataclasses.MISSING
        if name not in values:
            if optional:
                continue
            raise TraceInvalidError(line=number, reason=f"{kind.event} lacks {name}")
        if not _is_allowed(values[name], str(field.type)):
            raise TraceInvalidError(line=number, reason=f"{name} has the wrong type or size")


def _is_allowed(value: object, declared: str) -> bool:
    if declared.startswith("int"):
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str) and len(value) <= MAX_TEXT
