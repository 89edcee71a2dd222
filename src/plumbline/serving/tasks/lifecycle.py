"""The life of a task: one table, one pure function (requirement L4-42).

accepted -> queued -> running -> succeeded | failed | cancelled | expired
               ^---------'  (its gateway let it go, or died)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from plumbline.errors import ValidationError
from plumbline.serving.tasks.record import TaskRecord, TaskState

__all__ = ["TERMINAL", "TRANSITIONS", "TaskEvent", "TaskTransitionRefused", "apply", "is_terminal"]


class TaskEvent(StrEnum):
    """What can happen to a task."""

    ENQUEUE = "enqueue"
    CLAIM = "claim"
    """An executor takes it; the generation grows, which fences whoever had it before."""
    RELEASE = "release"
    """Back to the queue: its gateway stops, or has lost its lease."""
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"


TRANSITIONS: dict[tuple[TaskState, TaskEvent], TaskState] = {
    (TaskState.ACCEPTED, TaskEvent.ENQUEUE): TaskState.QUEUED,
    (TaskState.ACCEPTED, TaskEvent.CANCEL): TaskState.CANCELLED,
    (TaskState.QUEUED, TaskEvent.CLAIM): TaskState.RUNNING,
    (TaskState.QUEUED, TaskEvent.CANCEL): TaskState.CANCELLED,
    (TaskState.QUEUED, TaskEvent.EXPIRE): TaskState.EXPIRED,
    (TaskState.RUNNING, TaskEvent.RELEASE): TaskState.QUEUED,
    (TaskState.RUNNING, TaskEvent.SUCCEED): TaskState.SUCCEEDED,
    (TaskState.RUNNING, TaskEvent.FAIL): TaskState.FAILED,
    (TaskState.RUNNING, TaskEvent.CANCEL): TaskState.CANCELLED,
    (TaskState.RUNNING, TaskEvent.EXPIRE): TaskState.EXPIRED,
}

TERMINAL = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED})


@dataclass(eq=False, kw_only=True)
class TaskTransitionRefused(ValidationError):
    """An event came in a state that has no transition for it. Nothing was changed."""

    code = "validation.task_transition"
    owner = "serving.tasks"
    http_status = 409
    template = "task {task!r} is {state}: {event} is not possible"

    task: str
    state: str
    event: str


def is_terminal(state: TaskState) -> bool:
    """Whether nothing more can happen."""
    return state in TERMINAL


def apply(record: TaskRecord, event: TaskEvent, *, wall_ns: int, **changes: Any) -> TaskRecord:
    """The record after an event. Pure; `revision` is the store's to change.

    Args:
        record: before.
        event: what happened.
        wall_ns: when.
        changes: fields that the event brings, such as `error` or `served_by`.

    Raises:
        TaskTransitionRefused: the table has no such transition.
    """
    after = TRANSITIONS.get((record.state, event))
    if after is None:
        raise TaskTransitionRefused(task=record.id, state=record.state.value, event=event.value)
    return dataclasses.replace(record, state=after, **_stamps(record, event, after, wall_ns), **changes)


def _stamps(record: TaskRecord, event: TaskEvent, after: TaskState, wall_ns: int) -> dict[str, Any]:
    if event is TaskEvent.CLAIM:
        return {"generation": record.generation + 1, "started_wall_ns": wall_ns}
    if event is TaskEvent.RELEASE:
        return {"owner": "", "started_wall_ns": None, "stage": "", "stalled": False}
    if is_terminal(after):
        return {"finished_wall_ns": wall_ns, "stage": "", "stalled": False}
    return {}
