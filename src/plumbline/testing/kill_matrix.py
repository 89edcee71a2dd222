"""Kill workers at random while calls go on: `python -m plumbline.testing.kill_matrix --kills 200 --seed 1`.

Calls run all the time, of two versions, some large, some cancelled. A random worker gets a random fault at a
random time: SIGKILL, SIGSEGV, SIGABRT, SIGSTOP, its end from inside a call, or SIGKILL while it loads. Every
call must get exactly one outcome, every result must be its own, nothing may be told twice, and the gateway
(this process) stays what it is. Prints a summary as JSON; the exit code is 0 when all of that holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np

from plumbline.contracts.inference import InferenceCall, InferenceTiming, VersionRef
from plumbline.errors import PlumblineError, Recoverability
from plumbline.serving.ports import WorkerState
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.testing.worker_pools import ECHO, call, spec

__all__ = ["KillSummary", "main", "run_kill_matrix"]

WORKER = (sys.executable, "-m", "plumbline.testing.worker_entry")
_FAULTS = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGSTOP", "exit-in-call", "SIGKILL-while-loading")
_OPTIONS = PoolOptions(
    backoff_s=0.01, max_backoff_s=0.2, storm_deaths=1_000_000, stall_floor_s=0.6,
    loading_floor_s=2.0, watch_interval_s=0.03,
    own_file_bytes=256 << 10, input_bytes=4 << 20, ring_bytes=4 << 20,
)  # fmt: skip
_HANG_S = 60.0


@dataclass(slots=True, kw_only=True)
class KillSummary:
    """Attributes:
    kills: faults given; faults: of each kind.
    accepted: calls that were accepted; answered: those with their result.
    outcomes: codes of the typed failures of accepted calls, and of refusals.
    lost: accepted calls without outcome; doubled: told more than once; wrong: results of another call.
    untyped: failures that are no PlumblineError.
    replaced: workers that took the place of another.
    gateway_pid_unchanged: always true, or nobody could print it.
    seconds: it took.
    """

    kills: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    answered: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    untyped: int = 0
    replaced: int = 0
    gateway_pid_unchanged: bool = True
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.doubled or self.wrong or self.untyped) and self.gateway_pid_unchanged


class _Matrix:
    """Owner of one run."""

    def __init__(self, kills: int, seed: int, workers: int, callers: int) -> None:
        self._kills, self._workers, self._callers = kills, workers, callers
        self._random = random.Random(seed)
        self._told: Counter[str] = Counter()
        self._returned: Counter[str] = Counter()
        self._numbers = 0
        self._over = False
        self.summary = KillSummary()

    async def run(self) -> KillSummary:
        began, pid = time.monotonic(), os.getpid()
        pool = ProcessPool(
            WORKER, count=self._workers, options=_OPTIONS, on_event=self._event, on_done=self._done
        )
        await pool.start()
        try:
            await pool.load(spec(cost_bound_ns=200_000_000))
            callers = [asyncio.create_task(self._call(pool, index)) for index in range(self._callers)]
            for _ in range(self._kills):
                await asyncio.sleep(self._random.uniform(0.0, 0.25))
                await self._strike(pool)
            await self._all_ready(pool)
            self._over = True
            done, pending = await asyncio.wait(callers, timeout=_HANG_S)
            for task in done:
                task.result()
            self.summary.lost += len(pending)
        finally:
            await pool.stop(drain=True, timeout_s=_HANG_S)
        summary = self.summary
        summary.accepted = sum(self._told.values())
        summary.doubled = sum(count - 1 for count in self._told.values())
        summary.lost += sum(1 for request in self._told if self._returned[request] != 1)
        summary.gateway_pid_unchanged = os.getpid() == pid
        summary.seconds = round(time.monotonic() - began, 1)
        return summary

    # -- calls -----------------------------------------------------------------------------------------------

    async def _call(self, pool: ProcessPool, caller: int) -> None:
        dice = random.Random(self._random.random())
        while not self._over:
            self._numbers += 1
            number = self._numbers
            size = dice.choice((1, 8, 200, 200_000)) if dice.random() < 0.1 else 4
            x = np.full(size, number, dtype=np.float32)
            work = dice.choice(("", "", "", "sleep:0.002", "sleep:0.02"))
            await self._outcome(pool, call(f"c{number}", x, work), number)

    async def _outcome(self, pool: ProcessPool, asked: InferenceCall, number: int) -> None:
        try:
            result = await pool.infer(ECHO, asked)
        except PlumblineError as error:
            if self._told[asked.id]:
                self._count(self.summary.outcomes, error.code)
                self._returned[asked.id] += 1
            else:
                self._count(self.summary.refusals, error.code)
                del self._told[asked.id]
                await asyncio.sleep(0.02 if error.recoverability is Recoverability.TRANSIENT else 0.0)
        except Exception as error:  # noqa: BLE001 - the gateway: what is untyped is counted, and fails the run
            self._count(self.summary.outcomes, type(error).__name__)
            self.summary.untyped += 1
        else:
            self._returned[asked.id] += 1
            self.summary.answered += 1
            given = asked.inputs["x"]
            self.summary.wrong += not np.array_equal(result.outputs["y"], given)

    def _done(self, ref: VersionRef, asked: InferenceCall, outcome: InferenceTiming | PlumblineError) -> None:
        if ref == ECHO and asked.id.startswith("c"):
            self._told[asked.id] += 1

    def _event(self, kind: str, subject: str, **fields: object) -> None:
        self.summary.replaced += kind == "worker.replaced"

    # -- faults ----------------------------------------------------------------------------------------------

    async def _strike(self, pool: ProcessPool) -> None:
        fault = self._random.choice(_FAULTS)
        await self._some_ready(pool)
        ready = [status for status in pool.workers() if status.state is WorkerState.READY]
        victim = self._random.choice(ready)
        self.summary.kills += 1
        self._count(self.summary.faults, fault)
        if fault == "exit-in-call":
            await self._exit_in_call(pool, victim.name)
        elif fault == "SIGKILL-while-loading":
            await self._kill_while_loading(pool, victim.pid)
        else:
            _signal(victim.pid, getattr(signal, fault))

    async def _exit_in_call(self, pool: ProcessPool, worker: str) -> None:
        """The call sees two workers die, and is failed."""
        self.summary.kills += 1
        try:
            await pool.infer(ECHO, call(f"exit{self.summary.kills}", do="exit:1"), worker)
        except PlumblineError as error:
            self._count(self.summary.outcomes, f"exit-in-call: {error.code}")

    async def _kill_while_loading(self, pool: ProcessPool, pid: int) -> None:
        model = f"slow{self.summary.kills}"
        loading = asyncio.create_task(pool.load(spec("slow:0.1", model=model)))
        await asyncio.sleep(self._random.uniform(0.0, 0.12))
        _signal(pid, signal.SIGKILL)
        try:
            await loading
            await pool.unload(VersionRef(model=model, version="1"))
        except PlumblineError as error:
            self._count(self.summary.outcomes, f"load: {error.code}")

    async def _some_ready(self, pool: ProcessPool) -> None:
        while not any(status.state is WorkerState.READY for status in pool.workers()):
            await asyncio.sleep(0.005)

    async def _all_ready(self, pool: ProcessPool) -> None:
        while not all(status.state is WorkerState.READY for status in pool.workers()):
            await asyncio.sleep(0.01)

    @staticmethod
    def _count(into: dict[str, int], key: str) -> None:
        into[key] = into.get(key, 0) + 1


def _signal(pid: int, number: int) -> None:
    if pid > 0:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


async def run_kill_matrix(kills: int, seed: int, workers: int = 2, callers: int = 8) -> KillSummary:
    """Run it on the current loop.

    Args:
        kills: faults to give; an end from inside a call counts twice, since it takes two workers.
        seed: of every choice.
        workers: in the pool.
        callers: tasks that call all the time.
    """
    return await _Matrix(kills, seed, workers, callers).run()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Kill workers at random while calls go on.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--callers", type=int, default=8)
    asked = parser.parse_args()
    summary = asyncio.run(run_kill_matrix(asked.kills, asked.seed, asked.workers, asked.callers))
    sys.stdout.write(json.dumps(asdict(summary) | {"holds": summary.holds}, indent=2) + "\n")
    return 0 if summary.holds else 1


if __name__ == "__main__":
    sys.exit(main())
