"""What happens to the worker of the classes does not happen to the models (requirement L4-72)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import PlumblineError
from plumbline.serving.ports import WorkerState, WorkerStatus
from plumbline.serving.workers.failures import LoadLostTwice, WorkerLostTwice, WorkerUnknown
from plumbline.serving.workers.grouped import GroupedPool
from plumbline.serving.workers.groups import MAX_GROUPS, MODELS, GroupsExhausted
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.testing.worker_pools import ECHO, call, in_time, spec, values
from plumbline.testing.worker_sessions import RefusedOnPurpose

WORKER = (sys.executable, "-m", "plumbline.testing.worker_entry")
QUICK = PoolOptions(backoff_s=0.02, max_backoff_s=0.2, watch_interval_s=0.02, stall_floor_s=60.0)
FROZEN_SOON = replace(QUICK, stall_floor_s=1.0)


def python(model: str = "cls", entry: str = "echo", **settings: Any) -> VersionSpec:
    return replace(spec(entry, model=model, **settings), kind=VersionKind.PYTHON)


def grouped(classes: PoolOptions) -> GroupedPool:
    def make(group: str) -> ProcessPool:
        if group == MODELS:
            return ProcessPool(WORKER, options=QUICK)
        return ProcessPool(WORKER, prefix=f"{group}-", options=classes)

    return GroupedPool(make)


def with_pool(work: Callable[[GroupedPool], Awaitable[None]], classes: PoolOptions = QUICK) -> None:
    async def run() -> None:
        pool = grouped(classes)
        await pool.start()
        try:
            await pool.load(spec())
            await work(pool)
        finally:
            await pool.stop(drain=False, timeout_s=60.0)

    in_time(run())


def status_of(pool: GroupedPool, worker: str) -> WorkerStatus:
    return next(status for status in pool.workers() if status.name == worker)


async def ready_again(pool: GroupedPool, worker: str, generation: int) -> None:
    while True:
        status = status_of(pool, worker)
        if status.state is WorkerState.READY and status.generation >= generation and status.versions:
            return
        await asyncio.sleep(0.01)


def test_a_group_has_a_worker_from_its_first_version_to_its_last() -> None:
    """What is not needed is given back; the worker's name says the group."""

    async def work(pool: GroupedPool) -> None:
        assert [status.name for status in pool.workers()] == ["w0"]
        await pool.load(python("a"))
        await pool.load(python("b"))
        await pool.load(python("c", group="vision"))
        assert [status.name for status in pool.workers()] == ["w0", "classes-w0", "vision-w0"]
        assert status_of(pool, "classes-w0").versions == ("a@1", "b@1")
        assert status_of(pool, "w0").versions == ("echo@1",)
        pid = status_of(pool, "classes-w0").pid
        result = await pool.infer(python("a").ref, call("x", [3.0], model="a"))
        assert result.outputs["pid"][0] == pid
        assert result.timing.worker == "classes-w0"
        await pool.unload(python("a").ref)
        assert status_of(pool, "classes-w0").pid == pid
        await pool.unload(python("b").ref)
        assert [status.name for status in pool.workers()] == ["w0", "vision-w0"]
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        await pool.load(python("a"))
        assert values(await pool.infer(python("a").ref, call("y", [4.0], model="a"))) == [4.0]

    with_pool(work)


@pytest.mark.parametrize("fault", ["segfault", "freeze", pytest.param("exit:3", marks=pytest.mark.slow)])
def test_a_fault_among_the_classes_fails_and_delays_no_call_of_a_model(fault: str) -> None:
    """Calls of the models go on, on the same worker, while that of the classes dies twice, and are answered
    while it is dead or frozen.
    """

    async def work(pool: GroupedPool) -> None:
        await pool.load(python())
        before = status_of(pool, "w0")
        poison = asyncio.ensure_future(pool.infer(python().ref, call("poison", do=fault, model="cls")))
        answered = 0
        while not poison.done():
            assert values(await pool.infer(ECHO, call(f"m{answered}", [float(answered)]))) == [answered]
            answered += 1
            await asyncio.sleep(0.002)
        with pytest.raises(WorkerLostTwice):
            await poison
        assert answered > 5
        after = status_of(pool, "w0")
        assert (after.pid, after.generation, after.state) == (before.pid, 1, WorkerState.READY)
        await ready_again(pool, "classes-w0", 3)
        assert values(await pool.infer(python().ref, call("a", [2.0], model="cls"))) == [2.0]

    with_pool(work, FROZEN_SOON if fault == "freeze" else QUICK)


def test_a_worker_of_the_classes_that_is_killed_from_outside_disturbs_no_model() -> None:
    async def work(pool: GroupedPool) -> None:
        await pool.load(python())
        pid = status_of(pool, "w0").pid
        for round_number in range(3):
            os.kill(status_of(pool, "classes-w0").pid, signal.SIGKILL)
            names = [f"m{round_number}-{n}" for n in range(20)]
            answers = await asyncio.gather(*(pool.infer(ECHO, call(name, [1.0])) for name in names))
            assert {answer.outputs["pid"][0] for answer in answers} == {pid}
            await ready_again(pool, "classes-w0", round_number + 2)

    with_pool(work)


def test_a_group_whose_version_cannot_be_loaded_leaves_no_worker_behind() -> None:
    async def work(pool: GroupedPool) -> None:
        with pytest.raises(RefusedOnPurpose):
            await pool.load(python(entry="refuse"))
        assert [status.name for status in pool.workers()] == ["w0"]
        with pytest.raises(LoadLostTwice):
            await pool.load(python(entry="die-always"))
        assert [status.name for status in pool.workers()] == ["w0"]
        assert values(await pool.infer(ECHO, call("a", [1.0]))) == [1.0]

    with_pool(work)


def test_the_number_of_groups_is_bounded() -> None:
    """The refusal says which there are; a group that ended makes room."""

    async def work(pool: GroupedPool) -> None:
        for number in range(MAX_GROUPS - 1):
            pool._join(f"g{number}", python(f"m{number}").ref)
        with pytest.raises(GroupsExhausted, match=f"there are {MAX_GROUPS} already: models, g0"):
            await pool.load(python("one-more", group="late"))
        await pool._leave(pool._groups["g3"])
        await pool.load(python("one-more", group="late"))

    with_pool(work)


def test_what_a_worker_printed_is_found_by_its_name_in_any_group() -> None:
    async def work(pool: GroupedPool) -> None:
        await pool.load(python())
        await pool.infer(python().ref, call("p", do="print:3", model="cls"))
        async with asyncio.timeout(60):
            while "xxx" not in pool.output("classes-w0"):
                await asyncio.sleep(0.01)
        assert pool.output("w0") == ""
        await pool.unload(python().ref)
        assert [status.name for status in pool.workers()] == ["w0"]
        assert "xxx" in pool.output("classes-w0")
        with pytest.raises(WorkerUnknown, match="there are w0"):
            pool.output("classes-w1")

    with_pool(work)


def test_one_request_id_is_alive_once_whatever_the_group() -> None:
    async def work(pool: GroupedPool) -> None:
        await pool.load(python())
        running = asyncio.ensure_future(
            pool.infer(python().ref, call("same", [1.0], "sleep:20", model="cls"))
        )
        await asyncio.sleep(0)
        with pytest.raises(PlumblineError, match="same"):
            await pool.infer(ECHO, call("same"))
        assert pool.cancel(call("same").id)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with_pool(work)
