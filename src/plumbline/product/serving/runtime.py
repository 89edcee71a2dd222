"""`open_runtime`: every part of a server, chosen and put together; started in order, stopped in reverse."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from plumbline.contracts.clock import Clock, MonotonicClock
from plumbline.contracts.records import Routing
from plumbline.errors import ResourceError
from plumbline.product.capabilities import offered_operators
from plumbline.product.serving.memory_limits import class_memory_bytes, usable_memory_bytes
from plumbline.product.serving.observing import Observation, open_observation
from plumbline.product.serving.options import ServeOptions
from plumbline.product.serving.plan_shelf import PlanShelf
from plumbline.product.serving.prepare import prepare_apart
from plumbline.product.serving.worker import make_scheduler, session_opener, worker_command
from plumbline.product.serving.worker_trace import WorkerTrace
from plumbline.scheduling.policies.registry import open_policy, policy_opener
from plumbline.serving.decisions import LoggedDecisions
from plumbline.serving.devices.discovery import HardwareDevices
from plumbline.serving.devices.inventory import DeviceManager
from plumbline.serving.events.bus import EventBus
from plumbline.serving.health import EngineHealth
from plumbline.serving.identity.authentication import ApiKeyAuthenticator
from plumbline.serving.identity.key_ring import KeyRing
from plumbline.serving.identity.key_store import SqlKeyStore
from plumbline.serving.models.autoscaler import Autoscaler
from plumbline.serving.models.directory import Directory
from plumbline.serving.models.kept_rollouts import KeptRollouts
from plumbline.serving.models.scaling import ScalingPolicy
from plumbline.serving.models.service import RoutedInference
from plumbline.serving.open_inference.limits import TensorLimits
from plumbline.serving.ports import EventService, InferenceService, WorkerPool
from plumbline.serving.repository.folder import FolderRepository
from plumbline.serving.repository.http_client import HttpRepository
from plumbline.serving.repository.port import Repository
from plumbline.serving.storage.database import open_database, sqlite_url
from plumbline.serving.tasks.node import TaskNode, wire_tasks
from plumbline.serving.tasks.sql_store import SqlTaskStore
from plumbline.serving.tasks.watched_store import WatchedTaskStore
from plumbline.serving.workers.grouped import GroupedPool
from plumbline.serving.workers.groups import MODELS
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.telemetry.decision_log import DecisionLog

__all__ = ["Runtime", "open_runtime"]


@dataclass(eq=False, kw_only=True)
class StateFolderRefused(ResourceError):
    """The private folder of the server cannot be written."""

    code = "resource.state_folder"
    owner = "product"
    template = "the state folder cannot be written: {reason}; choose one with --state"

    reason: str


_KEPT_LOGS = 5
_FOR_WARM_UP = 1
"""Places in the queue of a worker that callers cannot fill, so that a version can be loaded under load."""
_TASK_DRAIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The parts of a running server that its doors are made of."""

    options: ServeOptions
    clock: Clock
    events: EventService
    pool: WorkerPool
    directory: Directory
    inference: InferenceService
    tasks: TaskNode
    devices: DeviceManager
    decisions: LoggedDecisions
    health: EngineHealth
    plans: PlanShelf
    keys: KeyRing
    authenticator: ApiKeyAuthenticator | None
    logs: Path
    observation: Observation


@asynccontextmanager
async def open_runtime(options: ServeOptions) -> AsyncIterator[Runtime]:
    """Start workers and store; leaving drains and stops them.

    Models are not loaded and no task runs yet: `run_server` sees to both while the doors are open and
    readiness is false. A task that an earlier run left would find no model before that.

    Raises:
        PlumblineError: whatever part cannot be had.
    """
    open_policy(options.worker.policy)  # refused here rather than in every worker
    clock = MonotonicClock()
    async with AsyncExitStack() as stack:
        folder = _server_folder(options.state)
        observation = await stack.enter_async_context(open_observation(options, clock, folder))
        events = observation.events(EventBus(clock))
        routes = DecisionLog(_made(folder / "logs" / "gateway"), "routes")
        stack.callback(routes.close)
        record_route = observation.record_routes(routes)
        pool = _pool(options, folder / "logs", events, record_route, stack)
        await pool.start()
        stack.push_async_callback(pool.stop, drain=True, timeout_s=options.drain_timeout_s)
        repository = open_repository(options)
        if isinstance(repository, HttpRepository):
            stack.callback(repository.close)
        plans = PlanShelf(folder / "plans")
        stack.push_async_callback(plans.close)
        rollouts = KeptRollouts(options.state / "rollouts.json")
        directory = Directory(
            repository,
            pool,
            prepare=partial(prepare_apart, allow_code=options.worker.allow_code, plans=plans),
            copies=folder / "copies",
            clock=clock,
            announce=events.publish,
            rollouts=rollouts,
            max_inputs=TensorLimits().max_tensors,
        )
        stack.push_async_callback(directory.close)
        routed = RoutedInference(directory, pool, clock, record=record_route)
        inference = observation.inference(routed)
        database = await open_database(options.database or sqlite_url(options.state / "store.sqlite"))
        stack.push_async_callback(database.close)
        key_store = SqlKeyStore(database)
        authenticator = ApiKeyAuthenticator(key_store, clock) if _asks_for_keys(options) else None
        devices = DeviceManager(HardwareDevices(offered_operators), events, clock)
        await asyncio.to_thread(devices.refresh)
        store = WatchedTaskStore(SqlTaskStore(database), observation.task_ended)
        tasks = wire_tasks(
            store=store,
            inference=inference,
            models=directory,
            allocator=devices.allocator,
            events=events,
            clock=clock,
            steps=lambda: sum(worker.steps for worker in pool.workers()),
            owner=folder.name,
        )
        stack.push_async_callback(tasks.stop, drain=True, timeout_s=_TASK_DRAIN_S)
        if options.max_workers > options.workers:
            _start_scaling(options, pool, routed, events, clock, stack)
        health = EngineHealth(
            pool,
            directory.unready,
            {"the decision log of routes": routes.trouble},
            directory.absent,
            {
                "the repository": directory.repository_trouble,
                "the store of tasks": store.trouble,
                "the record of canaries": rollouts.trouble,
            },
        )
        observation.watch(directory, pool, routed, health.components)
        _keep_running(observation.sample(store), "metrics samples", stack)
        stack.callback(observation.export_run)
        yield Runtime(
            options=options, clock=clock, events=events, pool=pool, directory=directory,
            inference=inference, tasks=tasks, devices=devices,
            decisions=LoggedDecisions(folder / "logs", policy_opener(options.worker.policy)), plans=plans,
            health=health,
            keys=KeyRing(key_store, clock, authenticator.forget if authenticator else lambda: None),
            authenticator=authenticator, logs=folder / "logs", observation=observation,
        )  # fmt: skip


def _asks_for_keys(options: ServeOptions) -> bool:
    from plumbline.serving.gateway.binding import is_loopback

    return options.require_keys or not is_loopback(options.host)


def open_repository(options: ServeOptions) -> Repository:
    """The repository that an operator named: a folder, or an address of HTTP."""
    if options.repository.startswith(("http://", "https://")):
        return HttpRepository(options.repository, allow_code=options.worker.allow_code)
    return FolderRepository(Path(options.repository), allow_code=options.worker.allow_code)


def _pool(
    options: ServeOptions, logs: Path, events: EventService, record_route: Callable[[Routing], None],
    stack: AsyncExitStack,
) -> WorkerPool:  # fmt: skip
    if options.in_process:
        from plumbline.serving.workers.local import InProcessPool

        trace = stack.enter_context(WorkerTrace(options.worker.trace))
        return InProcessPool(
            session_opener(options.worker, trace),
            partial(make_scheduler, options.worker, trace=trace),
            log_folder=_made(logs),
            on_event=events.publish,
        )
    sizes = PoolOptions(calls_per_worker=max(options.worker.capacity - _FOR_WARM_UP, 1))
    limit_bytes = class_memory_bytes(options.class_memory_bytes, usable_memory_bytes())
    limited = replace(sizes, memory_limit_bytes=limit_bytes)

    def make_pool(group: str) -> ProcessPool:
        return ProcessPool(
            worker_command(options.worker),
            count=options.workers if group == MODELS else 1,
            prefix="" if group == MODELS else f"{group}-",
            log_folder=_made(logs),
            options=sizes if group == MODELS else limited,
            on_event=events.publish,
            on_route=record_route,
        )

    return GroupedPool(make_pool)


def _start_scaling(
    options: ServeOptions, pool: WorkerPool, inference: RoutedInference, events: EventService, clock: Clock,
    stack: AsyncExitStack,
) -> None:  # fmt: skip
    scaled, oldest_age_ns = pool, inference.oldest_age_ns
    if isinstance(pool, GroupedPool):  # a class that takes long brings no worker for models
        scaled, oldest_age_ns = pool.models, pool.models.oldest_age_ns
    scaler = Autoscaler(
        scaled, ScalingPolicy(min_workers=options.workers, max_workers=options.max_workers), clock,
        oldest_age_ns=oldest_age_ns, announce=events.publish,
    )  # fmt: skip
    _keep_running(scaler.run(), "autoscaler", stack)


def _keep_running(work: Coroutine[Any, Any, None], name: str, stack: AsyncExitStack) -> None:
    running = asyncio.create_task(work, name=name)

    async def end() -> None:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    stack.push_async_callback(end)


def _server_folder(state: Path) -> Path:
    """A folder of this run of the server; those of the last runs are kept for their logs."""
    runs = _made(state / "runs")
    for old in sorted(path for path in runs.iterdir() if not _is_running(path))[:-_KEPT_LOGS]:
        shutil.rmtree(old, ignore_errors=True)
    return _made(runs / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}")


def _is_running(run: Path) -> bool:
    pid = run.name.rpartition("-")[2]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateFolderRefused(reason=error.strerror or type(error).__name__) from error
    return folder
