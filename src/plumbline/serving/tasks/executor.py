"""`TaskExecutor`: runs queued tasks, a bounded number at once (requirement L4-44)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from plumbline.contracts.clock import Clock
from plumbline.contracts.requests import TenantId
from plumbline.errors import PlumblineError
from plumbline.serving.ports import EventService
from plumbline.serving.tasks.claim import run_claim
from plumbline.serving.tasks.lease import Lease, publish_state
from plumbline.serving.tasks.options import TaskOptions
from plumbline.serving.tasks.queue import TaskQueue
from plumbline.serving.tasks.record import TaskRecord
from plumbline.serving.tasks.store import TaskStore
from plumbline.serving.tasks.upkeep import TaskUpkeep
from plumbline.serving.tasks.work import TaskWork

__all__ = ["TaskExecutor"]

_LOG = logging.getLogger(__name__)


class TaskExecutor:
    """Owns the slots of this gateway and the leases of what runs in them.

    Args:
        store: where tasks are.
        queue: what runs next.
        work: what is done for a task.
        events: told of every change.
        clock: time.
        options: bounds.
        steps: progress counter of the workers.
    """

    def __init__(
        self,
        store: TaskStore,
        queue: TaskQueue,
        work: TaskWork,
        events: EventService,
        clock: Clock,
        options: TaskOptions,
        steps: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store, self._queue, self._work = store, queue, work
        self._events, self._clock, self._options, self._steps = events, clock, options, steps
        self._upkeep = TaskUpkeep(store, events, clock, options)
        self._leases: dict[tuple[TenantId, str], Lease] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def running(self) -> int:
        """Tasks that run here now."""
        return len(self._leases)

    async def start(self) -> None:
        """Start the slots and the upkeep."""
        self._stopping = False
        self._loops = [asyncio.create_task(self._slot()) for _ in range(self._options.slots)]
        self._loops.append(asyncio.create_task(self._maintain()))

    async def stop(self, *, drain: bool, timeout_s: float) -> None:
        """Claim nothing more; finish what runs (drain) or give it back to the queue, then end.

        What is not done after `timeout_s` is given back too: another gateway, or the next start, runs it.
        """
        self._stopping = True
        self._queue.ring()
        if drain:
            await self._until_idle(timeout_s)
        for lease in list(self._leases.values()):
            lease.ask_release()
        await self._until_idle(self._options.beat_s + 1.0)
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops = []

    def cancel(self, record: TaskRecord) -> None:
        """End a task that runs here at once; elsewhere its executor finds the wish in the store."""
        lease = self._leases.get((record.tenant, record.id))
        if lease is not None:
            lease.cancel_locally()

    async def _slot(self) -> None:
        while not self._stopping:
            try:
                claimed = await self._queue.claim()
                if claimed is None:
                    await self._queue.wait(self._options.poll_s)
                    continue
                await self._run(claimed)
            except PlumblineError as error:
                await self._trouble(error)
            except Exception:  # noqa: BLE001 - our bug: one slot pauses, the gateway stays
                _LOG.exception("a slot of the task executor failed; it goes on")
                await asyncio.sleep(self._options.poll_s)

    async def _run(self, claimed: TaskRecord) -> None:
        lease = Lease(claimed, self._store, self._events, self._clock)
        key = (claimed.tenant, claimed.id)
        self._leases[key] = lease
        publish_state(self._events, claimed)
        try:
            if self._stopping:
                lease.ask_release()
            await run_claim(lease, self._work, self._store, self._options, self._clock, self._steps)
        finally:
            self._leases.pop(key, None)

    async def _maintain(self) -> None:
        while not self._stopping:
            try:
                if await self._upkeep.run_once():
                    self._queue.ring()
            except PlumblineError as error:
                await self._trouble(error)
            await asyncio.sleep(max(0.05, self._options.lease_s / 4))

    async def _trouble(self, error: PlumblineError) -> None:
        _LOG.warning("task store: %s", error.message)
        await asyncio.sleep(max(self._options.poll_s, getattr(error, "retry_after_s", 0.0)))

    async def _until_idle(self, timeout_s: float) -> None:
        end_s = asyncio.get_running_loop().time() + timeout_s
        while self._leases and asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(0.01)
