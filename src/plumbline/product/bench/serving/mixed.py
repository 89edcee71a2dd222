"""Three models with priorities and deadlines on one stream: are admitted deadlines kept, and what would other
policies have made of the same load?

Every model is calibrated first, so that deadlines can be promised. Short loads say how much of the stream's
time its requests really take; the requests without deadlines are made so many that the whole comes to the
wanted share. Requests come at random moments from a seed. Whoever is refused a promise is told at once;
whoever has one must end in time, or a breach with its cause is in the decision log.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.records import Breach, Promise, Record
from plumbline.contracts.versions import VersionSettings, VersionSpec
from plumbline.engine.calibration import CalibrationOptions, CostBound, calibrate
from plumbline.product.bench.serving.load import quantile
from plumbline.product.bench.serving.mixed_load import CLASSES, LoadReport, fill_up, plan_arrivals, play
from plumbline.product.bench.serving.setting import prepare_setting
from plumbline.scheduling.comparison import PolicyResult, compare_policies
from plumbline.scheduling.recorded_load import recorded_load
from plumbline.telemetry.decision_log import DecisionLog
from plumbline.telemetry.decision_log_reader import read_logs

__all__ = ["MixedResult", "run_mixed", "unexplained"]

POLICIES = ("fifo", "priority", "fair", "edf")
_RUNS = 320
_SEGMENTS = 64
_PILOT_S = 12.0
_PILOTS = 5
_NEAR = 0.01


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
        utilisation: wanted share of the stream's time, as measured.
        seed: of the arrivals.
        progress: told what happens.
    """
    specs = _write_versions(work)
    bounds: dict[str, CostBound] = {}
    for name, spec in specs.items():
        progress(f"calibrating {name}")
        bounds[name] = calibrate(_open(spec), CalibrationOptions(runs=_RUNS, held_out=80, coverage=0.99))
        specs[name] = replace(spec, settings=_bounded(spec.settings, bounds[name]))
    medians = {name: sum(bound.median_ns) for name, bound in bounds.items()}
    slowest_ns = max(bound.cost_bound_ns for bound in bounds.values())
    classes = tuple(replace(each, share=each.share * utilisation) for each in CLASSES)
    pilots: list[float] = []
    while len(pilots) < _PILOTS and (not pilots or abs(pilots[-1] - utilisation) > _NEAR):
        progress(f"{_PILOT_S:g} s of load, to see what its requests take")
        arrivals = plan_arrivals(medians, classes, _PILOT_S, seed + 1 + len(pilots))
        pilot = play(_open_all(specs), specs, arrivals, slowest_ns)
        classes = fill_up(classes, pilot.shares, utilisation)
        pilots.append(pilot.utilisation)
    progress(f"{seconds:g} s of load at {utilisation:.0%}; before it came to {pilots[-1]:.1%}")
    arrivals = plan_arrivals(medians, classes, seconds, seed)
    journal = DecisionLog(work / "log", "engine", segment_bytes=4 << 20, keep_segments=_SEGMENTS)
    try:
        report = play(_open_all(specs), specs, arrivals, slowest_ns, journal)
    finally:
        journal.close()
    records = [record for log in read_logs(work / "log") for record in log.records()]
    progress("the same load under each policy")
    policies = compare_policies(recorded_load(records), POLICIES)
    document = {
        "seconds": seconds,
        "wanted_utilisation": utilisation,
        "pilot_utilisations": [round(found, 4) for found in pilots],
        "measured_utilisation": round(report.utilisation, 4),
        "cost_bound_ms": {name: bound.cost_bound_ns / 1e6 for name, bound in bounds.items()},
        "median_cost_ms": {name: cost / 1e6 for name, cost in medians.items()},
        "condition": {name: bound.condition for name, bound in bounds.items()},
        "classes": [asdict(each) for each in classes],
        "requests": len(arrivals),
        **_verdict(report, records),
        "policies": [result.to_dict() for result in policies],
    }
    return MixedResult(document=document, policies=policies)


def _verdict(report: LoadReport, records: Sequence[Record]) -> dict[str, Any]:
    """What became of the requests, and of the promises."""
    breaches = [record for record in records if isinstance(record, Breach)]
    promised = {record.request for record in records if isinstance(record, Promise)}
    return {
        "promised": len(promised),
        "outcomes": dict(sorted(report.outcomes.items())),
        "promised_and_late": len(report.late & promised),
        "breaches": [
            {"late_ms": b.late_ns / 1e6, "cause": b.cause, "request": b.request} for b in breaches[:100]
        ],
        "breaches_in_all": len(breaches),
        "unexplained": sorted(unexplained(records, report.late)),
        "latency_ms": {
            name: {
                "finished": len(values),
                "p50": round(quantile(sorted(values), 0.5), 3),
                "p99": round(quantile(sorted(values), 0.99), 3),
            }
            for name, values in sorted(report.latencies.items())
        },
    }


def unexplained(records: Sequence[Record], late: set[str]) -> set[str]:
    """Requests with a promise that ended late and have no breach with a cause in the log."""
    promised = {record.request for record in records if isinstance(record, Promise)}
    explained = {record.request for record in records if isinstance(record, Breach) and record.cause}
    return (late & promised) - explained


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


def _bounded(settings: VersionSettings, bound: CostBound) -> VersionSettings:
    return replace(settings, cost_bound_ns=bound.cost_bound_ns, segment_bounds_ns=bound.segment_bounds_ns)


def _open_all(specs: Mapping[str, VersionSpec]) -> dict[str, Any]:
    return {name: _open(spec) for name, spec in specs.items()}


def _open(spec: VersionSpec) -> Any:
    from plumbline.product.sessions import open_session

    return open_session(spec)
