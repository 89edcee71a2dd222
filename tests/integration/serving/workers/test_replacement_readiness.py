"""A replacement serves each version as soon as it has it (requirements L4-31, L4-72)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.records import Routing
from plumbline.errors import PlumblineError, Recoverability
from plumbline.serving.ports import WorkerState
from plumbline.serving.workers.failures import NoWorkerReady, VersionNotBack, WorkerLostTwice
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.testing.worker_pools import ECHO, call, in_time, spec, values

WORKER = (sys.executable, "-m", "plumbline.testing.worker_entry")
QUICK = PoolOptions(backoff_s=0.02, max_backoff_s=0.2, watch_interval_s=0.02, stall_floor_s=60.0)
SLOW = VersionRef(model="slow", version="1")


async def opened() -> ProcessPool:
    pool = ProcessPool(WORKER, options=QUICK)
    await pool.start()
    return pool


async def answered(pool: ProcessPool, ref: VersionRef, name: str) -> list[float]:
    """The answer of a call that is sent again while it is refused for now."""
    for number in range(10_000):
        try:
            return values(await pool.infer(ref, call(f"{name}{number}", [7.0], model=ref.model)))
        except PlumblineError as error:
            if error.recoverability is not Recoverability.TRANSIENT:
                raise
            await asyncio.sleep(0.01)
    raise AssertionError("never answered")


def kill(pool: ProcessPool) -> None:
    os.kill(pool.workers()[0].pid, signal.SIGKILL)


def test_a_version_that_is_back_answers_while_another_is_still_being_loaded(tmp_path: Path) -> None:
    """The status names exactly what can be asked."""
    gate = tmp_path / "open"

    async def run() -> None:
        gate.touch()
        pool = await opened()
        await pool.load(spec("gate:open", model="slow", folder=tmp_path))
        await pool.load(spec())
        assert pool.workers()[0].versions == (str(SLOW), str(ECHO))
        gate.unlink()
        kill(pool)
        assert await answered(pool, ECHO, "fast") == [7.0]
        status = pool.workers()[0]
        assert (status.state, status.versions, status.generation) == (WorkerState.READY, (str(ECHO),), 2)
        with pytest.raises(NoWorkerReady, match="slow@1 not loaded in it"):
            await pool.infer(SLOW, call("early", model="slow"))
        gate.touch()
        assert await answered(pool, SLOW, "slow") == [7.0]
        assert set(pool.workers()[0].versions) == {str(SLOW), str(ECHO)}
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


def test_accepted_calls_of_a_version_wait_until_it_is_back_and_are_answered_once(tmp_path: Path) -> None:
    """Nothing is lost or doubled, and the decision log gets what they waited for."""
    gate = tmp_path / "open"

    async def run() -> None:
        gate.touch()
        told: list[str] = []
        routes: list[Routing] = []
        pool = ProcessPool(
            WORKER,
            options=QUICK,
            on_done=lambda ref, asked, outcome: told.append(asked.id),
            on_route=routes.append,
        )
        await pool.start()
        await pool.load(spec())
        await pool.load(spec("gate:open", model="slow", folder=tmp_path))
        waiting = [
            asyncio.ensure_future(pool.infer(SLOW, call(f"w{n}", [float(n)], "sleep:0.6", model="slow")))
            for n in range(3)
        ]
        while len(pool._places["w0"].sent) < 3:
            await asyncio.sleep(0.001)
        gate.unlink()
        kill(pool)
        while pool.workers()[0].generation < 2 or pool.workers()[0].pid == 0:
            await asyncio.sleep(0.01)
        gate.touch()
        assert [values(result) for result in await asyncio.gather(*waiting)] == [[0.0], [1.0], [2.0]]
        assert sorted(told) == ["w0", "w1", "w2"]
        for name in told:
            lost, again = (route for route in routes if route.request == name)
            assert (lost.reason, lost.chosen, lost.fields["because"]) == ("worker_lost", "", "SIGKILL")
            assert lost.rejected == (("slow@1/w0", "it is dead"),)
            assert (again.reason, again.chosen) == ("sent_again", "slow@1/w0")
            assert again.fields["waited_ns"] > 0
        assert await answered(pool, ECHO, "fast") == [7.0]
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


def test_a_version_that_cannot_be_loaded_again_keeps_no_other_from_serving_and_comes_back(
    tmp_path: Path,
) -> None:
    """Its accepted call is failed typed after two tries, and it serves again when it can be loaded."""
    broken = tmp_path / "broken"

    async def run() -> None:
        pool = await opened()
        await pool.load(spec())
        await pool.load(spec("fickle:broken", model="slow", folder=tmp_path))
        accepted = asyncio.ensure_future(pool.infer(SLOW, call("a", [1.0], "sleep:20", model="slow")))
        await asyncio.sleep(0.05)
        broken.touch()
        kill(pool)
        with pytest.raises(VersionNotBack, match="refused on purpose") as caught:
            await accepted
        assert caught.value.recoverability is Recoverability.TRANSIENT
        assert await answered(pool, ECHO, "fast") == [7.0]
        with pytest.raises(VersionNotBack):
            await pool.infer(SLOW, call("b", model="slow"))
        assert pool.workers()[0].generation == 2
        broken.unlink()
        assert await answered(pool, SLOW, "slow") == [7.0]
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


def test_a_call_that_two_workers_took_along_has_its_answer_in_the_log_of_the_gateway() -> None:
    """L4-17: no worker can write down what became of it."""

    async def run() -> None:
        routes: list[Routing] = []
        pool = ProcessPool(WORKER, options=QUICK, on_route=routes.append)
        await pool.start()
        await pool.load(spec())
        with pytest.raises(WorkerLostTwice):
            await pool.infer(ECHO, call("kills", do="exit:3"))
        assert await answered(pool, ECHO, "fine") == [7.0]
        with pytest.raises(PlumblineError):
            await pool.infer(ECHO, call("raises", do="raise"))
        await pool.stop(drain=True, timeout_s=60.0)
        assert [route.reason for route in routes if route.request == "kills"] == [
            "worker_lost", "sent_again", "worker_lost",
        ]  # fmt: skip
        assert {route.request for route in routes} == {"kills"}

    in_time(run())
