"""`Autoscaler`: looks at the load of the pool, and gives it the number of workers that scaling decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from plumbline.contracts.clock import Clock
from plumbline.errors import PlumblineError
from plumbline.serving.models.announcing import Announce, say_nothing
from plumbline.serving.models.scaling import (
    LoadSample,
    ScalingDecision,
    ScalingMemory,
    ScalingPolicy,
    decide_scale,
)
from plumbline.serving.ports import WorkerPool, WorkerState

__all__ = ["Autoscaler"]

_LEAVING = frozenset({WorkerState.DRAINING, WorkerState.DEAD})


class Autoscaler:
    """Owns the number of workers. One `run` at a time.

    Args:
        pool: that is scaled.
        policy: bounds and thresholds.
        clock: for decisions.
        oldest_age_ns: age of the oldest unanswered request, 0 without any.
        interval_s: between two looks.
        announce: told about every change, and about one that failed.
    """

    def __init__(
        self,
        pool: WorkerPool,
        policy: ScalingPolicy,
        clock: Clock,
        *,
        oldest_age_ns: Callable[[], int] = lambda: 0,
        interval_s: float = 0.5,
        announce: Announce = say_nothing,
    ) -> None:
        self._pool, self._policy, self._clock = pool, policy, clock
        self._oldest_age_ns, self._interval_s, self._announce = oldest_age_ns, interval_s, announce
        self._memory = ScalingMemory()

    async def run(self) -> None:
        """Look and apply until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(self._interval_s)

    async def step(self) -> ScalingDecision:
        """One look. A pool that cannot follow is announced, and asked again at the next look."""
        load = self._load()
        decision = decide_scale(self._policy, load, self._memory, self._clock.now_ns())
        self._memory = decision.memory
        if decision.workers == load.workers:
            return decision
        try:
            await self._pool.scale(decision.workers)
        except PlumblineError as error:
            self._announce("workers.scale_failed", "pool", wanted=decision.workers, reason=error.message)
            return decision
        self._announce(
            "workers.scaled", "pool", before=load.workers, after=decision.workers, reason=decision.reason
        )
        return decision

    def _load(self) -> LoadSample:
        staying = [worker for worker in self._pool.workers() if worker.state not in _LEAVING]
        return LoadSample(
            workers=len(staying),
            accepted=sum(worker.queued + worker.running for worker in staying),
            oldest_age_ns=self._oldest_age_ns(),
        )
