"""`TaskManager`: the whole life of a task, for its tenant (requirement L4-42)."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plumbline.contracts.clock import Clock
from plumbline.contracts.identity import Principal
from plumbline.serving.devices.allocator import DeviceAllocator
from plumbline.serving.observability.trace_context import new_span_id, open_context
from plumbline.serving.ports import EventService, ModelDirectory, TaskView
from plumbline.serving.tasks.documents import view_of
from plumbline.serving.tasks.lease import publish_state
from plumbline.serving.tasks.lifecycle import TaskEvent, apply, is_terminal
from plumbline.serving.tasks.options import TaskOptions
from plumbline.serving.tasks.queue import TaskQueue
from plumbline.serving.tasks.record import TaskRecord, TaskState
from plumbline.serving.tasks.refusals import (
    TaskConflict,
    TaskModelUnknown,
    TaskQueryRefused,
    TasksStopping,
    TaskUnknown,
)
from plumbline.serving.tasks.request import (
    TaskRequest,
    canonical_request,
    digest_of,
    parse_request,
    verify_task_id,
)
from plumbline.serving.tasks.store import BodyKind, Cursor, TaskStore
from plumbline.serving.tasks.tensors import tensors_of

__all__ = ["TaskManager"]

_CURSOR = re.compile(r"([0-9]{1,19})-([A-Za-z0-9._-]{1,64})")
MAX_PAGE = 500
_LARGE = 1 << 16


class TaskManager:
    """`TaskService` over a store. Owns the last sequence number that it gave.

    Args:
        store: where tasks live.
        queue: rung when a task came.
        models: which models there are.
        allocator: which devices may be preferred.
        events: told of every change.
        clock: time.
        options: bounds.
        on_cancel: told of a running task whose tenant wants its end.
    """

    def __init__(
        self,
        store: TaskStore,
        queue: TaskQueue,
        models: ModelDirectory,
        allocator: DeviceAllocator,
        events: EventService,
        clock: Clock,
        options: TaskOptions,
        on_cancel: Callable[[TaskRecord], None] = lambda _record: None,
    ) -> None:
        self._store, self._queue, self._models, self._allocator = store, queue, models, allocator
        self._events, self._clock, self._options, self._on_cancel = events, clock, options, on_cancel
        self._sequence = 0
        self._stopping = False

    def close(self) -> None:
        """Accept nothing more; reading goes on."""
        self._stopping = True

    async def submit(
        self,
        principal: Principal,
        request: Mapping[str, Any],
        task_id: str | None = None,
        traceparent: str = "",
    ) -> TaskView:
        """Accept a task: once this returns, it is in the store and will be done or have a typed end.

        Raises:
            TaskRequestRefused, TaskRequestTooLarge, TaskModelUnknown: nothing was accepted.
            DevicePreferenceRefused: the preferred device cannot be had.
            TaskConflict: `task_id` has another request.
            TaskQueueFull: too many wait.
        """
        if self._stopping:
            raise TasksStopping()
        parsed, body = await asyncio.to_thread(_read, request, self._options.max_request_bytes)
        task = verify_task_id(task_id) if task_id is not None else f"t-{secrets.token_hex(12)}"
        record = self._accepted(principal, parsed, digest_of(body), task, traceparent)
        present = await self._store.find(principal.tenant, task) if task_id is not None else None
        if present is None:
            self._verify_possible(parsed)
            await asyncio.to_thread(tensors_of, parsed)
            inserted = await self._store.insert(record, body, self._options.limits)
            if inserted.created:
                return self._announce(inserted.record)
            present = inserted.record
        if present.request_digest != record.request_digest:
            raise TaskConflict(task=task)
        return await self._view(present)

    async def read(self, principal: Principal, task_id: str) -> TaskView:
        """A task with its result.

        Raises:
            TaskUnknown: the tenant has no such task.
        """
        return await self._view(await self._find(principal, task_id))

    async def list(
        self, principal: Principal, *, state: str | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[TaskView], str | None]:
        """Tasks of the tenant without results, newest first, and the cursor of the next page.

        Raises:
            TaskQueryRefused: unknown state, damaged cursor, or a limit outside 1..500.
        """
        wanted, after = _state(state), _cursor(cursor)
        if not 1 <= limit <= MAX_PAGE:
            raise TaskQueryRefused(reason=f"`limit` is 1 to {MAX_PAGE}")
        found = await self._store.page(principal.tenant, state=wanted, limit=limit + 1, after=after)
        page = found[:limit]
        more = f"{page[-1].sequence}-{page[-1].id}" if len(found) > limit else None
        return [view_of(record) for record in page], more

    async def cancel(self, principal: Principal, task_id: str) -> TaskView:
        """Ask for the end of a task: at once when it is queued, else as soon as its work can be stopped.

        Raises:
            TaskUnknown: the tenant has no such task.
        """
        while True:
            record = await self._find(principal, task_id)
            if is_terminal(record.state) or record.cancel_requested:
                return await self._view(record)
            stored = await self._store.exchange(record, self._cancelled(record))
            if stored is not None:
                break
        if is_terminal(stored.state):
            publish_state(self._events, stored)
        else:
            self._on_cancel(stored)
        return await self._view(stored)

    def _cancelled(self, record: TaskRecord) -> TaskRecord:
        if record.state is TaskState.RUNNING:
            return dataclasses.replace(record, cancel_requested=True)
        return apply(record, TaskEvent.CANCEL, wall_ns=self._clock.wall_ns(), cancel_requested=True)

    def _accepted(
        self, principal: Principal, request: TaskRequest, digest: str, task: str, traceparent: str
    ) -> TaskRecord:
        wall_ns = self._clock.wall_ns()
        self._sequence = max(self._sequence + 1, wall_ns)
        own, caller_span = _trace_context(traceparent)
        timeout_s = request.timeout_s or self._options.default_timeout_s
        accepted = TaskRecord(
            tenant=principal.tenant,
            id=task,
            sequence=self._sequence,
            state=TaskState.ACCEPTED,
            model=request.model,
            version=request.version,
            request_digest=digest,
            accepted_wall_ns=wall_ns,
            priority=request.priority,
            name=request.name,
            operation=request.operation,
            device=request.device,
            submitted_by=principal.id,
            traceparent=own,
            caller_span=caller_span,
            deadline_wall_ns=wall_ns + round(timeout_s * 1e9),
        )
        return apply(accepted, TaskEvent.ENQUEUE, wall_ns=wall_ns)

    def _verify_possible(self, request: TaskRequest) -> None:
        if all(status.ref.model != request.model for status in self._models.statuses()):
            raise TaskModelUnknown(model=request.model)
        self._allocator.verify(request.device)

    def _announce(self, record: TaskRecord) -> TaskView:
        publish_state(self._events, dataclasses.replace(record, state=TaskState.ACCEPTED))
        publish_state(self._events, record)
        self._queue.ring()
        return view_of(record, created=True)

    async def _find(self, principal: Principal, task_id: str) -> TaskRecord:
        record = await self._store.find(principal.tenant, task_id)
        if record is None:
            raise TaskUnknown(task=task_id[:64])
        return record

    async def _view(self, record: TaskRecord) -> TaskView:
        result = None
        if record.state is TaskState.SUCCEEDED:
            result = await self._store.body(record.tenant, record.id, BodyKind.RESULT)
        if result is None or len(result) < _LARGE:
            return view_of(record, result=result)
        return await asyncio.to_thread(view_of, record, result=result)


def _read(document: Mapping[str, Any], max_bytes: int) -> tuple[TaskRequest, str]:
    """Off the event loop: a request may have megabytes (L4-57)."""
    request = parse_request(document)
    return request, canonical_request(request, max_bytes)


def _trace_context(given: str) -> tuple[str, str]:
    """The context of a task and the span of its caller: a span of its own in the caller's trace, or in a new
    one. Every hop of a task carries one trace id (L4-54), and no span has a parent that nobody tells of.
    """
    caller = open_context(given)
    own = f"00-{caller.trace_id:032x}-{new_span_id():016x}-{int(caller.is_sampled):02x}"
    return own, f"{caller.parent_id:016x}" if caller.parent_id else ""


def _state(text: str | None) -> TaskState | None:
    if text is None:
        return None
    try:
        return TaskState(text)
    except ValueError:
        states = ", ".join(TaskState)
        raise TaskQueryRefused(reason=f"`state` is one of {states}") from None


def _cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None or int(match[1]) >= 2**63:
        raise TaskQueryRefused(reason="`cursor` is what an earlier answer gave as `next`")
    return int(match[1]), match[2]
