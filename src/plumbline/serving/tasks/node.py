"""`TaskNode`: the parts of one gateway that have to do with tasks, wired to each other."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from plumbline.contracts.clock import Clock
from plumbline.serving.devices.allocator import DeviceAllocator
from plumbline.serving.ports import EventService, InferenceService, ModelDirectory
from plumbline.serving.tasks.executor import TaskExecutor
from plumbline.serving.tasks.options import TaskOptions
from plumbline.serving.tasks.queue import TaskQueue
from plumbline.serving.tasks.service import TaskManager
from plumbline.serving.tasks.store import TaskStore
from plumbline.serving.tasks.work import TaskWork

__all__ = ["TaskNode", "wire_tasks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNode:
    """One gateway's task service and its executor. Start it on the event loop, stop it before the store."""

    manager: TaskManager
    executor: TaskExecutor

    async def start(self) -> None:
        """Run what is queued."""
        await self.executor.start()

    async def stop(self, *, drain: bool, timeout_s: float) -> None:
        """Accept nothing more, then finish what runs, or give it back."""
        self.manager.close()
        await self.executor.stop(drain=drain, timeout_s=timeout_s)


def wire_tasks(
    *,
    store: TaskStore,
    inference: InferenceService,
    models: ModelDirectory,
    allocator: DeviceAllocator,
    events: EventService,
    clock: Clock,
    options: TaskOptions | None = None,
    steps: Callable[[], int] = lambda: 0,
    owner: str = "",
) -> TaskNode:
    """A node over chosen implementations.

    Args:
        store: shared by the gateways that share work.
        inference: runs calls.
        models: which models there are.
        allocator: devices; of `DeviceManager`.
        events: told of every change.
        clock: time.
        options: bounds.
        steps: progress counter of the workers, such as the sum of `WorkerStatus.steps`.
        owner: name of this gateway, unique among those of the store; made up where empty.
    """
    chosen = options or TaskOptions()
    queue = TaskQueue(store, clock, owner or f"g-{secrets.token_hex(8)}")
    work = TaskWork(inference, models, allocator, chosen, clock)
    executor = TaskExecutor(store, queue, work, events, clock, chosen, steps)
    manager = TaskManager(store, queue, models, allocator, events, clock, chosen, on_cancel=executor.cancel)
    return TaskNode(manager=manager, executor=executor)
