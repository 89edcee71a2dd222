"""`open_observation`: what watches a server, put together: figures, log, spans, exporters, the run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import VersionRef
from plumbline.contracts.records import Routing, encode_record
from plumbline.errors import PlumblineError
from plumbline.product.serving.options import ServeOptions
from plumbline.serving.models.directory import Directory
from plumbline.serving.models.service import RoutedInference
from plumbline.serving.observability.collector import collect_families
from plumbline.serving.observability.events import EventWatcher, WatchedEvents
from plumbline.serving.observability.exporting import ExporterSeat, load_exporter
from plumbline.serving.observability.exposition import Exposition
from plumbline.serving.observability.figures import ServingFigures
from plumbline.serving.observability.inference import ObservedInference, RequestObserver
from plumbline.serving.observability.processes import resident_bytes
from plumbline.serving.observability.server_log import LogFormat, ServerLog, SlowRequests
from plumbline.serving.observability.sources import MetricSources
from plumbline.serving.observability.spans import TaskFacts
from plumbline.serving.observability.tracing import RequestTracer
from plumbline.serving.ports import EventService, WorkerPool
from plumbline.serving.tasks.record import TaskRecord, TaskState, request_id_of
from plumbline.serving.tasks.store import TaskStore
from plumbline.telemetry.decision_log import DecisionLog

__all__ = ["Observation", "open_observation"]

_CLOSE_S = 2.0
_SAMPLE_S = 5.0
_EVENT_FILE_BYTES = 64 << 20


class Observation:
    """Everything that watches one run of a server. Used on its event loop.

    Attributes:
        run: id of this run, which metrics, spans, log lines and the exported run carry.
        figures: counts.
        log: of the server.

    Args:
        options: of the operator.
        clock: the one of requests.
        folder: of this run of the server.
    """

    def __init__(self, options: ServeOptions, clock: Clock, folder: Path) -> None:
        self.run, self._options, self._clock, self._folder = folder.name, options, clock, folder
        self.labels = {
            "version": installed_version("plumbline-runtime"),
            "run": self.run,
            "benchmark": options.benchmark,
        }
        self.figures = ServingFigures(self._is_known)
        self.log = ServerLog(sys.stderr, LogFormat(options.log_format), clock, {"run": self.run})
        self._files = contextlib.ExitStack()
        self._event_log: ServerLog | None = None
        self._seats = [ExporterSeat(name, load_exporter(name)) for name in options.metrics_exporters]
        self._directory: Directory | None = None
        self._tracer = self._open_tracer(options.otlp_endpoint)
        self._exposition: Exposition | None = None

    # -- what parts of the server are wrapped in -------------------------------------------------------------

    def events(self, inner: EventService) -> EventService:
        """The event service that everyone uses."""
        watchers: list[EventWatcher] = [lambda kind, *_: self.figures.happened(kind), self.log.happened]
        if self._options.worker.trace:
            stream = self._files.enter_context((self._folder / "events.jsonl").open("a", encoding="ascii"))
            event_log = ServerLog(
                stream, LogFormat.JSON, self._clock, {"run": self.run}, limit_bytes=_EVENT_FILE_BYTES
            )
            self._event_log = event_log
            watchers.append(lambda kind, subject, _, fields: event_log.write(kind, subject, **fields))
        return WatchedEvents(inner, tuple(watchers), self.figures.subscriber_dropped)

    def inference(self, inner: RoutedInference) -> ObservedInference:
        """The inference service that gateway and tasks use."""
        observers: list[RequestObserver] = [SlowRequests(self.log, int(self._options.slow_s * 1e9))]
        if self._tracer is not None:
            observers.append(self._tracer.finished)
        return ObservedInference(inner, self.figures, self._clock, tuple(observers))

    def task_ended(self, record: TaskRecord) -> None:
        """A task ended: its span. One from before tasks had spans has none."""
        if self._tracer is None or record.caller_span is None:
            return
        self._tracer.task_ended(
            TaskFacts(
                request=request_id_of(record) if record.generation else "",
                model=record.model,
                priority=record.priority,
                claims=record.generation,
                traceparent=record.traceparent,
                caller_span=record.caller_span,
                accepted_wall_ns=record.accepted_wall_ns,
                finished_wall_ns=record.finished_wall_ns or record.accepted_wall_ns,
                outcome="ok" if record.state is TaskState.SUCCEEDED else record.state.value,
            )
        )

    def record_routes(self, routes: DecisionLog) -> Callable[[Routing], None]:
        """Takes routing records: into the log, the figures, and the spans."""
        append, routed, tracer = routes.append, self.figures.routed, self._tracer
        if tracer is None:

            def record(routing: Routing) -> None:
                append(encode_record(routing))
                routed(routing)

            return record

        def record_and_trace(routing: Routing) -> None:
            append(encode_record(routing))
            routed(routing)
            tracer.routed(routing, f"gateway/routes#{routes.records - 1}")

        return record_and_trace

    def metrics(self) -> tuple[bytes, str]:
        """The exposition of now, and its media type."""
        if self._exposition is None:
            return b"", "text/plain"
        return self._exposition.render()

    # -- life ------------------------------------------------------------------------------------------------

    def watch(
        self,
        directory: Directory,
        pool: WorkerPool,
        routed: RoutedInference,
        components: Callable[[], Mapping[str, str]],
    ) -> None:
        """Read these for metrics from now on. `components`: of `EngineHealth`."""
        self._directory = directory
        sources = MetricSources(
            directory=directory,
            workers=pool.workers,
            alive=routed.alive,
            oldest_age_ns=routed.oldest_age_ns,
            resident=resident_bytes,
            counters=self._counters,
            components=components,
            build=self.labels,
        )
        self._exposition = Exposition(lambda: collect_families(self.figures, sources))

    async def sample(self, store: TaskStore) -> None:
        """Look at the tasks now and then, and give exporters their snapshots, until cancelled."""
        next_export = self._clock.now_ns()
        pause_s = min(_SAMPLE_S, self._options.metrics_interval_s)
        while True:
            try:
                self.figures.tasks = {state.value: count for state, count in (await store.counts()).items()}
            except PlumblineError:
                self.figures.tasks = None
            if self._seats and self._clock.now_ns() >= next_export:
                next_export = self._clock.now_ns() + int(self._options.metrics_interval_s * 1e9)
                self.export()
            await asyncio.sleep(pause_s)

    def export(self) -> None:
        """Give every exporter a snapshot."""
        if self._seats and self._exposition is not None:
            snapshot = self._exposition.snapshot(self._clock.wall_ns())
            for seat in self._seats:
                seat.offer(snapshot)

    def export_run(self) -> None:
        """With traces on: beside them, what this run was and what it counted (requirement X-46)."""
        self.export()
        if not self._options.worker.trace:
            return
        document = {"schema_version": 1, **self.labels, "sources": self._revisions()}
        with contextlib.suppress(OSError):
            (self._folder / "metrics.prom").write_bytes(self.metrics()[0])
            (self._folder / "run.json").write_text(json.dumps(document, indent=1), encoding="ascii")

    async def close(self) -> None:
        """Send and write what waits, within seconds, whoever hangs."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._tracer is not None:
            self._tracer.close(_CLOSE_S)
        for seat in self._seats:
            seat.close(_CLOSE_S)
        if self._event_log is not None:
            self._event_log.close(_CLOSE_S)
        self._files.close()
        self.log.close(_CLOSE_S)

    # -- inside ----------------------------------------------------------------------------------------------

    def _open_tracer(self, endpoint: str | None) -> RequestTracer | None:
        if endpoint is None:
            return None
        from plumbline.serving.observability.otlp import OtlpSpanExporter

        resource = {
            "service.name": "plumbline",
            "service.version": self.labels["version"],
            "service.instance.id": self.run,
        }
        if self._options.benchmark:
            resource["plumbline.benchmark"] = self._options.benchmark
        return RequestTracer(OtlpSpanExporter(endpoint, resource), self._clock, self._source)

    def _source(self, ref: VersionRef) -> tuple[str, str]:
        if self._directory is None:
            return "", ""
        published = self._directory.version(ref).published
        return published.digest, published.revision

    def _is_known(self, model: str) -> bool:
        try:
            return self._directory is not None and bool(self._directory.model(model))
        except PlumblineError:
            return False

    def _revisions(self) -> list[Mapping[str, Any]]:
        statuses = [] if self._directory is None else self._directory.statuses()
        return [
            {
                "version": str(status.ref),
                "state": status.state.value,
                "digest": status.settings.get("digest", ""),
                "revision": status.settings.get("revision", ""),
            }
            for status in statuses
        ]

    def _counters(self) -> Mapping[str, Mapping[str, int]]:
        found = {"log": self.log.counts()}
        if self._tracer is not None:
            found["spans"] = self._tracer.counts()
        for seat in self._seats:
            found[f"exporter {seat.name}"] = seat.counts()
        return found


@asynccontextmanager
async def open_observation(options: ServeOptions, clock: Clock, folder: Path) -> AsyncIterator[Observation]:
    """Begin to watch.

    Raises:
        ExporterRefused, OtlpEndpointRefused: what the operator named cannot be had.
    """
    async with AsyncExitStack() as stack:
        observation = Observation(options, clock, folder)
        stack.push_async_callback(observation.close)
        yield observation
