"""How long the engine itself takes: from submission to launch, on an idle engine with a null model.

    python -m plumbline.product.bench.dispatch [--requests 5000]

One request at a time, with a pause before each so that the loop sleeps. Prints one JSON object for each way
of running: microseconds from submission to launch, and from submission to the completion callback.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.engine.lanes import LanePool
from plumbline.engine.outcomes import Completion
from plumbline.engine.scheduler import Scheduler
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.scheduling.recording import Journal
from plumbline.testing.sessions import EchoSession, echo_call

__all__ = ["DispatchLatency", "main", "measure_dispatch"]

REF = VersionRef(model="null", version="1")
PAUSE_S = 0.0003
WARM_UP = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchLatency:
    """Microseconds over all requests of one way of running."""

    name: str
    requests: int
    launch_p50_us: float
    launch_p99_us: float
    done_p50_us: float
    done_p99_us: float


def measure_dispatch(
    name: str, lanes: LanePool, requests: int, journal: Journal | None = None
) -> DispatchLatency:
    """Send requests one by one to an idle engine.

    Args:
        name: for the report.
        lanes: of the engine.
        requests: how many.
        journal: where decisions are logged; None: nowhere.
    """
    scheduler = Scheduler(
        policy=EarliestDeadlineFirstPolicy(), streams=lanes, clock=MonotonicClock(), journal=journal
    )
    scheduler.load(REF, EchoSession(REF))
    scheduler.start()
    try:
        found = [_one(scheduler, f"r{number}") for number in range(requests + WARM_UP)][WARM_UP:]
    finally:
        scheduler.close()
    launch, done = (sorted(pair[side] for pair in found) for side in (0, 1))
    return DispatchLatency(
        name=name, requests=requests,
        launch_p50_us=_rank(launch, 0.5), launch_p99_us=_rank(launch, 0.99),
        done_p50_us=_rank(done, 0.5), done_p99_us=_rank(done, 0.99),
    )  # fmt: skip


def _one(scheduler: Scheduler, name: str) -> tuple[int, int]:
    """Nanoseconds from submission to launch, and to the callback, of one request."""
    time.sleep(PAUSE_S)
    told: list[tuple[Completion, int]] = []
    ready = threading.Lock()
    ready.acquire()

    def on_done(completion: Completion) -> None:
        told.append((completion, time.monotonic_ns()))
        ready.release()

    call = echo_call(name, REF)
    began_ns = time.monotonic_ns()
    scheduler.submit(REF, call, on_done)
    ready.acquire()
    completion, ended_ns = told[0]
    if not isinstance(completion, InferenceResult):
        raise completion
    return completion.timing.launched_ns - began_ns, ended_ns - began_ns


def _rank(values: Sequence[int], share: float) -> float:
    return round(values[min(int(len(values) * share), len(values) - 1)] / 1000, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="latency of the engine's loop on an idle engine")
    parser.add_argument("--requests", type=int, default=5000)
    requests = parser.parse_args().requests
    print(json.dumps(asdict(measure_dispatch("one stream, inline", LanePool(), requests))))
    with tempfile.TemporaryDirectory() as folder:
        journal = _open_log(Path(folder))
        found = measure_dispatch("one stream, inline, decision log", LanePool(), requests, journal)
        print(json.dumps(asdict(found)))
    print(json.dumps(asdict(measure_dispatch("two streams, threads", LanePool(2), requests))))


def _open_log(folder: Path) -> Journal:
    from plumbline.telemetry.decision_log import DecisionLog

    return DecisionLog(folder, "bench")


if __name__ == "__main__":
    main()
