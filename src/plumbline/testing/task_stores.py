"""The suite that every `TaskStore` passes. Inherit it and say how to open one:

class TestMyStore(TaskStoreConformance):
    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[TaskStore]:
        yield MyStore()
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.scheduling.request import ExecutionRequest
from plumbline.serving.tasks.lifecycle import TaskEvent, apply
from plumbline.serving.tasks.queue import TaskQueue
from plumbline.serving.tasks.record import TaskRecord, TaskState
from plumbline.serving.tasks.store import BodyKind, QueueLimits, TaskQueueFull, TaskStore

__all__ = ["TaskStoreConformance", "queued_record"]

A, B = TenantId("a"), TenantId("b")
HOSTILE = "'; DROP TABLE tasks; -- \" \\ % _ <script>alert(1)</script> \u0000 \u202e \U0001f600"


def queued_record(task: str, sequence: int, *, tenant: TenantId = A, **fields: Any) -> TaskRecord:
    """A task as it is when it was just accepted."""
    accepted = TaskRecord(
        tenant=tenant,
        id=task,
        sequence=sequence,
        state=TaskState.ACCEPTED,
        model="m",
        request_digest="d",
        accepted_wall_ns=sequence,
        **fields,
    )
    return apply(accepted, TaskEvent.ENQUEUE, wall_ns=sequence)


class TaskStoreConformance(ABC):
    """What a store promises. Requirements L4-42, L4-43, L4-47, L4-74, X-57, X-63."""

    @abstractmethod
    def open_store(self) -> AbstractAsyncContextManager[TaskStore]:
        """An empty store."""

    def _run(self, test: Callable[[TaskStore], Awaitable[None]]) -> None:
        async def opened() -> None:
            async with asyncio.timeout(60), self.open_store() as store:
                await test(store)

        asyncio.run(opened())

    def test_a_task_that_was_inserted_is_found_with_its_body(self) -> None:
        """What was accepted is kept as it was."""

        async def test(store: TaskStore) -> None:
            record = queued_record("x", 1, priority=7, name="n", device="cpu", deadline_wall_ns=9)
            inserted = await store.insert(record, '{"a":1}', QueueLimits())
            assert inserted.created
            assert await store.find(A, "x") == inserted.record == record
            assert await store.body(A, "x", BodyKind.REQUEST) == '{"a":1}'
            assert await store.body(A, "x", BodyKind.RESULT) is None

        self._run(test)

    def test_a_tenant_does_not_find_the_task_of_another(self) -> None:
        """X-63; and two tenants may use one id."""

        async def test(store: TaskStore) -> None:
            await store.insert(queued_record("x", 1), "a's", QueueLimits())
            assert await store.find(B, "x") is None
            assert await store.body(B, "x", BodyKind.REQUEST) is None
            assert (await store.insert(queued_record("x", 2, tenant=B), "b's", QueueLimits())).created
            assert await store.body(A, "x", BodyKind.REQUEST) == "a's"
            assert [r.tenant for r in await store.page(B, state=None, limit=9, after=None)] == [B]

        self._run(test)

    def test_an_id_that_is_taken_gives_the_task_that_has_it(self) -> None:
        """Ten at once: one creates, nine find."""

        async def test(store: TaskStore) -> None:
            def attempt(n: int) -> Any:
                return store.insert(queued_record("x", n, name=str(n)), str(n), QueueLimits())

            inserted = await asyncio.gather(*[attempt(n) for n in range(10)])
            assert sum(i.created for i in inserted) == 1
            assert len({i.record.name for i in inserted}) == 1
            assert await store.body(A, "x", BodyKind.REQUEST) == inserted[0].record.name

        self._run(test)

    def test_an_exchange_of_what_changed_meanwhile_changes_nothing(self) -> None:
        """The compare-and-set: of ten that start from one revision, one wins, with its result."""

        async def test(store: TaskStore) -> None:
            record = await _running(store, "x")

            def attempt(n: int) -> Any:
                after = apply(record, TaskEvent.SUCCEED, wall_ns=5, served_by=str(n))
                return store.exchange(record, after, result=str(n))

            won = [stored for stored in await asyncio.gather(*[attempt(n) for n in range(10)]) if stored]
            assert len(won) == 1
            assert won[0].revision == record.revision + 1
            assert await store.find(A, "x") == won[0]
            assert await store.body(A, "x", BodyKind.RESULT) == won[0].served_by

        self._run(test)

    def test_an_exchange_for_an_unknown_task_is_lost(self) -> None:
        """Nothing appears."""

        async def test(store: TaskStore) -> None:
            assert await store.exchange(queued_record("x", 1), queued_record("x", 1)) is None
            assert await store.find(A, "x") is None

        self._run(test)

    def test_hostile_text_is_kept_verbatim(self) -> None:
        """X-57, X-58: text of clients is a value, never a part of a statement."""

        async def test(store: TaskStore) -> None:
            record = queued_record("x", 1, name=HOSTILE, device=HOSTILE, submitted_by=HOSTILE)
            await store.insert(record, '"body"', QueueLimits())
            assert await store.find(A, "x") == record
            for hostile in ("' OR '1'='1", "x'; DELETE FROM tasks; --", "%", "_"):
                assert await store.find(A, hostile) is None
                assert await store.find(TenantId(hostile), "x") is None
            assert await store.depth() == 1

        self._run(test)

    def test_tasks_leave_the_queue_in_the_order_of_the_priority_policy(self) -> None:
        """L4-43: claim after claim, the order is that of `scheduling.policies.priority`."""

        async def test(store: TaskStore) -> None:
            rng = random.Random(7)
            records = [queued_record(f"t{n}", n + 1, priority=rng.randrange(10)) for n in range(40)]
            for record in rng.sample(records, len(records)):
                await store.insert(record, "{}", QueueLimits())
            policy, queue = PriorityPolicy(), TaskQueue(store, FakeClock(), "w")
            keys = {
                record.id: policy.enter(
                    ExecutionRequest(
                        id=RequestId(record.id), graph="m@1", tenant=A, priority=record.priority
                    ),
                    record.sequence,
                )
                for record in records
            }
            claimed = [await queue.claim() for _ in records]
            assert [r.id for r in claimed if r] == sorted(keys, key=keys.__getitem__)
            assert await queue.claim() is None

        self._run(test)

    def test_no_task_is_claimed_twice(self) -> None:
        """Eight executors of two gateways; every claim starts generation 1."""

        async def test(store: TaskStore) -> None:
            for n in range(24):
                await store.insert(queued_record(f"t{n}", n), "{}", QueueLimits())
            queues = [TaskQueue(store, FakeClock(), f"w{n % 2}") for n in range(8)]
            claimed: list[TaskRecord] = []

            async def take_all(queue: TaskQueue) -> None:
                while (record := await queue.claim()) is not None:
                    claimed.append(record)

            await asyncio.gather(*[take_all(queue) for queue in queues])
            assert sorted(r.id for r in claimed) == sorted(f"t{n}" for n in range(24))
            assert {r.generation for r in claimed} == {1}
            assert {r.id for r in await store.running(99)} == {r.id for r in claimed}

        self._run(test)

    def test_a_full_queue_refuses_with_its_numbers(self) -> None:
        """Per tenant and in all; what was refused is not kept."""

        async def test(store: TaskStore) -> None:
            limits = QueueLimits(queued=3, queued_of_tenant=2, retry_after_s=0.5)
            for n in range(2):
                await store.insert(queued_record(f"a{n}", n), "{}", limits)
            with pytest.raises(TaskQueueFull, match="2 tasks wait for this tenant") as caught:
                await store.insert(queued_record("a2", 3), "{}", limits)
            assert caught.value.retry_after_s == 0.5
            await store.insert(queued_record("b0", 4, tenant=B), "{}", limits)
            with pytest.raises(TaskQueueFull, match="3 tasks wait in all"):
                await store.insert(queued_record("b1", 5, tenant=B), "{}", limits)
            assert await store.find(A, "a2") is None
            assert await store.depth() == 3

        self._run(test)

    def test_tasks_are_counted_in_every_state(self) -> None:
        """Of all tenants; a state without any is there too."""

        async def test(store: TaskStore) -> None:
            assert await store.counts() == dict.fromkeys(TaskState, 0)
            for n in range(3):
                await store.insert(queued_record(f"a{n}", n), "{}", QueueLimits())
            await store.insert(queued_record("b", 4, tenant=B), "{}", QueueLimits())
            first = queued_record("a0", 0)
            claimed = await store.exchange(first, apply(first, TaskEvent.CLAIM, wall_ns=1))
            assert claimed is not None
            assert await store.exchange(claimed, apply(claimed, TaskEvent.SUCCEED, wall_ns=2), result="{}")
            counts = await store.counts()
            assert counts[TaskState.QUEUED] == await store.depth() == 3
            assert counts[TaskState.SUCCEEDED] == 1
            assert sum(counts.values()) == 4

        self._run(test)

    def test_pages_are_newest_first_and_meet_without_gap_or_overlap(self) -> None:
        """Also while new tasks come."""

        async def test(store: TaskStore) -> None:
            for n in range(7):
                await store.insert(queued_record(f"t{n}", 10 + n), "{}", QueueLimits())
            first = await store.page(A, state=None, limit=3, after=None)
            await store.insert(queued_record("late", 99), "{}", QueueLimits())
            cursor = (first[-1].sequence, first[-1].id)
            rest = await store.page(A, state=None, limit=9, after=cursor)
            assert [r.id for r in (*first, *rest)] == ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]
            assert await store.page(A, state=TaskState.FAILED, limit=9, after=None) == []

        self._run(test)

    def test_overdue_tasks_are_the_queued_ones_whose_time_is_over(self) -> None:
        """Running ones are watched by their executor."""

        async def test(store: TaskStore) -> None:
            await _running(store, "runs", deadline_wall_ns=5)
            await store.insert(queued_record("late", 2, deadline_wall_ns=5), "{}", QueueLimits())
            await store.insert(queued_record("early", 3, deadline_wall_ns=6), "{}", QueueLimits())
            await store.insert(queued_record("never", 4), "{}", QueueLimits())
            assert [r.id for r in await store.overdue(5, 9)] == ["late"]

        self._run(test)

    def test_a_purge_forgets_what_ended_before_and_nothing_else(self) -> None:
        """Bodies go with the task; the id is free again."""

        async def test(store: TaskStore) -> None:
            for n, wall_ns in enumerate((10, 20)):
                record = await _running(store, f"t{n}")
                await store.exchange(record, apply(record, TaskEvent.SUCCEED, wall_ns=wall_ns), result="r")
            await store.insert(queued_record("waits", 1), "{}", QueueLimits())
            assert await store.purge(20, 99) == 1
            assert await store.find(A, "t0") is None
            assert await store.body(A, "t0", BodyKind.RESULT) is None
            assert await store.find(A, "t1") is not None
            assert await store.find(A, "waits") is not None
            assert (await store.insert(queued_record("t0", 2), "{}", QueueLimits())).created

        self._run(test)


async def _running(store: TaskStore, task: str, **fields: Any) -> TaskRecord:
    record = queued_record(task, 1, **fields)
    await store.insert(record, "{}", QueueLimits())
    claimed = dataclasses.replace(apply(record, TaskEvent.CLAIM, wall_ns=2), owner="w")
    stored = await store.exchange(record, claimed)
    assert stored is not None
    return stored
