"""Three models with priorities and deadlines on one stream: are admitted deadlines kept, and what would other
policies have made of the same load?

Every model is calibrated first, so that deadlines can be promised. Requests come at random moments from a
seed, so many of each class that the classes together ask for the wanted share of the stream's time. Whoever
is refused a promise is told at once; whoever has one must end in time, or a breach with its cause is in the
decision log.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceCall, InferenceResult, Tensors, VersionRef
from plumbline.contracts.records import Breach, Promise, Record
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.contracts.versions import VersionSettings, VersionSpec
from plumbline.engine.calibration import CalibrationOptions, calibrate
from plumbline.engine.lanes import LanePool
from plumbline.engine.outcomes import Completion
from plumbline.engine.scheduler import Scheduler
from plumbline.errors import PlumblineError
from plumbline.product.bench.serving.load import quantile
from plumbline.product.bench.serving.setting import prepare_setting
from plumbline.scheduling.comparison import PolicyResult, compare_policies
from plumbline.scheduling.policies.registry import open_policy
from plumbline.scheduling.recorded_load import recorded_load
from plumbline.telemetry.decision_log import DecisionLog
from plumbline.telemetry.decision_log_reader import read_logs

__all__ = ["CLASSES", "MixedResult", "RequestClass", "plan_arrivals", "run_mixed", "unexplained"]

POLICIES = ("fifo", "priority", "fair", "edf")
_RUNS = 320
_SEGMENTS = 64
_DISPATCH_NS = 150_000
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


@dataclass(slots=True)
class _Taken:
    """What became of the requests. Written on the engine's thread, read after it ended."""

    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    launches: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedResult:
    """The document of a run, and the same load under each policy for the picture."""

    document: dict[str, Any]
    policies: list[PolicyResult]


def run_mixed(
    work: Path,
    *,
    seconds: float,
    utilisation: float,
    seed: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> MixedResult:
    """Run the load on an engine in this process and read its decision log.

    Args:
        work: folder for models and the log.
        seconds: of arrivals.
        utilisation: wanted share of the stream's time, from median costs.
        seed: of the arrivals.
        progress: told what happens.
    """
    specs = _write_versions(work)
    bounds, medians, sessions = {}, {}, {}
    for name, spec in specs.items():
        progress(f"calibrating {name}")
        bound = calibrate(_open(spec), CalibrationOptions(runs=_RUNS, held_out=80, coverage=0.99))
        bounds[name], medians[name] = bound, sum(bound.median_ns)
        settings = replace(
            spec.settings, cost_bound_ns=bound.cost_bound_ns, segment_bounds_ns=bound.segment_bounds_ns
        )
        sessions[name] = _open(replace(spec, settings=settings))
    slowest_ns = max(bound.cost_bound_ns for bound in bounds.values())
    journal = DecisionLog(work / "log", "engine", segment_bytes=4 << 20, keep_segments=_SEGMENTS)
    scheduler = Scheduler(
        policy=open_policy("earliest_deadline_first"), streams=LanePool(1), clock=MonotonicClock(),
        capacity=4096, journal=journal, best_effort_segment_ns=slowest_ns,
    )  # fmt: skip
    for name, session in sessions.items():
        scheduler.load(specs[name].ref, session, instances=1)
    scheduler.start()
    inputs = {name: session.example() for name, session in sessions.items()}
    taken = _Taken()
    progress(f"{seconds:g} s of load at {utilisation:.0%}")
    began_ns = time.monotonic_ns()
    try:
        arrivals = plan_arrivals(medians, seconds, utilisation, seed)
        refused = _submit_all(scheduler, specs, inputs, arrivals, slowest_ns, taken)
        scheduler.stop(drain=True, timeout_s=60.0)
    finally:
        wall_ns = time.monotonic_ns() - began_ns
        scheduler.close()
        journal.close()
    records = [record for log in read_logs(work / "log") for record in log.records()]
    progress("the same load under each policy")
    policies = compare_policies(recorded_load(records), POLICIES)
    busy_ns = sum(end - start for start, end in taken.launches.values())
    breaches = [record for record in records if isinstance(record, Breach)]
    promised = {record.request for record in records if isinstance(record, Promise)}
    document = {
        "seconds": seconds,
        "wanted_utilisation": utilisation,
        "measured_utilisation": round(busy_ns / wall_ns, 4),
        "cost_bound_ms": {name: bound.cost_bound_ns / 1e6 for name, bound in bounds.items()},
        "median_cost_ms": {name: cost / 1e6 for name, cost in medians.items()},
        "condition": {name: bound.condition for name, bound in bounds.items()},
        "classes": [asdict(each) for each in CLASSES],
        "requests": len(arrivals),
        "promised": len(promised),
        "outcomes": dict(sorted((taken.outcomes + refused).items())),
        "promised_and_late": len(taken.late & promised),
        "breaches": [
            {"late_ms": b.late_ns / 1e6, "cause": b.cause, "request": b.request} for b in breaches[:100]
        ],
        "breaches_in_all": len(breaches),
        "unexplained": sorted(unexplained(records, taken.late)),
        "latency_ms": {
            name: {
                "finished": len(values),
                "p50": round(quantile(sorted(values), 0.5), 3),
                "p99": round(quantile(sorted(values), 0.99), 3),
            }
            for name, values in sorted(taken.latencies.items())
        },
        "policies": [result.to_dict() for result in policies],
    }
    return MixedResult(document=document, policies=policies)


def plan_arrivals(
    median_ns: dict[str, int], seconds: float, utilisation: float, seed: int
) -> list[tuple[float, RequestClass]]:
    """Moments in seconds, in order, of each class; random and independent, the same for the same seed."""
    generator = np.random.default_rng(seed)
    arrivals: list[tuple[float, RequestClass]] = []
    for each in CLASSES:
        mean_s = (median_ns[each.model] + _DISPATCH_NS) / 1e9 / (each.share * utilisation)
        moments = np.cumsum(generator.exponential(mean_s, int(seconds / mean_s * 1.5) + 20))
        arrivals += [(float(at_s), each) for at_s in moments[moments < seconds]]
    return sorted(arrivals, key=lambda pair: pair[0])


def unexplained(records: Sequence[Record], late: set[str]) -> set[str]:
    """Requests with a promise that ended late and have no breach with a cause in the log."""
    promised = {record.request for record in records if isinstance(record, Promise)}
    explained = {record.request for record in records if isinstance(record, Breach) and record.cause}
    return (late & promised) - explained


def _submit_all(
    scheduler: Scheduler, specs: dict[str, VersionSpec], inputs: dict[str, Tensors],
    arrivals: Sequence[tuple[float, RequestClass]],
    slowest_ns: int, taken: _Taken,
) -> Counter[str]:  # fmt: skip
    """Submit each in its moment; those that were not accepted, by reason."""
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
            _take(taken, call, name, completion)

        try:
            scheduler.submit(ref, call, done)
        except PlumblineError as error:
            refused[f"{each.name}: {error.code}"] += 1
    return refused


def _take(taken: _Taken, call: InferenceCall, name: str, completion: Completion) -> None:
    if not isinstance(completion, InferenceResult):
        taken.outcomes[f"{name}: {completion.code}"] += 1
        if completion.code == "resource.deadline_missed":
            taken.late.add(call.id)
        return
    taken.outcomes[f"{name}: ok"] += 1
    at = completion.timing
    taken.latencies.setdefault(name, []).append((at.finished_ns - at.queued_ns) / 1e6)
    taken.launches[at.launch] = at.launched_ns, at.finished_ns
    if call.deadline_ns is not None and at.finished_ns > call.deadline_ns:
        taken.late.add(call.id)


def _write_versions(work: Path) -> dict[str, VersionSpec]:
    """Three versions, each for one request at a time, prepared."""
    from plumbline.product.demo_models.networks import write_random_cnn
    from plumbline.product.sessions import prepare

    setting = prepare_setting(work)
    cnn = setting.repository / "random-cnn" / "1"
    cnn.mkdir(parents=True, exist_ok=True)
    (cnn / "model.onnx").write_bytes(write_random_cnn())
    shutil.copyfile(setting.repository / "echo" / "1" / "version.toml", cnn / "version.toml")
    found = {}
    for name, settings in _settings():
        spec = _spec(setting.repository / name / "1", settings)
        prepare(spec)
        found[name] = spec
    return found


def _settings() -> Iterator[tuple[str, VersionSettings]]:
    yield "echo", VersionSettings(max_batch=1)
    yield "random-cnn", VersionSettings(max_batch=32)
    yield "minilm", VersionSettings(symbols={"tokens": 256, "rows": 1})


def _spec(folder: Path, settings: VersionSettings) -> VersionSpec:
    from plumbline.serving.repository.contents import decide_kind

    subject = f"{folder.parent.name}@{folder.name}"
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    kind, entry = decide_kind(names, None, subject=subject)
    ref = VersionRef(model=folder.parent.name, version=folder.name)
    return VersionSpec(ref=ref, kind=kind, folder=folder, entry=entry, digest="", settings=settings)


def _open(spec: VersionSpec) -> Any:
    from plumbline.product.sessions import open_session

    return open_session(spec)
