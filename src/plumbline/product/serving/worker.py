"""A worker process: `python -m plumbline.product.serving.worker OPTIONS CHANNEL`, started by its gateway."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from plumbline.contracts.clock import MonotonicClock
from plumbline.engine.doorbell import Inlet
from plumbline.engine.lanes import LanePool
from plumbline.engine.scheduler import Scheduler
from plumbline.errors import PlumblineError
from plumbline.product.serving.memory_limits import model_budget_bytes, usable_memory_bytes
from plumbline.product.serving.options import WorkerOptions
from plumbline.product.serving.worker_trace import WorkerTrace
from plumbline.scheduling.policies.registry import open_policy
from plumbline.serving.workers.process import FATAL_EXIT_CODE, OpenSession, run_worker
from plumbline.telemetry.decision_log import DecisionLog
from plumbline.telemetry.sinks import NULL_SINK

__all__ = ["main", "make_scheduler", "session_opener", "worker_command"]


def worker_command(options: WorkerOptions) -> list[str]:
    """The command line of a worker, without its channel."""
    return [sys.executable, "-m", "plumbline.product.serving.worker", msgspec.json.encode(options).decode()]


def make_scheduler(
    options: WorkerOptions, *, name: str, log_folder: Path | None, progress: Any = None,
    on_failed: Callable[[PlumblineError], None] = lambda failure: None, trace: WorkerTrace | None = None,
    inlet: Inlet | None = None, log_health: Any = None,
) -> Scheduler:  # fmt: skip
    """The engine of a worker, in its own process or inside the gateway's.

    Args:
        options: of the operator.
        name: of the worker; its threads carry it.
        log_folder: for the decision log `engine`; None keeps none.
        progress: cell of the step counter.
        on_failed: told when the engine ended by itself, after it answered everyone.
        trace: of the worker; None for none.
        inlet: where calls arrive in a process of its own.
        log_health: cell of two that the decision log keeps, see `DecisionLog`.
    """
    journal = None
    if log_folder is not None:
        journal = DecisionLog(
            log_folder,
            "engine",
            segment_bytes=options.log_segment_bytes,
            keep_segments=options.log_segments,
            health=log_health,
        )
    sink = NULL_SINK if trace is None else trace.open(log_folder)
    return Scheduler(
        policy=open_policy(options.policy),
        streams=LanePool(options.streams),
        clock=MonotonicClock(),
        capacity=options.capacity,
        journal=journal,
        best_effort_segment_ns=options.best_effort_segment_ns,
        budget_bytes=model_budget_bytes(options.budget_bytes, usable_memory_bytes()),
        sink=sink,
        progress=progress,
        on_failed=on_failed,
        name=f"engine {name}",
        inlet=inlet,
    )


def session_opener(options: WorkerOptions, trace: WorkerTrace) -> OpenSession:
    """What opens versions in a worker: it compiles nothing, and leaves points of versions and refusals."""
    from plumbline.product.sessions import open_session

    opened = partial(
        open_session, compile="refuse", allow_code=options.allow_code, on_violation=trace.violated
    )
    return trace.watched(opened)


def main(arguments: list[str]) -> int:
    """Serve until told to stop; the exit code."""
    from plumbline.serving.workers.channel import WorkerChannel

    options = msgspec.json.decode(arguments[0], type=WorkerOptions)
    channel = WorkerChannel.from_arguments(arguments)
    with WorkerTrace(options.trace) as trace:
        return run_worker(
            channel,
            session_opener(options, trace),
            partial(make_scheduler, options, on_failed=_end, trace=trace),
        )


def _end(failure: PlumblineError) -> None:
    """An engine that ended by itself takes its process along; the gateway starts another."""
    print(f"fatal: {failure.code}: {failure.message}", file=sys.stderr, flush=True)
    os._exit(FATAL_EXIT_CODE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
