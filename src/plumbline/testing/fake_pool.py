"""`FakePool`: a worker pool without workers, for tests of everything above it.

It keeps the promises of `serving.ports.WorkerPool` that its callers build on: a call has one outcome, an
unload waits for what was accepted, a version that is not loaded is refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from plumbline.contracts.clock import Clock, MonotonicClock
from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import ExecutionError, PlumblineError, ResourceError
from plumbline.serving.ports import WorkerState, WorkerStatus

__all__ = ["FakePool", "FakePoolBudgetExceeded", "FakeRunFailed", "Serve"]

Serve = Callable[[VersionRef, InferenceCall], Awaitable[None]]
"""What a run does before its answer: waits, or raises."""


@dataclass(eq=False, kw_only=True)
class FakeRunFailed(ExecutionError):
    """A run that a test wanted to fail, or of a version that is not loaded."""

    code = "execution.fake_run"
    owner = "testing"
    template = "{version}: {reason}"

    version: str
    reason: str


@dataclass(eq=False, kw_only=True)
class FakePoolBudgetExceeded(ResourceError):
    """One more version does not fit."""

    code = "resource.fake_pool_budget"
    owner = "testing"
    template = "{version} needs {needed_bytes} bytes; {loaded_bytes} of {budget_bytes} are taken"

    version: str
    needed_bytes: int
    loaded_bytes: int
    budget_bytes: int


async def _at_once(ref: VersionRef, call: InferenceCall) -> None:
    await asyncio.sleep(0)


class FakePool:
    """Owns its pretended workers. `y` of an answer is the float of the version's number, or 0.

    Args:
        workers: to begin with.
        serve: what every run does before its answer.
        budget_bytes: of each worker; every version takes 100 bytes.
        clock: for times of answers.
    """

    VERSION_BYTES = 100

    def __init__(
        self,
        *,
        workers: int = 1,
        serve: Serve = _at_once,
        budget_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.serve, self.budget_bytes = serve, budget_bytes
        self.load_error: PlumblineError | None = None
        self.load_gate: asyncio.Event | None = None
        self.states: dict[str, WorkerState] = {}
        self.history: list[str] = []
        self._clock = clock or MonotonicClock()
        self._count, self._launch = workers, 0
        self._loaded: dict[VersionRef, VersionSpec] = {}
        self._running: Counter[str] = Counter()
        self._of_version: Counter[VersionRef] = Counter()
        self._tasks: dict[RequestId, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self, *, drain: bool, timeout_s: float) -> None:
        """Finish or cancel what runs."""
        if not drain:
            for task in self._tasks.values():
                task.cancel()
        async with asyncio.timeout(timeout_s):
            async with self._changed:
                await self._changed.wait_for(lambda: not self._tasks)

    async def load(self, spec: VersionSpec) -> ModelMetadata:
        """Load after `load_gate` opens; raises `load_error` where a test set one."""
        if self.load_gate is not None:
            await self.load_gate.wait()
        if self.load_error is not None:
            raise self.load_error
        taken = self.VERSION_BYTES * len(self._loaded)
        if self.budget_bytes is not None and taken + self.VERSION_BYTES > self.budget_bytes:
            raise FakePoolBudgetExceeded(
                version=str(spec.ref),
                needed_bytes=self.VERSION_BYTES,
                loaded_bytes=taken,
                budget_bytes=self.budget_bytes,
            )
        self._loaded[spec.ref] = spec
        self.history.append(f"load {spec.ref}")
        return ModelMetadata(
            ref=spec.ref,
            kind=spec.kind,
            inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 1), bounds=(8, 1)),),
            outputs=(TensorSpec(name="y", datatype="FP32", shape=(1,), bounds=(1,)),),
            digest=spec.digest,
            max_rows=8,
            memory_bytes=self.VERSION_BYTES,
        )

    async def unload(self, ref: VersionRef) -> None:
        """Finish accepted calls of the version, then forget it."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._of_version[ref])
        del self._loaded[ref]
        self.history.append(f"unload {ref}")

    async def infer(self, ref: VersionRef, call: InferenceCall, worker: str | None = None) -> InferenceResult:
        """Run `serve`, then answer with the number of the version."""
        if ref not in self._loaded:
            raise FakeRunFailed(version=str(ref), reason="it is not loaded")
        place = worker or min(self._names(), key=lambda name: self._running[name])
        queued_ns = self._clock.now_ns()
        self._running[place] += 1
        self._of_version[ref] += 1
        task = asyncio.ensure_future(self.serve(ref, call))
        self._tasks[call.id] = task
        try:
            await task
        except asyncio.CancelledError:
            if task.cancelled() and not _current_task_cancelling():
                raise FakeRunFailed(version=str(ref), reason="cancelled") from None
            task.cancel()
            raise
        finally:
            del self._tasks[call.id]
            self._running[place] -= 1
            self._of_version[ref] -= 1
            async with self._changed:
                self._changed.notify_all()
        self._launch += 1
        number = float(ref.version) if ref.version.isdigit() else 0.0
        return InferenceResult(
            id=call.id,
            served_by=ref,
            outputs={"y": np.array([number], np.float32)},
            timing=InferenceTiming(
                arrived_ns=call.arrived_ns,
                queued_ns=queued_ns,
                launched_ns=queued_ns,
                finished_ns=self._clock.now_ns(),
                launch=self._launch,
                worker=place,
            ),
        )

    def cancel(self, request: RequestId) -> bool:
        """Cancel what runs."""
        task = self._tasks.get(request)
        return task is not None and task.cancel()

    def sole_worker(self, ref: VersionRef) -> str | None:
        """The only one, where it is ready and has the version."""
        only = self.workers()
        if len(only) != 1 or only[0].state is not WorkerState.READY or ref not in self._loaded:
            return None
        return only[0].name

    def output(self, worker: str) -> str:
        """It prints nothing."""
        return ""

    def workers(self) -> Sequence[WorkerStatus]:
        """As many as there are, in the states that the test gave them."""
        keys = tuple(str(ref) for ref in self._loaded)
        return [
            WorkerStatus(
                name=name,
                generation=1,
                pid=0,
                state=self.states.get(name, WorkerState.READY),
                running=self._running[name],
                versions=keys,
                memory_bytes=self.VERSION_BYTES * len(keys),
                budget_bytes=self.budget_bytes,
            )
            for name in self._names()
        ]

    async def scale(self, count: int) -> None:
        """Have another number of workers."""
        self.history.append(f"scale {self._count} to {count}")
        self._count = count

    def _names(self) -> list[str]:
        return [f"w{number}" for number in range(self._count)]


def _current_task_cancelling() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
