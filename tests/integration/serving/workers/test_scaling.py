"""Real worker processes come with the load and go with it (L4-68)."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceResult
from plumbline.serving.models.autoscaler import Autoscaler
from plumbline.serving.models.scaling import ScalingPolicy
from plumbline.serving.ports import WorkerState
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.testing.worker_pools import ECHO, call, spec

COMMAND = [sys.executable, "-m", "plumbline.testing.worker_entry"]
POLICY = ScalingPolicy(
    min_workers=1, max_workers=2, high_per_worker=4, low_per_worker=1, up_cooldown_ns=0,
    down_after_ns=200_000_000,
)  # fmt: skip


def test_a_long_queue_brings_a_worker_and_an_idle_pool_lets_it_go() -> None:
    """Bounds are kept, every call is answered, and the newcomer answers some of them."""

    async def scenario() -> tuple[list[int], list[InferenceResult], list[dict[str, Any]]]:
        changes: list[dict[str, Any]] = []

        def announce(kind: str, subject: str, **fields: Any) -> None:
            if kind == "workers.scaled":
                changes.append(fields)

        pool = ProcessPool(COMMAND, count=1, options=PoolOptions(calls_per_worker=512))
        await pool.start()
        try:
            await pool.load(spec())
            scaler = Autoscaler(pool, POLICY, MonotonicClock(), interval_s=0.05, announce=announce)
            running = asyncio.create_task(scaler.run())
            counts = [len(pool.workers())]
            slow = [asyncio.create_task(pool.infer(ECHO, call(f"s{n}", do="sleep:0.05"))) for n in range(40)]
            async with asyncio.timeout(120):
                while sum(worker.state is WorkerState.READY for worker in pool.workers()) < 2:
                    await asyncio.sleep(0.02)
            counts.append(len(pool.workers()))
            late = [asyncio.create_task(pool.infer(ECHO, call(f"l{n}"))) for n in range(20)]
            answers = await asyncio.gather(*slow, *late)
            async with asyncio.timeout(120):
                while len(pool.workers()) > 1:
                    await asyncio.sleep(0.02)
            counts.append(len(pool.workers()))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return counts, list(answers), changes
        finally:
            await pool.stop(drain=True, timeout_s=60)

    counts, answers, changes = asyncio.run(scenario())
    assert counts == [1, 2, 1]
    assert len(answers) == 60
    assert {answer.timing.worker for answer in answers} == {"w0", "w1"}
    assert len(changes) >= 2
