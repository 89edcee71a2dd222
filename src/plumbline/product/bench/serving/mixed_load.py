"""The load of `plumb bench mixed`: classes of requests, when they come, and what becomes of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceCall, InferenceResult
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.lanes import LanePool
from plumbline.engine.outcomes import Completion
from plumbline.engine.scheduler import Scheduler
from plumbline.errors import PlumblineError
from plumbline.scheduling.policies.registry import open_policy
from plumbline.scheduling.recording import Journal

__all__ = ["CLASSES", "Arrival", "LoadReport", "RequestClass", "fill_up", "plan_arrivals", "play"]

DISPATCH_NS = 150_000
"""Of the loop around each launch, as part of what a request costs the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestClass:
    """Requests of one kind.

    Attributes:
        name: for the table; also its tenant.
        model: which.
        share: of the load, by time on the stream.
        priority: 0 is the most urgent.
        deadline_factor: deadline after arrival, in cost bounds of the slowest model; None for none.
    """

    name: str
    model: str
    share: float
    priority: int
    deadline_factor: float | None


CLASSES = (
    RequestClass(name="alarm", model="random-cnn", share=0.20, priority=0, deadline_factor=3.0),
    RequestClass(name="search", model="minilm", share=0.35, priority=1, deadline_factor=8.0),
    RequestClass(name="index", model="minilm", share=0.43, priority=7, deadline_factor=None),
    RequestClass(name="probe", model="echo", share=0.02, priority=3, deadline_factor=None),
)


Arrival = tuple[float, RequestClass]
"""Seconds after the beginning, and of which class."""


@dataclass(slots=True)
class LoadReport:
    """What became of the requests of a load. Written on the engine's thread, read after it ended.

    Attributes:
        outcomes: `class: ok` or `class: code of the error`, how often.
        latencies: milliseconds from arrival in the queue to the end, of each class.
        late: ids of requests that ended after their deadline.
        launches: begin, end and class of each.
        wall_ns: from the first arrival to the last answer.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    launches: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    wall_ns: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """Of the stream's time, that each class had it."""
        busy: Counter[str] = Counter()
        for began_ns, ended_ns, name in self.launches.values():
            busy[name] += ended_ns - began_ns
        return {name: taken_ns / self.wall_ns for name, taken_ns in busy.items()}

    @property
    def utilisation(self) -> float:
        """Share of the stream's time with a launch on it."""
        return sum(self.shares.values())

    def take(self, call: InferenceCall, name: str, completion: Completion) -> None:
        """Count an answer."""
        if not isinstance(completion, InferenceResult):
            self.outcomes[f"{name}: {completion.code}"] += 1
            if completion.code == "resource.deadline_missed":
                self.late.add(call.id)
            return
        self.outcomes[f"{name}: ok"] += 1
        at = completion.timing
        self.latencies.setdefault(name, []).append((at.finished_ns - at.queued_ns) / 1e6)
        self.launches[at.launch] = at.launched_ns, at.finished_ns, name
        if call.deadline_ns is not None and at.finished_ns > call.deadline_ns:
            self.late.add(call.id)


def plan_arrivals(
    median_ns: Mapping[str, int], classes: Sequence[RequestClass], seconds: float, seed: int
) -> list[Arrival]:
    """Moments in order, random and independent; the same for the same seed. How many there are is no chance,
    so each is a Poisson process of which the count is given.

    Args:
        median_ns: cost of a request of each model.
        classes: with their shares of the stream's time.
        seconds: of arrivals.
        seed: of the moments.
    """
    generator = np.random.default_rng(seed)
    arrivals: list[Arrival] = []
    for each in classes:
        mean_s = (median_ns[each.model] + DISPATCH_NS) / 1e9 / each.share
        arrivals += [(float(at_s), each) for at_s in generator.uniform(0.0, seconds, round(seconds / mean_s))]
    return sorted(arrivals, key=lambda pair: pair[0])


def fill_up(
    classes: Sequence[RequestClass], measured: Mapping[str, float], wanted: float
) -> tuple[RequestClass, ...]:
    """The classes with so much more or less of those without deadlines that the whole comes to `wanted`.

    What a median of the calibration says of a cost is not what the cost is under load: a calibration goes on
    beside saturated streams, requests share launches, and who is refused costs nothing.

    Args:
        classes: of a first load.
        measured: share of the stream's time that each of them had.
        wanted: of all together.
    """
    flexible = sum(measured.get(each.name, 0.0) for each in classes if each.deadline_factor is None)
    if flexible <= 0.0:
        return tuple(classes)
    factor = max((flexible + wanted - sum(measured.values())) / flexible, 0.05)
    return tuple(
        each if each.deadline_factor is not None else replace(each, share=each.share * factor)
        for each in classes
    )


def play(
    sessions: Mapping[str, Any], specs: Mapping[str, VersionSpec], arrivals: Sequence[Arrival],
    slowest_ns: int, journal: Journal | None = None,
) -> LoadReport:  # fmt: skip
    """Run a load on an engine of its own: one stream, earliest deadline first, deadlines promised.

    Args:
        sessions: of each model, with cost bounds; closed at the end.
        specs: of each model.
        arrivals: when what comes.
        slowest_ns: largest cost bound; deadlines are multiples of it.
        journal: of decisions.
    """
    scheduler = Scheduler(
        policy=open_policy("earliest_deadline_first"), streams=LanePool(1), clock=MonotonicClock(),
        capacity=4096, journal=journal, best_effort_segment_ns=slowest_ns,
    )  # fmt: skip
    for name, session in sessions.items():
        scheduler.load(specs[name].ref, session, instances=1)
    scheduler.start()
    report = LoadReport()
    began_ns = time.monotonic_ns()
    try:
        refused = _submit_all(scheduler, sessions, specs, arrivals, slowest_ns, report)
        scheduler.stop(drain=True, timeout_s=60.0)
    finally:
        report.wall_ns = time.monotonic_ns() - began_ns
        scheduler.close()
    report.outcomes += refused
    return report


def _submit_all(
    scheduler: Scheduler, sessions: Mapping[str, Any], specs: Mapping[str, VersionSpec],
    arrivals: Sequence[Arrival], slowest_ns: int, report: LoadReport,
) -> Counter[str]:  # fmt: skip
    """Submit each in its moment; those that were not accepted, by reason."""
    inputs = {name: session.example() for name, session in sessions.items()}
    refused: Counter[str] = Counter()
    began_ns = time.monotonic_ns()
    for number, (at_s, each) in enumerate(arrivals):
        due_ns = began_ns + int(at_s * 1e9)
        while (wait_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(wait_ns / 1e9)
        deadline_ns = None
        if each.deadline_factor is not None:
            deadline_ns = time.monotonic_ns() + int(each.deadline_factor * slowest_ns)
        ref = specs[each.model].ref
        call = InferenceCall(
            id=RequestId(f"{each.name}-{number}"), model=ref.model, version=ref.version,
            inputs=inputs[each.model], tenant=TenantId(each.name), priority=each.priority,
            deadline_ns=deadline_ns,
        )  # fmt: skip

        def done(completion: Completion, call: InferenceCall = call, name: str = each.name) -> None:
            report.take(call, name, completion)

        try:
            scheduler.submit(ref, call, done)
        except PlumblineError as error:
            refused[f"{each.name}: {error.code}"] += 1
    return refused
