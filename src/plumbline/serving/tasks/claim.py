"""One claim of a task: its work against cancellation, deadline, and the loss of its lease (L4-44, L4-46)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from plumbline.contracts.clock import Clock
from plumbline.errors import PlumblineError
from plumbline.serving.storage.refusals import StoreBusy, StoreUnavailable
from plumbline.serving.tasks.lease import Lease, LeaseLost
from plumbline.serving.tasks.lifecycle import TaskEvent
from plumbline.serving.tasks.options import TaskOptions
from plumbline.serving.tasks.record import TaskRecord
from plumbline.serving.tasks.refusals import TaskCrashed, TaskTimedOut
from plumbline.serving.tasks.store import BodyKind, TaskStore
from plumbline.serving.tasks.work import Finished, TaskWork

__all__ = ["run_claim"]


class _Stop(StrEnum):
    """Why the work is ended before its result."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    RELEASED = "released"
    LOST = "lost"


async def run_claim(
    lease: Lease,
    work: TaskWork,
    store: TaskStore,
    options: TaskOptions,
    clock: Clock,
    steps: Callable[[], int],
) -> None:
    """Bring a claimed task to exactly one end, or give it back.

    Args:
        lease: of the claim.
        work: what is done.
        store: where the body is.
        options: bounds.
        clock: time.
        steps: progress counter of the workers; a task is stalled when neither it nor the stage moves.
    """
    deadline_ns = _deadline_ns(lease.record, clock)
    working = asyncio.create_task(_work(lease, work, store, deadline_ns))
    watching = asyncio.create_task(_watch(lease, options, clock, deadline_ns, steps))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await _settle(lease, working, options, _is_over(deadline_ns, clock))
        else:
            await _stop(lease, working, watching.result(), clock)
    finally:
        await _end_quietly(working)
        await _end_quietly(watching)


async def _work(lease: Lease, work: TaskWork, store: TaskStore, deadline_ns: int | None) -> Finished:
    record = lease.record
    body = await store.body(record.tenant, record.id, BodyKind.REQUEST)
    if body is None:
        raise LeaseLost
    return await work.run(record, body, deadline_ns, lease.reach)


async def _watch(
    lease: Lease, options: TaskOptions, clock: Clock, deadline_ns: int | None, steps: Callable[[], int]
) -> _Stop:
    seen, seen_ns = (lease.record.stage, steps()), clock.now_ns()
    signed_ns = clock.now_ns()
    while True:
        await _wait(lease, options.beat_s, clock, deadline_ns)
        if lease.release_wanted:
            return _Stop.RELEASED
        if _is_over(deadline_ns, clock):
            return _Stop.EXPIRED
        try:
            if (lease.record.stage, steps()) != seen:
                seen, seen_ns = (lease.record.stage, steps()), clock.now_ns()
            if clock.now_ns() - seen_ns >= options.stall_s * 1e9 and not lease.record.stalled:
                await lease.report_stall()
            else:
                await lease.update()
            signed_ns = clock.now_ns()
        except LeaseLost:
            return _Stop.LOST
        except (StoreUnavailable, StoreBusy):
            if clock.now_ns() - signed_ns >= options.lease_s * 1e9:
                return _Stop.LOST  # others may have it by now: what goes on here would not count
        if lease.record.cancel_requested:
            return _Stop.CANCELLED


async def _wait(lease: Lease, beat_s: float, clock: Clock, deadline_ns: int | None) -> None:
    left_s = beat_s if deadline_ns is None else (deadline_ns - clock.now_ns()) / 1e9
    try:
        async with asyncio.timeout(max(0.0, min(beat_s, left_s))):
            await lease.interrupted.wait()
        lease.interrupted.clear()
    except TimeoutError:
        return


async def _settle(lease: Lease, working: asyncio.Task[Finished], options: TaskOptions, is_over: bool) -> None:
    try:
        finished = working.result()
    except LeaseLost:
        return
    except PlumblineError as error:
        event = TaskEvent.EXPIRE if is_over else TaskEvent.FAIL
        await _end(lease, options, event, error=error.to_dict())
    except Exception as error:  # noqa: BLE001 - the task fails as our bug, the executor goes on
        crashed = TaskCrashed(kind=type(error).__name__)
        await _end(lease, options, TaskEvent.FAIL, error=crashed.to_dict())
    else:
        await _end(lease, options, TaskEvent.SUCCEED, result=finished.result, **finished.changes)


async def _stop(lease: Lease, working: asyncio.Task[Finished], reason: _Stop, clock: Clock) -> None:
    await _end_quietly(working)  # the allocation is released and the inference cancelled before the end shows
    match reason:
        case _Stop.LOST:
            return
        case _Stop.RELEASED:
            await _end(lease, None, TaskEvent.RELEASE)
        case _Stop.CANCELLED:
            await _end(lease, None, TaskEvent.CANCEL)
        case _Stop.EXPIRED:
            error = TaskTimedOut(timeout_s=_timeout_s(lease.record), where="running")
            await _end(lease, None, TaskEvent.EXPIRE, error=error.to_dict())


async def _end(lease: Lease, options: TaskOptions | None, event: TaskEvent, **changes: Any) -> None:
    """Write the end; a store that does not answer is asked again for as long as the lease could last."""
    tries = 1 if options is None else max(1, int(options.lease_s))
    for left in range(tries, 0, -1):
        try:
            await lease.end(event, **changes)
            return
        except LeaseLost:
            return
        except (StoreUnavailable, StoreBusy) as error:
            if left == 1:
                return  # it stays `running` in the store, and whoever finds its lease lapsed runs it again
            await asyncio.sleep(error.retry_after_s)


async def _end_quietly(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; its outcome no longer matters."""
    if not task.done():
        task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _deadline_ns(record: TaskRecord, clock: Clock) -> int | None:
    if record.deadline_wall_ns is None:
        return None
    return clock.now_ns() + record.deadline_wall_ns - clock.wall_ns()


def _is_over(deadline_ns: int | None, clock: Clock) -> bool:
    return deadline_ns is not None and clock.now_ns() >= deadline_ns


def _timeout_s(record: TaskRecord) -> float:
    return ((record.deadline_wall_ns or 0) - record.accepted_wall_ns) / 1e9
