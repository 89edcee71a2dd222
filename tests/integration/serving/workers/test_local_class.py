"""A class in one process with everything else: a run over its limit is seen, and cannot be ended (L4-31)."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.sessions.python import PythonSession
from plumbline.serving.ports import WorkerState
from plumbline.serving.workers.local import InProcessPool
from plumbline.serving.workers.options import PoolOptions
from plumbline.testing.worker_pools import call, in_time, spec, values
from plumbline.testing.worker_sessions import make_test_scheduler

GATE = threading.Event()


class Waits:
    """Waits for the gate where it is asked to."""

    inputs: ClassVar = {"x": ("FP32", (-1,))}
    outputs: ClassVar = {"y": ("FP32", (-1,))}

    def run(self, inputs: dict[str, np.ndarray], parameters: dict[str, Any]) -> dict[str, np.ndarray]:
        if parameters.get("do") == "wait":
            GATE.wait(30.0)
        return {"y": inputs["x"]}


def open_class(version: VersionSpec) -> PythonSession:
    return PythonSession(version.ref, Waits, version.settings)


async def until(pool: InProcessPool, state: WorkerState) -> None:
    while pool.workers()[0].state is not state:
        await asyncio.sleep(0.01)


def test_a_run_over_its_limit_turns_the_one_worker_stalled_until_it_ends() -> None:
    """Readiness says so; the call is answered all the same, because nobody can end a thread."""
    version = replace(spec(model="waits", group="vision", max_run_s=0.2), kind=VersionKind.PYTHON)
    told: list[str] = []

    def tell(kind: str, subject: str, **fields: object) -> None:
        if kind == "worker.stalled":
            told.append(str(fields["reason"]))

    async def run() -> None:
        pool = InProcessPool(
            open_class,
            partial(make_test_scheduler),
            options=PoolOptions(watch_interval_s=0.02),
            on_event=tell,
        )
        await pool.start()
        await pool.load(version)
        assert pool.workers()[0].versions == ("waits@1",)
        running = asyncio.ensure_future(pool.infer(version.ref, call("a", [5.0], "wait", model="waits")))
        await until(pool, WorkerState.STALLED)
        assert not running.done()
        GATE.set()
        assert values(await running) == [5.0]
        await until(pool, WorkerState.READY)
        await pool.stop(drain=True, timeout_s=5.0)

    in_time(run())
    assert "at most 0.2 s" in told[-1]
