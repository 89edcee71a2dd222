"""`collect_families`: counts and sources as Prometheus families. What is not known has no sample.

Every series is described in docs/reference/metrics.md; a test compares.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from plumbline.contracts.models import VersionState
from plumbline.errors import PlumblineError
from plumbline.serving.observability.figures import ServingFigures
from plumbline.serving.observability.histogram import Histogram
from plumbline.serving.observability.sources import MetricSources

__all__ = ["collect_families"]

_S = 1e-9
_VERSION = ("model", "version")


def collect_families(figures: ServingFigures, sources: MetricSources) -> Iterator[Metric]:
    """Every family, in a stable order. Called on the event loop that owns the figures."""
    statuses = sources.directory.statuses()
    figures.forget_all_but({(status.ref.model, status.ref.version) for status in statuses})
    yield InfoMetricFamily("plumbline_build", "This run of the server.", value=dict(sources.build))
    yield from _requests(figures, sources)
    yield from _durations(figures)
    yield from _versions(sources)
    yield from _workers(sources)
    yield _degraded(sources)
    yield from _events_and_tasks(figures)
    yield from _door(figures)
    yield from _process(sources)
    yield from _telemetry(sources)


def _requests(figures: ServingFigures, sources: MetricSources) -> Iterator[Metric]:
    arrived = _counter("requests_arrived", "Inference requests that reached routing.", "protocol")
    abandoned = _counter("requests_abandoned", "Requests whose caller stopped waiting.", "protocol")
    for family, counts in ((arrived, figures.arrived), (abandoned, figures.abandoned)):
        for protocol, count in sorted(counts.items()):
            family.add_metric((protocol,), count)
        yield family
    errors = _counter("request_errors", "Requests that got an error.", "model", "protocol", "class", "code")
    for labels, count in sorted(figures.errors.items()):
        errors.add_metric(labels, count)
    yield errors
    routes = _counter("routes", "Decided routes by reason.", "model", "reason")
    for route, count in sorted(figures.routes.items()):
        routes.add_metric(route, count)
    yield routes
    yield GaugeMetricFamily("plumbline_requests_alive", "Without an outcome.", sources.alive())
    age_s = sources.oldest_age_ns() * _S
    yield GaugeMetricFamily("plumbline_oldest_request_age_seconds", "Of those alive; 0 without any.", age_s)


def _durations(figures: ServingFigures) -> Iterator[Metric]:
    duration = _histogram("request_duration_seconds", "Arrival to result.", *_VERSION, "protocol")
    for protocol, found in sorted(figures.protocols.items()):
        _add(duration, protocol, found.duration, _S)
    yield duration
    arrival = _histogram("arrival_duration_seconds", "Arrival to the engine's queue.", *_VERSION)
    queue = _histogram("queue_duration_seconds", "In the engine's queue.", *_VERSION)
    launch = _histogram("launch_duration_seconds", "Launch to its end, as each request saw it.", *_VERSION)
    sizes = _histogram("launch_requests", "Requests that shared the launch of a request.", *_VERSION)
    for version, parts in sorted(figures.versions.items()):
        _add(arrival, version, parts.arrival, _S)
        _add(queue, version, parts.queue, _S)
        _add(launch, version, parts.launch, _S)
        _add(sizes, version, parts.sizes, 1)
    yield from (arrival, queue, launch, sizes)


def _versions(sources: MetricSources) -> Iterator[Metric]:
    state = _gauge("version_state", "1 for the state that the version is in.", *_VERSION, "state")
    share = _gauge("version_share_ratio", "Of requests that name no version.", *_VERSION)
    source = _gauge("version_source_info", "Where it comes from.", *_VERSION, "digest", "revision")
    memory = _gauge("version_memory_bytes", "Planned or stated, in one worker.", *_VERSION)
    unstated = _gauge("version_memory_unstated_parts", "Parts whose memory nobody stated.", *_VERSION)
    for status in sources.directory.statuses():
        labels = (status.ref.model, status.ref.version)
        state.add_metric((*labels, status.state.value), 1)
        share.add_metric(labels, status.share)
        facts = status.settings
        source.add_metric((*labels, str(facts.get("digest", "")), str(facts.get("revision", ""))), 1)
        if status.state is not VersionState.READY:  # it has no plan
            continue
        try:
            metadata = sources.directory.metadata(*labels)
        except PlumblineError:  # it is not loaded: it has no plan
            continue
        unstated.add_metric(labels, len(metadata.memory_unstated))
        if metadata.stated_memory_bytes is not None:
            memory.add_metric(labels, metadata.stated_memory_bytes)
    yield from (state, share, source, memory, unstated)
    outcomes = _counter("version_outcomes", "Accepted requests since it became ready.", *_VERSION, "outcome")
    launches = _counter("version_launches", "Launches since it became ready.", *_VERSION)
    for counts in sources.directory.statistics():
        labels = (counts.ref.model, counts.ref.version)
        outcomes.add_metric((*labels, "success"), counts.successes)
        outcomes.add_metric((*labels, "failure"), counts.failures)
        launches.add_metric(labels, counts.executions)
    yield from (outcomes, launches)


def _workers(sources: MetricSources) -> Iterator[Metric]:
    state = _gauge("worker_state", "1 for the state that the worker is in.", "worker", "state")
    generation = _gauge("worker_generation", "Processes that have held the place.", "worker")
    queued = _gauge("worker_queued_requests", "Accepted and not launched.", "worker")
    running = _gauge("worker_running_requests", "Launched and not answered.", "worker")
    steps = _counter("worker_steps", "Progress of its engine loop.", "worker")
    memory = _gauge("worker_memory_bytes", "Planned by its loaded versions.", "worker")
    budget = _gauge("worker_memory_budget_bytes", "Most that they may plan.", "worker")
    missed = _counter("worker_missed_decisions", "Not in its decision log.", "worker")
    resident = _gauge("worker_resident_bytes", "Resident memory of its process.", "worker")
    for worker in sources.workers():
        name = (worker.name,)
        state.add_metric((worker.name, worker.state.value), 1)
        generation.add_metric(name, worker.generation)
        queued.add_metric(name, worker.queued)
        running.add_metric(name, worker.running)
        steps.add_metric(name, worker.steps)
        missed.add_metric(name, worker.missed_decisions)
        memory.add_metric(name, worker.memory_bytes)
        if worker.budget_bytes is not None:
            budget.add_metric(name, worker.budget_bytes)
        size = sources.resident(worker.pid) if worker.pid else None
        if size is not None:
            resident.add_metric(name, size)
    yield from (state, generation, queued, running, steps, memory, budget, missed, resident)


def _degraded(sources: MetricSources) -> Metric:
    family = _gauge("component_degraded", "1 while it does not work.", "component")
    for component, reason in sources.components().items():
        family.add_metric((component,), int(bool(reason)))
    return family


def _events_and_tasks(figures: ServingFigures) -> Iterator[Metric]:
    events = _counter("events", "Published events.", "kind")
    for kind, count in sorted(figures.events.items()):
        events.add_metric((kind,), count)
    yield events
    dropped = figures.subscribers_dropped
    yield CounterMetricFamily("plumbline_event_subscribers_dropped", "They fell behind.", dropped)
    if figures.tasks is not None:
        states = _gauge("tasks", "In the store, sampled.", "state")
        for state, count in figures.tasks.items():
            states.add_metric((state,), count)
        yield states


def _door(figures: ServingFigures) -> Iterator[Metric]:
    answers = _counter("gateway_answers", "HTTP and gRPC answers.", "route", "method", "status")
    for (route, method, status), count in sorted(figures.answers.items()):
        answers.add_metric((route, method, str(status)), count)
    yield answers
    duration = _histogram("gateway_answer_duration_seconds", "Head of the request to its answer.", "route")
    for route, histogram in sorted(figures.routes_ns.items()):
        _add(duration, (route,), histogram, _S)
    yield duration


def _process(sources: MetricSources) -> Iterator[Metric]:
    size = sources.resident(None)
    if size is not None:
        yield GaugeMetricFamily("plumbline_process_resident_bytes", "Of the gateway.", size)
    cpu = time.process_time()
    yield CounterMetricFamily("plumbline_process_cpu_seconds", "Of the gateway, user and system.", cpu)


def _telemetry(sources: MetricSources) -> Iterator[Metric]:
    family = _counter("telemetry", "What became of spans, log lines and exports.", "what", "outcome")
    for what, outcomes in sorted(sources.counters().items()):
        for outcome, count in sorted(outcomes.items()):
            family.add_metric((what, outcome), count)
    yield family


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"plumbline_{name}", text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"plumbline_{name}", text, labels=labels)


def _histogram(name: str, text: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"plumbline_{name}", text, labels=labels)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram, unit: float) -> None:
    """A histogram that saw nothing is absent."""
    pairs = histogram.cumulative()
    if not pairs[-1][1]:
        return
    buckets = [("+Inf" if bound is None else f"{bound * unit:g}", float(count)) for bound, count in pairs]
    family.add_metric(labels, buckets, histogram.total * unit)
