"""The JSON form of a task: schema `TaskResponse` (requirement L4-53)."""

from __future__ import annotations

from typing import Any

import msgspec

from plumbline.contracts.clock import rfc3339
from plumbline.serving.ports import TaskView
from plumbline.serving.tasks.record import TaskRecord, request_id_of

__all__ = ["TASK_SCHEMA", "task_document", "trace_id_of", "view_of"]

TASK_SCHEMA = 1


def view_of(record: TaskRecord, *, result: str | None = None, created: bool = False) -> TaskView:
    """A task for its tenant, with the stored body of its result where it is wanted."""
    document = task_document(record, result=result)
    return TaskView(
        id=record.id, tenant=record.tenant, state=record.state.value, document=document, created=created
    )


def task_document(record: TaskRecord, *, result: str | None = None) -> dict[str, Any]:
    """Plain JSON values; times are RFC 3339 in UTC, `null` for what is not yet or unknown."""
    return {
        "schema": TASK_SCHEMA,
        "id": record.id,
        "name": record.name,
        "operation": record.operation,
        "model": record.model,
        "version": record.version,
        "status": record.state.value,
        "priority": record.priority,
        "progress": _progress(record),
        "cancel_requested": record.cancel_requested,
        "submitted_at": rfc3339(record.accepted_wall_ns),
        "started_at": _moment(record.started_wall_ns),
        "finished_at": _moment(record.finished_wall_ns),
        "expires_at": _moment(record.deadline_wall_ns),
        "submitted_by": record.submitted_by,
        "device_preference": record.device,
        "device": record.device_used or None,
        "allocation": dict(record.allocation) or None,
        "served_by": record.served_by or None,
        "cached": record.cached,
        "claims": record.generation,
        "request_id": request_id_of(record) if record.generation else None,
        "trace_id": trace_id_of(record.traceparent),
        "timing": dict(record.timing),
        "result_bytes": record.result_bytes,
        "result": None if result is None else msgspec.json.decode(result),
        "error": None if record.error is None else dict(record.error),
    }


def trace_id_of(traceparent: str) -> str | None:
    """The trace id of a W3C trace context.

    >>> trace_id_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    '4bf92f3577b34da6a3ce929d0e0e4736'
    """
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else None


def _progress(record: TaskRecord) -> dict[str, Any]:
    return {"stage": record.stage or record.state.value, "stalled": record.stalled}


def _moment(wall_ns: int | None) -> str | None:
    return None if wall_ns is None else rfc3339(wall_ns)
