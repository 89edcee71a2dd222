"""`TaskStore`: where tasks live. SQLite, Postgres and memory pass `plumbline.testing.task_stores`.

A store decides nothing: it compares a revision and sets a record. Every change is a pure `lifecycle.apply`
outside, so a change that lost a race is computed again from what is there now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from plumbline.contracts.requests import TenantId
from plumbline.errors import Recoverability, ResourceError
from plumbline.serving.tasks.record import TaskRecord, TaskState

__all__ = ["BodyKind", "Cursor", "Inserted", "QueueLimits", "TaskQueueFull", "TaskStore"]

Cursor = tuple[int, str]
"""(sequence, id) of the last task of a page."""


class BodyKind(StrEnum):
    """What is kept beside the record."""

    REQUEST = "request"
    RESULT = "result"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """Most tasks that wait: of all tenants together, and of one."""

    queued: int = 10_000
    queued_of_tenant: int = 2_000
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class TaskQueueFull(ResourceError):
    """As many tasks wait as may wait. Nothing was accepted."""

    code = "resource.task_queue_full"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.tasks"
    http_status = 429
    template = "{queued} tasks wait {whose}, the limit is {limit}; try again in {retry_after_s} s"

    queued: int
    limit: int
    whose: str
    retry_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Inserted:
    """The task under an id, and whether this call created it."""

    record: TaskRecord
    created: bool


class TaskStore(Protocol):
    """Durable tasks. Every method may raise `StoreUnavailable` or `StoreBusy` (transient)."""

    async def insert(self, record: TaskRecord, request: str, limits: QueueLimits) -> Inserted:
        """Keep a new task with its request body, or find the one that has its id: atomically.

        Raises:
            TaskQueueFull: too many wait. Nothing was kept.
        """

    async def exchange(
        self, before: TaskRecord, after: TaskRecord, *, result: str | None = None
    ) -> TaskRecord | None:
        """Replace `before` by `after` (and keep a result body) if nobody changed it since: atomically.

        Returns:
            What is stored now, with its new revision; None when the race was lost and nothing changed.
        """

    async def find(self, tenant: TenantId, task: str) -> TaskRecord | None:
        """A task of a tenant."""

    async def body(self, tenant: TenantId, task: str, kind: BodyKind) -> str | None:
        """A body of a task."""

    async def page(
        self, tenant: TenantId, *, state: TaskState | None, limit: int, after: Cursor | None
    ) -> Sequence[TaskRecord]:
        """Tasks of a tenant, newest first, from behind a cursor."""

    async def heads(self, limit: int) -> Sequence[TaskRecord]:
        """The tasks that run next: queued, highest priority first, then in order of acceptance."""

    async def running(self, limit: int) -> Sequence[TaskRecord]:
        """Tasks in state `running`, of every gateway."""

    async def overdue(self, wall_ns: int, limit: int) -> Sequence[TaskRecord]:
        """Queued tasks whose deadline is not later than `wall_ns`."""

    async def depth(self) -> int:
        """How many tasks are queued."""

    async def counts(self) -> Mapping[TaskState, int]:
        """How many tasks are in each state; every state is there."""

    async def purge(self, finished_before_wall_ns: int, limit: int) -> int:
        """Forget tasks that ended before, bodies included; returns how many."""
