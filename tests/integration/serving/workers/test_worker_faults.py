"""Workers that die, freeze and lie: every accepted call gets one typed outcome (requirements L4-72, X-35)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.errors import PlumblineError, Recoverability
from plumbline.serving.ports import WorkerState
from plumbline.serving.workers.failures import (
    LoadLostTwice,
    NoWorkerReady,
    PoolDegraded,
    WorkerLostTwice,
)
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.serving.workers.process import FATAL_EXIT_CODE
from plumbline.serving.workers.spawning import OutputTail, WorkerProcess
from plumbline.testing.worker_pools import ECHO, call, in_time, spec, values
from plumbline.testing.worker_sessions import FatalOnPurpose

WORKER = (sys.executable, "-m", "plumbline.testing.worker_entry")
CALM = PoolOptions(backoff_s=0.02, stall_floor_s=60.0, uncalibrated_stall_s=60.0, watch_interval_s=0.02)
"""A worker that a busy machine lets wait is not taken for a frozen one."""
QUICK = PoolOptions(backoff_s=0.02, stall_floor_s=1.0, uncalibrated_stall_s=5.0, watch_interval_s=0.02)

Events = list[tuple[str, str, dict[str, Any]]]


def with_pool(
    work: Callable[[ProcessPool, Events], Awaitable[None]],
    count: int = 1,
    options: PoolOptions = CALM,
    **arguments: Any,
) -> None:
    async def run() -> None:
        events: Events = []
        pool = ProcessPool(
            WORKER,
            count=count,
            options=options,
            on_event=lambda kind, subject, **fields: events.append((kind, subject, fields)),
            **arguments,
        )
        await pool.start()
        try:
            await pool.load(spec(cost_bound_ns=1_000_000))
            await work(pool, events)
        finally:
            await pool.stop(drain=False, timeout_s=60.0)

    in_time(run())


async def ready_again(pool: ProcessPool, generation: int, worker: int = 0) -> None:
    while True:
        status = pool.workers()[worker]
        if status.state is WorkerState.READY and status.generation >= generation:
            return
        await asyncio.sleep(0.01)


def pid_of(pool: ProcessPool, worker: int = 0) -> int:
    return pool.workers()[worker].pid


def test_a_worker_killed_while_idle_is_replaced_and_not_ready_meanwhile() -> None:
    """L4-72: readiness is false between, versions are loaded again before it is true."""

    async def work(pool: ProcessPool, events: Events) -> None:
        before = pid_of(pool)
        os.kill(before, signal.SIGKILL)
        while pool.workers()[0].state is WorkerState.READY:
            await asyncio.sleep(0.001)
        with pytest.raises(NoWorkerReady) as caught:
            await pool.infer(ECHO, call("early"))
        assert caught.value.recoverability is Recoverability.TRANSIENT
        await ready_again(pool, 2)
        assert pid_of(pool) != before
        assert values(await pool.infer(ECHO, call("a", [4.0]))) == [4.0]
        kinds = [kind for kind, _, _ in events]
        assert kinds == ["worker.started", "worker.lost", "worker.replaced"]
        assert events[1][2]["reason"] == "SIGKILL"

    with_pool(work)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSEGV])
def test_calls_of_a_worker_killed_mid_run_are_answered_once_by_its_replacement(fault: signal.Signals) -> None:
    """L4-72: none lost, none doubled, whatever the signal; results are those of the calls."""
    told: list[str] = []

    async def work(pool: ProcessPool, events: Events) -> None:
        calls = [asyncio.ensure_future(pool.infer(ECHO, call(f"r{i}", [i], "sleep:0.02"))) for i in range(10)]
        await asyncio.sleep(0.05)
        os.kill(pid_of(pool), fault)
        results = await asyncio.gather(*calls)
        assert [values(result) for result in results] == [[float(i)] for i in range(10)]
        assert sorted(told) == sorted(f"r{i}" for i in range(10))

    with_pool(work, on_done=lambda ref, call, outcome: told.append(call.id))


def test_calls_of_a_killed_worker_go_to_another_that_is_ready() -> None:
    async def work(pool: ProcessPool, events: Events) -> None:
        victim = pid_of(pool, 1)
        running = asyncio.ensure_future(pool.infer(ECHO, call("a", [1.0], "sleep:0.7"), worker="w1"))
        while not pool._places["w1"].sent:
            await asyncio.sleep(0.001)
        os.kill(victim, signal.SIGKILL)
        result = await running
        assert result.outputs["pid"][0] != victim
        assert result.timing.worker in ("w0", "w1")

    with_pool(work, count=2)


def test_a_call_that_kills_two_workers_is_failed_and_takes_no_other_call_along() -> None:
    """L4-72: at most two workers ever see it; those beside it are answered."""

    async def work(pool: ProcessPool, events: Events) -> None:
        poison = asyncio.ensure_future(pool.infer(ECHO, call("poison", do="segfault")))
        others = [asyncio.ensure_future(pool.infer(ECHO, call(f"r{i}", [i]))) for i in range(8)]
        with pytest.raises(WorkerLostTwice) as caught:
            await poison
        assert caught.value.recoverability is Recoverability.PERMANENT
        assert caught.value.reason == "SIGSEGV"
        results = await asyncio.gather(*others)
        assert [values(result) for result in results] == [[float(i)] for i in range(8)]
        await ready_again(pool, 3)
        assert pool.workers()[0].generation == 3

    with_pool(work)


def test_calls_that_kill_do_not_keep_a_worker_that_starts_well_from_being_replaced() -> None:
    """A client that sends poison again and again costs the others waiting, never a pool that gives up."""

    async def work(pool: ProcessPool, events: Events) -> None:
        for number in range(4):
            with pytest.raises(WorkerLostTwice):
                await pool.infer(ECHO, call(f"poison{number}", do="segfault"))
            await ready_again(pool, 2 * number + 3)
        assert values(await pool.infer(ECHO, call("a", [2.0]))) == [2.0]

    with_pool(work, options=PoolOptions(backoff_s=0.01, storm_deaths=3))


def test_a_stopped_worker_is_unready_within_the_bound_and_killed_before_it_is_replaced() -> None:
    """L4-72, U9: SIGSTOP while idle; progress is a counter, so a frozen worker cannot look healthy."""

    async def work(pool: ProcessPool, events: Events) -> None:
        victim = pid_of(pool)
        os.kill(victim, signal.SIGSTOP)
        while pool.workers()[0].state is WorkerState.READY:
            await asyncio.sleep(0.005)
        await ready_again(pool, 2)
        with pytest.raises(ProcessLookupError):
            os.kill(victim, 0)
        kinds = [kind for kind, _, _ in events]
        assert kinds[:4] == ["worker.started", "worker.stalled", "worker.lost", "worker.replaced"]

    with_pool(work, options=QUICK)


@pytest.mark.slow
def test_calls_of_a_worker_that_freezes_itself_are_answered_or_failed_typed() -> None:
    async def work(pool: ProcessPool, events: Events) -> None:
        beside = asyncio.ensure_future(pool.infer(ECHO, call("beside", [5.0], "sleep:0.05")))
        frozen = asyncio.ensure_future(pool.infer(ECHO, call("frozen", do="freeze")))
        assert values(await beside) == [5.0]
        with pytest.raises(WorkerLostTwice):
            await frozen

    with_pool(work, options=QUICK)


def test_an_engine_without_a_step_beyond_its_cost_bound_is_stalled() -> None:
    """U9: the process lives and beats; only its engine does not move. The bound is the version's."""

    async def work(pool: ProcessPool, events: Events) -> None:
        for attempt in range(3):  # on a busy machine the process, too, may show no sign of life for so long
            with pytest.raises(WorkerLostTwice) as caught:
                await pool.infer(ECHO, call(f"long{attempt}", do="sleep:60"))
            if "busy without a step" in caught.value.message:
                break
            await ready_again(pool, 2 * attempt + 3)
        assert "busy without a step" in caught.value.message
        assert [fields["reason"] for kind, _, fields in events if kind == "worker.stalled"]

    with_pool(work, options=QUICK)


def test_a_long_call_of_a_version_without_cost_bound_is_no_stall() -> None:
    async def work(pool: ProcessPool, events: Events) -> None:
        await pool.load(spec(model="uncalibrated"))
        ref = VersionRef(model="uncalibrated", version="1")
        assert values(await pool.infer(ref, call("long", [1.0], "sleep:1.5", model="uncalibrated"))) == [1.0]

    with_pool(work, options=QUICK)


def test_a_worker_killed_while_loading_loads_again_in_its_replacement(tmp_path: Path) -> None:
    async def work(pool: ProcessPool, events: Events) -> None:
        await pool.load(spec("die:seen", model="other", folder=tmp_path))
        ref = VersionRef(model="other", version="1")
        assert values(await pool.infer(ref, call("a", [2.0], model="other"))) == [2.0]
        assert pool.workers()[0].generation == 2

    with_pool(work)


def test_a_version_that_kills_two_workers_while_it_loads_is_refused_and_others_live_on() -> None:
    async def work(pool: ProcessPool, events: Events) -> None:
        with pytest.raises(LoadLostTwice, match="SIGSEGV"):
            await pool.load(spec("die-always", model="other"))
        await ready_again(pool, 3)
        assert values(await pool.infer(ECHO, call("a", [2.0]))) == [2.0]

    with_pool(work)


def test_a_fatal_error_reaches_its_caller_and_ends_the_worker_with_the_known_code() -> None:
    """X-35: the worker exits with a code of its own, and is replaced; others get their answers."""

    async def work(pool: ProcessPool, events: Events) -> None:
        fatal = asyncio.ensure_future(pool.infer(ECHO, call("fatal", do="fatal:device lost")))
        beside = asyncio.ensure_future(pool.infer(ECHO, call("beside", [5.0])))
        with pytest.raises(FatalOnPurpose) as caught:
            await fatal
        assert caught.value.recoverability is Recoverability.FATAL
        assert values(await beside) == [5.0]
        lost = [fields["reason"] for kind, _, fields in events if kind == "worker.lost"]
        assert lost == [f"exit code {FATAL_EXIT_CODE}"]

    with_pool(work)


def test_a_command_that_is_no_worker_degrades_the_pool_typed(tmp_path: Path) -> None:
    async def run() -> None:
        options = PoolOptions(backoff_s=0.01, storm_deaths=3)
        pool = ProcessPool((sys.executable, "-c", "print('nothing'); raise SystemExit(3)"), options=options)
        with pytest.raises(PoolDegraded, match="exit code 3") as caught:
            await pool.start()
        assert caught.value.deaths == 3
        absent = ProcessPool((str(tmp_path / "absent"),), options=options)
        with pytest.raises(PoolDegraded) as caught:
            await absent.start()
        assert str(tmp_path) not in caught.value.message

    in_time(run())


@pytest.mark.slow
def test_a_storm_of_deaths_fails_what_waits_and_what_comes_typed() -> None:
    async def work(pool: ProcessPool, events: Events) -> None:
        running = asyncio.ensure_future(pool.infer(ECHO, call("a", do="sleep:5")))
        pool._command = (sys.executable, "-c", "raise SystemExit(3)")
        os.kill(pid_of(pool), signal.SIGKILL)
        with pytest.raises(PoolDegraded):
            await running
        with pytest.raises(PoolDegraded):
            await pool.infer(ECHO, call("b"))
        pool._command = WORKER
        await ready_again(pool, 2)
        assert values(await pool.infer(ECHO, call("c", [1.0]))) == [1.0]

    with_pool(work, options=PoolOptions(backoff_s=0.01, max_backoff_s=0.3, storm_deaths=3))


@pytest.mark.slow
def test_a_worker_that_prints_without_end_is_kept_within_bounds() -> None:
    async def work(pool: ProcessPool, events: Events) -> None:
        for index in range(4):
            await pool.infer(ECHO, call(f"r{index}", do="print:500000"))
        assert 0 < len(pool.output("w0")) <= QUICK.log_bytes

    with_pool(work)


def test_scaling_up_and_down_drains_and_loads(tmp_path: Path) -> None:
    """L4-73: new workers have everything loaded; those that go finish their calls."""

    async def work(pool: ProcessPool, events: Events) -> None:
        await pool.scale(3)
        states = [status.state for status in pool.workers()]
        assert states == [WorkerState.READY] * 3
        calls = [
            asyncio.ensure_future(pool.infer(ECHO, call(f"r{i}", [i], "sleep:0.05"), worker=f"w{i % 3}"))
            for i in range(9)
        ]
        await asyncio.sleep(0)
        await pool.scale(1)
        assert [status.name for status in pool.workers()] == ["w0"]
        results = await asyncio.gather(*calls)
        assert [values(result) for result in results] == [[float(i)] for i in range(9)]
        assert not [kind for kind, _, _ in events if kind == "worker.lost"]
        assert (tmp_path / "w2-g1").is_dir()

    with_pool(work, log_folder=tmp_path)


def test_outcomes_after_a_stop_without_drain_are_typed_and_workers_are_gone() -> None:
    async def run() -> None:
        pool = ProcessPool(WORKER, count=2, options=CALM)
        await pool.start()
        await pool.load(spec())
        pids = [status.pid for status in pool.workers()]
        calls = [asyncio.ensure_future(pool.infer(ECHO, call(f"r{i}", do="sleep:1.0"))) for i in range(4)]
        await asyncio.sleep(0)
        await pool.stop(drain=False, timeout_s=60.0)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, PlumblineError) for outcome in outcomes)
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    in_time(run())


def test_a_process_that_is_ended_before_it_runs_ends() -> None:
    """The end of a pool meets a worker that is just being started: nobody may wait for it for ever."""

    async def scenario() -> int:
        output = OutputTail(1024, None)
        process = WorkerProcess([sys.executable, "-c", "import time; time.sleep(60)"], (), output, "early")
        process.kill()
        code = await asyncio.wait_for(process.exited, 60)
        output.close()
        return code

    assert asyncio.run(scenario()) == -signal.SIGKILL
