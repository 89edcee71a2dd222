"""A ready version without a worker is not ready for requests, and the server says which one (L4-31)."""

from __future__ import annotations

import asyncio

from plumbline.serving.health import EngineHealth
from plumbline.serving.ports import WorkerState

from .conftest import Bench


def test_a_version_whose_worker_is_being_replaced_is_not_ready_until_a_worker_has_it(bench: Bench) -> None:
    async def run() -> None:
        bench.publish("m", "1")
        await bench.directory.start()
        health = EngineHealth(bench.pool, bench.directory.unready, absent=bench.directory.absent)
        health.started()
        assert bench.directory.is_ready("m")
        assert health.readiness()[0]

        bench.pool.states["w0"] = WorkerState.STARTING
        assert not bench.directory.is_ready("m")
        assert not bench.directory.is_ready("m", "1")
        is_ready, facts = health.readiness()
        assert not is_ready
        assert "m@1 is not back in a worker yet" in facts["reasons"]

        bench.pool.states["w0"] = WorkerState.READY
        assert bench.directory.is_ready("m", "1")
        assert health.readiness()[0]

    asyncio.run(run())
