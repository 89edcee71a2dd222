"""`EngineHealth`: ready means progress of a worker, and a real inference of every wanted version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from plumbline.contracts.models import VersionStatus
from plumbline.serving.ports import WorkerPool, WorkerState, WorkerStatus

__all__ = ["EngineHealth"]

_MOST_VERSIONS: Final = 20

Check = Callable[[], str]
"""Gives the reason why something does not work, or an empty text."""


class EngineHealth:
    """Implements `serving.ports.HealthService` (requirement L4-31).

    A worker that is stalled, or dead and not yet replaced, makes the gateway not ready even beside healthy
    ones: its calls wait. One that is starting beside a ready one (growth) does not.

    What inference can do without is *degraded* where it does not work: told by name, and readiness stays. So
    is the decision log of a worker: what it cannot record is answered all the same.

    Args:
        pool: whose workers must make progress.
        unready: versions that are wanted and do not serve.
        checks: what else inference needs, by name; each gives the reason why it does not work, or an empty
            text. Called on each question, on the event loop.
        absent: keys of ready versions that no worker has now; asked likewise.
        conveniences: as `checks`, for what inference does not need.
    """

    def __init__(
        self,
        pool: WorkerPool,
        unready: Callable[[], Sequence[VersionStatus]],
        checks: Mapping[str, Check] | None = None,
        absent: Callable[[], Sequence[str]] = tuple,
        conveniences: Mapping[str, Check] | None = None,
    ) -> None:
        self._pool, self._unready, self._absent = pool, unready, absent
        self._checks, self._conveniences = dict(checks or {}), dict(conveniences or {})
        self._started = False

    def started(self) -> None:
        """The versions wanted at start were loaded, or found wanting."""
        self._started = True

    def is_live(self) -> bool:
        """Whoever can ask this gets True: the loop turned."""
        return True

    def readiness(self) -> tuple[bool, Mapping[str, Any]]:
        """Ready or not, with every reason by name; of versions the first twenty, and a count."""
        workers = self._pool.workers()
        reasons = [
            f"worker {worker.name} is {worker.state}"
            for worker in workers
            if worker.state in (WorkerState.STALLED, WorkerState.DEAD)
        ]
        if not any(worker.state is WorkerState.READY for worker in workers):
            reasons.append("no worker is ready")
        if not self._started:
            reasons.append("the models of the start are being loaded")
        unready = [f"{status.ref} is {status.state}: {status.reason}" for status in self._unready()]
        reasons += _bounded(unready, "versions do not serve")
        reasons += _bounded([f"{key} is not back in a worker yet" for key in self._absent()], "are not back")
        reasons += _told((name, check()) for name, check in self._checks.items())
        return not reasons, {
            "reasons": reasons,
            "degraded": _told(self._degraded(workers)),
            "workers": {worker.name: worker.state.value for worker in workers},
        }

    def components(self) -> Mapping[str, str]:
        """What is looked at beside workers and versions: why each does not work, or an empty text."""
        found = {name: check() for name, check in self._checks.items()}
        return found | dict(self._degraded(self._pool.workers()))

    def _degraded(self, workers: Sequence[WorkerStatus]) -> Iterator[tuple[str, str]]:
        for name, check in self._conveniences.items():
            yield name, check()
        for worker in workers:
            missed = f", {worker.missed_decisions} decisions missed" if worker.log_trouble else ""
            yield f"the decision log of {worker.name}", worker.log_trouble + missed


def _bounded(reasons: list[str], kind: str) -> list[str]:
    """Whoever asks every second is not told 800 lines each time."""
    more = len(reasons) - _MOST_VERSIONS
    return reasons if more <= 0 else [*reasons[:_MOST_VERSIONS], f"{more} more {kind}"]


def _told(found: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}: {reason}" for name, reason in found if reason]
