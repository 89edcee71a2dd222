"""What a class does to its worker beside its work ends, has a typed outcome, and no other victims (X-31)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.contracts.inference import InferenceCall
from plumbline.contracts.models import VersionKind
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.sessions.python import ClassFailed
from plumbline.product.serving.options import WorkerOptions
from plumbline.product.serving.worker import worker_command
from plumbline.serving.workers.failures import WorkerLostTwice
from plumbline.serving.workers.grouped import GroupedPool
from plumbline.serving.workers.groups import MODELS
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.testing.worker_pools import in_time, spec, values

QUICK = PoolOptions(backoff_s=0.02, max_backoff_s=0.2, watch_interval_s=0.02, stall_floor_s=60.0)
REFUSES_ZERO = """
class Odd:
    inputs = {"x": ("FP32", (-1,))}

    def run(self, inputs, parameters):
        if not inputs["x"].all():
            raise ValueError(f"no zeros, not even {inputs['x'][0]}")
        return {"y": inputs["x"]}
"""

FORKS = """
import os
import time


class Odd:
    inputs = {"x": ("FP32", (-1,))}

    def run(self, inputs, parameters):
        do = parameters.get("do", "")
        if do and os.fork() == 0:
            if do == "fork and stay":
                time.sleep(600)
            if do == "fork and raise":
                raise SystemExit(3)
            return {"y": inputs["x"] + 100}
        if do == "end":
            os._exit(3)
        return {"y": inputs["x"]}
"""


def version_of(folder: Path, source: str, **settings: Any) -> VersionSpec:
    """The class `Odd` of this source."""
    (folder / "model.py").write_text(source)
    made = spec("model.py:Odd", model="odd", folder=folder, **settings)
    return VersionSpec(
        ref=made.ref, kind=VersionKind.PYTHON, folder=folder, entry="model.py:Odd", digest="0" * 64,
        settings=made.settings,
    )  # fmt: skip


def ask(name: str, do: str = "", x: float = 1.0) -> InferenceCall:
    """A call of it."""
    return InferenceCall(
        id=RequestId(name), model="odd", inputs={"x": np.array([x], np.float32)}, parameters={"do": do}
    )


def with_pool(work: Callable[[GroupedPool], Awaitable[None]], options: PoolOptions = QUICK) -> None:
    """A pool that has a worker for classes while one is loaded, and none for models."""
    command = worker_command(WorkerOptions(allow_code=True))

    def make(group: str) -> ProcessPool:
        return ProcessPool(command, count=0 if group == MODELS else 1, prefix=f"{group}-", options=options)

    async def run() -> None:
        pool = GroupedPool(make)
        await pool.start()
        try:
            await work(pool)
        finally:
            await pool.stop(drain=False, timeout_s=60.0)

    in_time(run())


def test_a_class_that_fails_on_the_example_of_its_load_says_text_and_line(tmp_path: Path) -> None:
    """The input there is our own; what a client's input made it say stays inside."""
    version = version_of(tmp_path, REFUSES_ZERO)

    async def work(pool: GroupedPool) -> None:
        with pytest.raises(ClassFailed, match=r"raised ValueError: no zeros, .* 0\.0 \(model\.py line 7\)"):
            await pool.load(version)
        (tmp_path / "model.py").write_text(
            REFUSES_ZERO.replace("not inputs", "7.0 in inputs").replace(".all()", "")
        )
        await pool.load(version)
        with pytest.raises(ClassFailed, match=r"raised ValueError$"):
            await pool.infer(version.ref, ask("client", x=7.0))
        assert values(await pool.infer(version.ref, ask("other", x=2.0))) == [2.0]

    with_pool(work)


def living_of_group(group: int) -> set[int]:
    """Processes of a group; one that is dead and not reaped does nothing any more."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(its_group) == group and state != "Z":
                found.add(int(entry.name))
    return found


async def gone(group: int) -> None:
    """Killed processes need a moment."""
    while living_of_group(group):
        await asyncio.sleep(0.01)


def leads_to_worker(process: int) -> list[str]:
    """Sockets and shared files that a process has open or mapped."""
    open_files = [os.readlink(entry) for entry in Path(f"/proc/{process}/fd").iterdir()]
    found = [name for name in open_files if name.startswith("socket:") or "memfd" in name]
    return found + [
        line for line in Path(f"/proc/{process}/maps").read_text().splitlines() if "memfd" in line
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(
    "ending",
    [
        "unload",
        "kill",
        pytest.param("stop", marks=pytest.mark.slow),
        pytest.param("end", marks=pytest.mark.slow),
    ],
)
def test_what_a_class_forked_answers_nothing_and_ends_with_its_worker(tmp_path: Path, ending: str) -> None:
    """L4-72: requests after a fork are answered by the worker, and nothing of its group outlives it."""
    version = version_of(tmp_path, FORKS)

    async def work(pool: GroupedPool) -> None:
        await pool.load(version)
        (worker,) = (status.pid for status in pool.workers())
        for number, do in enumerate(("fork and stay", "fork and return", "fork and raise") * 2):
            assert values(await pool.infer(version.ref, ask(f"f{number}", do, float(number)))) == [
                float(number)
            ]
            assert values(await pool.infer(version.ref, ask(f"p{number}", "", -1.0))) == [-1.0]
        while len(staying := living_of_group(worker) - {worker}) != 2:  # the others ended by themselves
            await asyncio.sleep(0.01)
        for process in staying:
            assert leads_to_worker(process) == []
        if ending == "unload":
            await pool.unload(version.ref)
        elif ending == "stop":
            await pool.stop(drain=True, timeout_s=60.0)
        elif ending == "kill":
            os.kill(worker, signal.SIGKILL)
        else:
            with pytest.raises(WorkerLostTwice):
                await pool.infer(version.ref, ask("last", "end"))
        await gone(worker)

    with_pool(work)


ANYTHING = """
import builtins
import os
import signal
import sys
import threading


class Odd:
    inputs = {"x": ("FP32", (-1,))}

    def run(self, inputs, parameters):
        exec(parameters.get("do", ""), globals())
        return {"y": inputs["x"]}
"""


def test_what_a_class_does_to_its_process_is_its_own_failure_or_none_at_all(tmp_path: Path) -> None:
    """X-31: the same worker goes on, and what it printed is kept up to a bound."""
    version = version_of(tmp_path, ANYTHING)
    harmless = (
        "os.chdir('/')",
        "[os.close(number) for number in (0, 1, 2)]",
        "sys.stdout = sys.stderr = None",
        "threading.Thread(target=sys.exit).start()",
        "threading.Thread(target=lambda: 1 / 0).start()",
    )
    failing = {
        "sys.exit(3)": "SystemExit",
        "raise KeyboardInterrupt": "KeyboardInterrupt",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)": "ValueError",
        "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})": "Mute",
    }

    async def work(pool: GroupedPool) -> None:
        await pool.load(version)
        printing = "[print('x' * (1 << 20)) for _ in range(20)]"
        assert values(await pool.infer(version.ref, ask("prints", printing))) == [1.0]
        for number, (do, name) in enumerate(failing.items()):
            with pytest.raises(ClassFailed, match=f"raised {name}$"):
                await pool.infer(version.ref, ask(f"f{number}", do))
        for number, do in enumerate(harmless):
            assert values(await pool.infer(version.ref, ask(f"h{number}", do, 2.0))) == [2.0]
            assert values(await pool.infer(version.ref, ask(f"after{number}", "", 3.0))) == [3.0]
        (status,) = pool.workers()
        assert status.generation == 1
        assert len(pool.output(status.name)) <= QUICK.log_bytes

    with_pool(work)


@pytest.mark.parametrize(
    "do",
    [
        "os.closerange(3, 1000)",
        pytest.param("del builtins.len, builtins.isinstance", marks=pytest.mark.slow),
    ],
)
def test_a_class_that_breaks_its_process_ends_its_own_call_and_no_other(tmp_path: Path, do: str) -> None:
    """X-31: two workers are tried, the call fails typed, and the next one finds a whole worker."""
    version = version_of(tmp_path, ANYTHING)

    async def work(pool: GroupedPool) -> None:
        await pool.load(version)
        with pytest.raises(WorkerLostTwice):
            await pool.infer(version.ref, ask("breaks", do))
        while not any(status.versions for status in pool.workers()):
            await asyncio.sleep(0.01)
        assert values(await pool.infer(version.ref, ask("next", "", 5.0))) == [5.0]

    with_pool(work)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_what_a_class_forks_while_it_is_loaded_leaves_no_second_worker(tmp_path: Path) -> None:
    """L4-72: a fork of the file, or of `setup`, ends where the version's code ends."""
    at_load = FORKS.replace(
        "class Odd:", "os.fork()\n\n\nclass Odd:\n    def setup(self, context):\n        os.fork()\n"
    )
    version = version_of(tmp_path, at_load)

    async def work(pool: GroupedPool) -> None:
        await pool.load(version)
        (worker,) = (status.pid for status in pool.workers())
        while living_of_group(worker) != {worker}:
            await asyncio.sleep(0.01)
        assert values(await pool.infer(version.ref, ask("after", "", 4.0))) == [4.0]

    with_pool(work)
