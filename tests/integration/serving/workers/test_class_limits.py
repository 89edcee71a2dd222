"""A class that never comes back, or grows without end, is ended by limits of its own (L3-15, L4-72)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.contracts.inference import InferenceCall, VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSettings, VersionSpec
from plumbline.product.serving.options import WorkerOptions
from plumbline.product.serving.worker import worker_command
from plumbline.serving.ports import WorkerState
from plumbline.serving.workers.failures import LoadLostTwice
from plumbline.serving.workers.grouped import GroupedPool
from plumbline.serving.workers.groups import MODELS
from plumbline.serving.workers.limits import RunTooLong, WorkerMemoryExceeded, private_bytes
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.testing.worker_pools import ECHO, call, in_time, spec, values

TEST_WORKER = (sys.executable, "-m", "plumbline.testing.worker_entry")
QUICK = PoolOptions(backoff_s=0.02, max_backoff_s=0.2, watch_interval_s=0.02, stall_floor_s=60.0)
CLASSES = "classes-w0"

CLASS = """
import time
import numpy as np


class Odd:
    inputs = {"x": ("FP32", (-1,))}
    outputs = {"y": ("FP32", (-1,))}
    max_batch = 4

    def run(self, inputs, parameters):
        do = parameters.get("do", "")
        if do == "spin":
            while True:
                pass
        if do == "sleep":
            time.sleep(1e9)
        if do == "grow":
            kept = []
            while True:
                kept.append(np.ones(1 << 20))
                time.sleep(0.001)
        if do.startswith("wait"):
            time.sleep(float(do[4:]))
        return {"y": inputs["x"]}
"""
HANGING = """
class Odd:
    inputs = {"x": ("FP32", (-1,))}
    outputs = {"y": ("FP32", (-1,))}

    def run(self, inputs, parameters):
        while True:
            pass
"""


def odd(folder: Path, model: str = "odd", source: str = CLASS, **settings: Any) -> VersionSpec:
    place = folder / model
    place.mkdir()
    (place / "model.py").write_text(source)
    return VersionSpec(
        ref=VersionRef(model=model, version="1"),
        kind=VersionKind.PYTHON,
        folder=place,
        entry="model.py:Odd",
        digest="0" * 64,
        settings=VersionSettings(**settings),
    )


def ask(name: str, do: str = "", x: float = 1.0, model: str = "odd") -> InferenceCall:
    return replace(call(name, np.array([x], np.float32), model=model), parameters={"do": do})


LATER = """
import time


class Odd:
    inputs = {"y": ("FP32", (-1,))}
    outputs = {"z": ("FP32", (-1,))}

    def run(self, inputs, parameters):
        if parameters.get("do") == "sleep-later":
            time.sleep(1e9)
        return {"z": inputs["y"]}
"""

Events = list[tuple[str, str, dict[str, object]]]


def with_pool(work: Callable[[GroupedPool, Events], Awaitable[None]], classes: PoolOptions = QUICK) -> None:
    """A pool whose classes run in real workers, and whose models are those of the test sessions."""
    events: Events = []

    def tell(kind: str, subject: str, **fields: object) -> None:
        events.append((kind, subject, fields))

    def make(group: str) -> ProcessPool:
        if group == MODELS:
            return ProcessPool(TEST_WORKER, options=QUICK, on_event=tell)
        command = worker_command(WorkerOptions(allow_code=True))
        return ProcessPool(command, prefix=f"{group}-", options=classes, on_event=tell)

    async def run() -> None:
        pool = GroupedPool(make)
        await pool.start()
        try:
            await pool.load(spec())
            await work(pool, events)
        finally:
            await pool.stop(drain=False, timeout_s=60.0)

    in_time(run())


async def ready_again(pool: GroupedPool, generation: int) -> int:
    """The process of the classes, once it has this generation and the class."""
    while True:
        status = next(status for status in pool.workers() if status.name == CLASSES)
        if status.state is WorkerState.READY and status.generation >= generation and status.versions:
            return status.pid
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("do", ["spin", pytest.param("sleep", marks=pytest.mark.slow)])
def test_a_run_that_never_ends_is_ended_at_its_limit_and_its_call_is_told_so(tmp_path: Path, do: str) -> None:
    """Calls beside it are tried again and answered; calls of the models never notice."""
    version = odd(tmp_path, max_run_s=2.0)

    async def work(pool: GroupedPool, events: Events) -> None:
        await pool.load(version)
        hung = asyncio.ensure_future(pool.infer(version.ref, ask("hung", do)))
        await asyncio.sleep(0.05)
        beside = [asyncio.ensure_future(pool.infer(version.ref, ask(f"b{n}", x=n))) for n in range(3)]
        native = 0
        while not hung.done():
            assert values(await pool.infer(ECHO, call(f"m{native}", [1.0]))) == [1.0]
            native += 1
            await asyncio.sleep(0.01)
        with pytest.raises(RunTooLong) as caught:
            await hung
        assert caught.value.limit_s == 2.0
        assert caught.value.ran_s >= 2.0
        assert "at most 2.0 s (max_run_s)" in caught.value.message
        assert [values(result) for result in await asyncio.gather(*beside)] == [[0.0], [1.0], [2.0]]
        assert native > 5
        assert pool.workers()[0].generation == 1
        stalls = [fields["reason"] for kind, subject, fields in events if kind == "worker.stalled"]
        assert len(stalls) == 1
        assert "at most 2 s" in str(stalls[0])
        await ready_again(pool, 2)
        assert values(await pool.infer(version.ref, ask("after"))) == [1.0]

    with_pool(work)


def test_a_run_shorter_than_its_limit_is_left_alone(tmp_path: Path) -> None:
    """The limit of the version counts, not the smaller one of the workers."""
    version = odd(tmp_path, max_run_s=30.0)

    async def work(pool: GroupedPool, events: Events) -> None:
        await pool.load(version)
        assert values(await pool.infer(version.ref, ask("long", "wait1.2"))) == [1.0]
        assert [kind for kind, _, _ in events if kind != "worker.started"] == []

    with_pool(work, replace(QUICK, max_run_s=0.5))


@pytest.mark.slow
def test_a_class_without_a_limit_has_that_of_the_workers(tmp_path: Path) -> None:
    version = odd(tmp_path)

    async def work(pool: GroupedPool, events: Events) -> None:
        await pool.load(version)
        with pytest.raises(RunTooLong) as caught:
            await pool.infer(version.ref, ask("hung", "sleep"))
        assert caught.value.limit_s == 1.5

    with_pool(work, replace(QUICK, max_run_s=1.5))


def test_a_class_that_hangs_in_its_warm_up_is_refused_with_the_limit(tmp_path: Path) -> None:
    """No version of it stays, and no worker."""
    version = odd(tmp_path, source=HANGING, max_run_s=0.5)

    async def work(pool: GroupedPool, events: Events) -> None:
        with pytest.raises(LoadLostTwice, match=r"a run went on for .*, at most 0\.5 s"):
            await pool.load(version)
        assert [status.name for status in pool.workers()] == ["w0"]

    with_pool(work)


def test_a_class_that_grows_without_end_is_ended_at_the_limit_of_memory(tmp_path: Path) -> None:
    """Its call sees two workers, and is told limit and size; the call beside it is answered."""
    version = odd(tmp_path, instances=2)

    async def work(pool: GroupedPool, events: Events) -> None:
        await pool.load(version)
        base = private_bytes(await ready_again(pool, 1))
        assert base is not None
        assert base < LIMIT
        growing = asyncio.ensure_future(pool.infer(version.ref, ask("growing", "grow")))
        await asyncio.sleep(0.02)
        beside = asyncio.ensure_future(pool.infer(version.ref, ask("beside", "wait0.05", 2.0)))
        with pytest.raises(WorkerMemoryExceeded) as caught:
            await growing
        assert caught.value.limit_bytes == LIMIT
        assert caught.value.private_bytes > LIMIT
        assert values(await beside) == [2.0]
        told = [fields["reason"] for kind, _, fields in events if kind == "worker.memory_exceeded"]
        assert len(told) == 2
        assert f"at most {LIMIT}" in str(told[0])
        assert pool.workers()[0].generation == 1
        assert values(await pool.infer(ECHO, call("m", [3.0]))) == [3.0]
        pid = await ready_again(pool, 3)
        assert values(await pool.infer(version.ref, ask("after"))) == [1.0]
        after = private_bytes(pid)
        assert after is not None
        assert after < LIMIT

    with_pool(work, replace(QUICK, memory_limit_bytes=LIMIT))


LIMIT = 256 << 20


@pytest.mark.slow
def test_requests_of_one_stacked_run_are_tried_again_and_only_the_guilty_one_fails(tmp_path: Path) -> None:
    """Any of them may be the one; parameters keep the guilty one in a launch of its own here."""
    version = odd(tmp_path, max_run_s=2.0, max_delay_ns=200_000_000)

    async def work(pool: GroupedPool, events: Events) -> None:
        await pool.load(version)
        first = asyncio.ensure_future(pool.infer(version.ref, ask("first", "wait0.2")))
        await asyncio.sleep(0.01)
        guilty = [asyncio.ensure_future(pool.infer(version.ref, ask(f"g{n}", "spin"))) for n in range(2)]
        outcomes = await asyncio.gather(first, *guilty, return_exceptions=True)
        assert values(outcomes[0]) == [1.0]  # type: ignore[arg-type]
        assert all(isinstance(outcome, RunTooLong) for outcome in outcomes[1:]), outcomes
        assert {outcome.request for outcome in outcomes[1:]} == {RequestId("g0"), RequestId("g1")}  # type: ignore[union-attr]

    with_pool(work)


def test_a_class_that_hangs_as_a_later_stage_of_a_pipeline_has_its_own_limit(tmp_path: Path) -> None:
    """The pipeline runs where classes do, and its call is told the limit of the stage."""
    first = odd(tmp_path, "first", max_run_s=60.0)
    second = odd(tmp_path, "second", LATER, max_run_s=1.5)
    version = replace(odd(tmp_path, "chain"), kind=VersionKind.PIPELINE, entry=".", stages=(first, second))

    async def work(pool: GroupedPool, events: Events) -> None:
        await pool.load(version)
        assert [status.name for status in pool.workers()] == ["w0", CLASSES]
        result = await pool.infer(version.ref, ask("good", model="chain"))
        assert result.outputs["z"].tolist() == [1.0]
        with pytest.raises(RunTooLong) as caught:
            await pool.infer(version.ref, ask("hung", "sleep-later", model="chain"))
        assert (caught.value.limit_s, caught.value.version) == (1.5, "chain@1")

    with_pool(work)
