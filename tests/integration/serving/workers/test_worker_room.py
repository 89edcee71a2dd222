"""Shared files: large tensors, full rooms, fencing of late writes, memory given back, lies (L4-72, L4-23)."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from plumbline.contracts.inference import InferenceCall, VersionRef
from plumbline.contracts.requests import RequestId
from plumbline.errors import PlumblineError
from plumbline.serving.ports import WorkerState
from plumbline.serving.workers.failures import (
    CallRefused,
    IntakeFull,
    OutcomeRefused,
    WorkerLostTwice,
)
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.serving.workers.protocol import Outcome
from plumbline.serving.workers.region import Field
from plumbline.testing.lying_worker import LIES
from plumbline.testing.worker_pools import ECHO, call, in_time, spec, values

WORKER = (sys.executable, "-m", "plumbline.testing.worker_entry")
SMALL = PoolOptions(
    backoff_s=0.01, max_backoff_s=0.02, storm_deaths=1000, input_bytes=256 << 10, ring_bytes=256 << 10,
    own_file_bytes=64 << 10, own_files=2, stall_floor_s=60.0,
)  # fmt: skip


async def opened(options: PoolOptions = SMALL, command: Sequence[str] = WORKER) -> ProcessPool:
    pool = ProcessPool(command, options=options)
    await pool.start()
    await pool.load(spec())
    return pool


async def until(happened: Callable[[], object]) -> None:
    """Wait for it; what waits for it in vain ends with the bound of the test."""
    while not happened():
        await asyncio.sleep(0.001)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_tensors_larger_than_every_room_travel_in_files_of_their_own() -> None:
    """Both ways; the limit is the call's, not the room's. Descriptors are given back."""

    async def run() -> None:
        pool = await opened()
        big = np.arange(1_000_000, dtype=np.float32)
        gc.collect()  # what other tests left is closed before the descriptors are counted
        before = len(os.listdir("/proc/self/fd"))
        for index in range(3):
            result = await pool.infer(ECHO, call(f"r{index}", big))
            assert np.array_equal(result.outputs["y"], big)
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)
        grown = await pool.infer(ECHO, call("grown", do="fill:500000"))
        assert grown.outputs["y"].shape == (500_000,)
        calls = [asyncio.ensure_future(pool.infer(ECHO, call(f"b{i}", big, "sleep:0.4"))) for i in range(2)]
        await until(lambda: len(pool._places["w0"].sent) == 2)
        with pytest.raises(IntakeFull):
            await pool.infer(ECHO, call("one too many", big))
        os.kill(pool.workers()[0].pid, signal.SIGKILL)
        for result in await asyncio.gather(*calls):
            assert np.array_equal(result.outputs["y"], big)
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


def test_a_room_without_space_refuses_transiently_and_outputs_wrap_around_it() -> None:
    async def run() -> None:
        pool = await opened()
        held = [
            asyncio.ensure_future(
                pool.infer(ECHO, call(f"h{i}", np.full(12_000, i, np.float32), "sleep:0.1"))
            )
            for i in range(4)
        ]
        await asyncio.sleep(0)
        with pytest.raises(IntakeFull, match="bytes for inputs"):
            await pool.infer(ECHO, call("late", np.ones(12_000, np.float32)))
        await asyncio.gather(*held)
        for index in range(60):
            x = np.full(500 + 211 * index, index, np.float32)
            result = await pool.infer(ECHO, call(f"r{index}", x))
            assert np.array_equal(result.outputs["y"], x)
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


def test_late_writes_of_a_killed_generation_reach_nobody() -> None:
    """Generations fence: another file, other sockets, and outcomes of the old link are not taken."""

    async def run() -> None:
        pool = await opened()
        old = pool._places["w0"].link
        assert old is not None
        late = os.dup(old.region.descriptor)
        os.kill(pool.workers()[0].pid, signal.SIGKILL)
        while pool.workers()[0].generation < 2 or pool.workers()[0].state is not WorkerState.READY:
            await asyncio.sleep(0.01)
        new = pool._places["w0"].link
        assert new is not None
        assert os.fstat(late).st_ino != os.fstat(new.region.descriptor).st_ino
        with mmap.mmap(late, os.fstat(late).st_size) as written:
            written[:] = b"\xff" * len(written)
        assert new.region.header[Field.GENERATION] == 2
        running = asyncio.ensure_future(pool.infer(ECHO, call("a", [3.0], "sleep:0.3")))
        await until(lambda: pool._places["w0"].sent)
        number = next(iter(pool._places["w0"].sent))
        pool._desk.outcomes(old, [Outcome(number, [], 0, (0, 0, 0, 0, 0, 1, 0))])
        assert values(await running) == [3.0]
        os.close(late)
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


@pytest.mark.skipif(sys.platform != "linux", reason="seals are of Linux")
def test_a_worker_cannot_cut_the_shared_file() -> None:
    """A gateway that reads a mapping of a file that was cut would die of it."""

    async def run() -> None:
        pool = await opened()
        link = pool._places["w0"].link
        assert link is not None
        with pytest.raises(PermissionError):
            os.ftruncate(link.region.descriptor, 0)
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


def test_unloading_gives_the_memory_back() -> None:
    """Resident memory of the worker falls to near where it was."""

    async def run() -> None:
        pool = await opened()
        pid = pool.workers()[0].pid
        ballast = 200 << 20
        before = resident_bytes(pid)
        await pool.load(spec(f"ballast:{ballast}", model="big"))
        assert resident_bytes(pid) - before > ballast * 0.9
        await pool.unload(VersionRef(model="big", version="1"))
        assert resident_bytes(pid) - before < ballast * 0.1
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


def test_values_that_are_not_plain_fail_their_call_alone() -> None:
    async def run() -> None:
        pool = await opened()
        bad = InferenceCall(
            id=RequestId("bad"), model="echo", inputs={"x": np.ones(1, np.float32)}, parameters={"n": 1 << 80}
        )
        outcomes = await asyncio.gather(
            pool.infer(ECHO, call("a", [1.0])), pool.infer(ECHO, bad), pool.infer(ECHO, call("b", [2.0])),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(outcomes[1], CallRefused)
        assert not isinstance(outcomes[0], BaseException)
        assert not isinstance(outcomes[2], BaseException)
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


@pytest.mark.parametrize(
    "lies",
    [
        ["garbage", "behind-the-ring", "datatype-undeclared"],
        pytest.param([name for name in LIES if name != "large"], marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_no_lie_of_a_worker_gets_through_or_hurts_the_gateway(lies: list[str]) -> None:
    """X-31, L4-72: each lie ends its worker; its call is failed typed, memory is bounded, truth follows."""

    async def run() -> None:
        pool = await opened(command=(sys.executable, "-m", "plumbline.testing.lying_worker", ",".join(lies)))
        before, outcomes = resident_bytes(os.getpid()), []
        for index in count():
            try:
                outcomes.append(await pool.infer(ECHO, call(f"r{index}", [1.0, 2.0])))
                break
            except (OutcomeRefused, WorkerLostTwice) as error:
                outcomes.append(error)
            except PlumblineError:
                await asyncio.sleep(0.02)
        told = pool.workers()[0].generation
        assert told == len(lies) + 1
        assert values(outcomes[-1]) == [1.0, 2.0]
        assert len(outcomes) > len(lies) // 2
        assert resident_bytes(os.getpid()) - before < 64 << 20
        await pool.stop(drain=True, timeout_s=60.0)

    in_time(run())


def test_workers_end_with_their_gateway() -> None:
    """A gateway that is killed leaves no process behind."""
    program = (
        "import asyncio, sys\n"
        "from plumbline.serving.workers.pool import ProcessPool\n"
        "async def main():\n"
        "    pool = ProcessPool((sys.executable, '-m', 'plumbline.testing.worker_entry'), count=2)\n"
        "    await pool.start()\n"
        "    print(*(status.pid for status in pool.workers()), flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    gateway = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert gateway.stdout is not None
    pids = [int(pid) for pid in gateway.stdout.readline().split()]
    assert len(pids) == 2
    gateway.kill()
    gateway.communicate()
    end = time.monotonic() + 60.0
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)
