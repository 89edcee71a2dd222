"""What is counted, under which labels, and what it costs to grow (L4-32)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.models import ModelMetadata, VersionKind, VersionState, VersionStatus
from plumbline.contracts.records import Routing
from plumbline.contracts.requests import RequestId
from plumbline.serving.models.refusals import NoWorkerReady, VersionNotReady
from plumbline.serving.observability.collector import collect_families
from plumbline.serving.observability.exposition import Exposition
from plumbline.serving.observability.figures import MAX_ERROR_SERIES, ServingFigures
from plumbline.serving.observability.histogram import DURATION_BOUNDS_NS, Histogram
from plumbline.serving.observability.inference import ObservedInference
from plumbline.serving.observability.processes import resident_bytes
from plumbline.serving.observability.sources import MetricSources
from plumbline.serving.ports import VersionStatistics, WorkerState, WorkerStatus

DOCUMENTED = Path(__file__).parents[4] / "docs" / "reference" / "metrics.md"
ECHO = VersionRef(model="echo", version="1")
CLASS = VersionRef(model="class", version="1")


def call(name: str = "r1", model: str = "echo", **fields: Any) -> InferenceCall:
    return InferenceCall(id=RequestId(name), model=model, protocol="rest", arrived_ns=1_000, **fields)


def result(served_by: VersionRef = ECHO, **timing: Any) -> InferenceResult:
    times = {"queued_ns": 2_000, "launched_ns": 5_000, "finished_ns": 9_000, "batched": 3, **timing}
    return InferenceResult(
        id=RequestId("r1"), served_by=served_by, outputs={"y": np.zeros(1)}, timing=InferenceTiming(**times)
    )


class Directory:
    """One ready version, one that failed."""

    def __init__(self, *refs: VersionRef) -> None:
        self.refs = refs or (ECHO,)

    def statuses(self) -> list[VersionStatus]:
        failed = VersionStatus(ref=VersionRef(model="echo", version="0"), state=VersionState.FAILED)
        settings = {"digest": "d" * 64, "revision": "r7"}
        ready = [
            VersionStatus(ref=ref, state=VersionState.READY, share=1.0, settings=settings)
            for ref in self.refs
        ]
        return [*ready, failed]

    def metadata(self, model: str, version: str | None = None) -> ModelMetadata:
        if model == "class":
            return ModelMetadata(
                ref=CLASS, kind=VersionKind.PYTHON, inputs=(), outputs=(), memory_unstated=("objects",)
            )
        if version == "0":
            raise VersionNotReady(model=model, version="0", state="failed", reason="")
        return ModelMetadata(ref=ECHO, kind=VersionKind.MODEL, inputs=(), outputs=(), memory_bytes=4096)

    def statistics(self, model: str | None = None, version: str | None = None) -> list[VersionStatistics]:
        return [VersionStatistics(ref=ECHO, successes=2, failures=1, executions=2)]


def sources(directory: Directory, resident: Any = lambda pid: 8192) -> MetricSources:
    workers = (
        WorkerStatus(
            name="w0", generation=2, pid=7, state=WorkerState.READY, steps=5, memory_bytes=1, budget_bytes=9
        ),
        WorkerStatus(name="w1", generation=1, pid=0, state=WorkerState.STARTING),
    )
    return MetricSources(
        directory=directory,
        workers=lambda: workers,
        alive=lambda: 1,
        oldest_age_ns=lambda: 5_000_000,
        resident=resident,
        counters=lambda: {"spans": {"done": 1}},
        components=lambda: {"the store of tasks": "", "the decision log of w0": "No space left on device"},
        build={"version": "1", "run": "x", "benchmark": ""},
    )


def series(
    figures: ServingFigures, known: MetricSources
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, media_type = Exposition(lambda: collect_families(figures, known)).render()
    assert media_type.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def of(found: Any, name: str, **labels: str) -> float | None:
    return found.get((f"plumbline_{name}", tuple(sorted(labels.items()))))


def busy_figures() -> ServingFigures:
    figures = ServingFigures()
    figures.arrived["rest"] += 1
    figures.abandoned["rest"] += 1
    figures.answered(call(), result(), 11_000)
    figures.failed(call(), NoWorkerReady(workers="none"))
    figures.routed(Routing(1, "r1", "echo", (), (), "", "only_version", {}))
    figures.door_answered("/v2", "GET", 200, 1_000)
    figures.happened("worker.started")
    figures.tasks = {"queued": 3}
    return figures


def test_every_series_is_documented_and_every_documented_series_exists() -> None:
    """L4-32."""
    page = DOCUMENTED.read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(plumbline_\w+)`", page, flags=re.M))
    found = series(busy_figures(), sources(Directory()))
    assert {re.sub(r"_(bucket|sum|count|created)$", "", name) for name, _ in found} == documented


def test_the_labels_of_every_series_are_the_documented_ones() -> None:
    page = DOCUMENTED.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(plumbline_\w+)` \| (\w+) \| (.*?) \|", page, flags=re.M)
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, _, labels in rows}
    for name, labels in series(busy_figures(), sources(Directory())):
        family = re.sub(r"_(bucket|sum|count|created)$", "", name)
        assert {label for label, _ in labels} - {"le"} == documented[family], name


def test_each_part_of_the_way_is_measured_from_the_times_that_the_result_carries() -> None:
    found = series(busy_figures(), sources(Directory()))
    version = {"model": "echo", "version": "1"}
    sums = {
        "request_duration": (1e-5, {"protocol": "rest"}),
        "arrival_duration": (1e-6, {}),
        "queue_duration": (3e-6, {}),
        "launch_duration": (4e-6, {}),
    }
    for name, (seconds, labels) in sums.items():
        assert of(found, f"{name}_seconds_sum", **version, **labels) == pytest.approx(seconds)
    assert of(found, "launch_requests_bucket", le="2", **version) == 0
    assert of(found, "launch_requests_bucket", le="4", **version) == 1


def test_a_component_that_does_not_work_is_one_and_the_others_are_zero() -> None:
    """L4-31, L4-32."""
    found = series(busy_figures(), sources(Directory()))
    assert of(found, "component_degraded", component="the decision log of w0") == 1
    assert of(found, "component_degraded", component="the store of tasks") == 0


def test_what_is_not_known_is_absent() -> None:
    """L4-32: no invented values."""
    figures = ServingFigures()
    figures.answered(call(), result(queued_ns=0, launched_ns=0, finished_ns=0), 11_000)
    found = series(figures, sources(Directory(), resident=lambda pid: None))
    names = {name for name, _ in found}
    assert "plumbline_request_duration_seconds_count" in names
    assert not {name for name in names if "queue_duration" in name or "launch" in name} - {
        "plumbline_version_launches_total"
    }
    assert "plumbline_tasks" not in names
    assert not {name for name in names if "resident" in name}
    assert of(found, "version_memory_bytes", model="echo", version="0") is None
    assert of(found, "worker_memory_budget_bytes", worker="w1") is None
    assert of(found, "worker_memory_budget_bytes", worker="w0") == 9


def test_memory_that_nobody_stated_is_absent_and_counted_as_unstated() -> None:
    """L4-32: not stated is not 0."""
    found = series(ServingFigures(), sources(Directory(ECHO, CLASS)))
    assert of(found, "version_memory_bytes", model="class", version="1") is None
    assert of(found, "version_memory_unstated_parts", model="class", version="1") == 1
    assert of(found, "version_memory_bytes", model="echo", version="1") == 4096
    assert of(found, "version_memory_unstated_parts", model="echo", version="1") == 0


def test_a_name_that_a_client_made_up_is_no_label() -> None:
    """X-47."""
    figures = ServingFigures(is_known=lambda model: model == "echo")
    figures.failed(call(model="secret"), NoWorkerReady(workers="none"))
    figures.door_answered("/v2", "SECRET", 405, 1)
    found = series(figures, sources(Directory()))
    assert not any("secret" in str(labels).lower() for _, labels in found)
    assert of(found, "gateway_answers_total", route="/v2", method="other", status="405") == 1


def test_errors_of_many_kinds_stay_within_a_bound() -> None:
    figures = ServingFigures()
    error = NoWorkerReady(workers="none")
    for number in range(MAX_ERROR_SERIES + 50):
        figures.failed(call(model=f"m{number}"), error)
    assert len(figures.errors) <= MAX_ERROR_SERIES + 1
    assert sum(figures.errors.values()) == MAX_ERROR_SERIES + 50


def test_the_series_of_a_version_go_with_it() -> None:
    figures = busy_figures()
    found = series(figures, sources(Directory(VersionRef(model="other", version="1"))))
    assert not any(name.startswith("plumbline_request_duration") for name, _ in found)
    assert figures.protocols == {}
    assert figures.versions == {}
    assert figures.routes == {("echo", "only_version"): 1}  # the model still has a version


def test_a_histogram_puts_a_value_into_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram((10, 20))
    for value in (10, 11, 20, 21):
        histogram.observe(value)
    assert histogram.cumulative() == [(10, 1), (20, 3), (None, 4)]
    assert (histogram.count, histogram.total) == (4, 62)
    assert list(DURATION_BOUNDS_NS) == sorted(set(DURATION_BOUNDS_NS))


def test_the_resident_size_of_this_process_is_plausible_and_that_of_none_unknown() -> None:
    size = resident_bytes()
    assert size is None or size > 1_000_000
    assert resident_bytes(2**22 + 1) is None


def test_an_observed_service_answers_as_the_other_and_observers_see_each_outcome_once() -> None:
    seen: list[Any] = []

    class Inner:
        async def infer(self, asked: InferenceCall) -> InferenceResult:
            if asked.model == "bad":
                raise NoWorkerReady(workers="none")
            if asked.model == "slow":
                await asyncio.sleep(30)
            return result()

        def cancel(self, request: RequestId) -> bool:
            return request == "r9"

    async def work() -> None:
        figures = ServingFigures()
        service = ObservedInference(
            Inner(), figures, MonotonicClock(), (lambda asked, outcome, now_ns: seen.append(outcome),)
        )
        answer = await service.infer(call())
        with pytest.raises(NoWorkerReady):
            await service.infer(call(model="bad"))
        task = asyncio.create_task(service.infer(call(model="slow")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen[0] is answer
        assert isinstance(seen[1], NoWorkerReady)
        assert seen[2] is None
        assert figures.arrived["rest"] == 3
        assert figures.abandoned["rest"] == 1
        assert sum(figures.errors.values()) == 1
        assert service.cancel(RequestId("r9"))

    asyncio.run(work())
