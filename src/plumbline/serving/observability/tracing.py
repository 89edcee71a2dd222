"""`RequestTracer`: turns finished requests into spans on a thread of its own, and hands them to an exporter.

On the way of a request it keeps one small object in a bounded queue. What does not fit is counted as dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import InferenceCall, InferenceResult, VersionRef
from plumbline.contracts.records import Routing
from plumbline.errors import PlumblineError
from plumbline.serving.observability.background import BackgroundQueue
from plumbline.serving.observability.spans import RequestFacts, Span, TaskFacts, plan_spans, task_span
from plumbline.serving.observability.trace_context import new_span_id, open_context

__all__ = ["RequestTracer", "SpanExporter", "SpansNotExported"]


class SpansNotExported(Exception):
    """The receiver did not take them; they are counted as failed and not sent again."""


class SpanExporter(Protocol):
    """Sends spans. Called on one thread, which may wait."""

    def export(self, spans: Sequence[Span]) -> None:
        """Send them. Raises SpansNotExported, or anything: it is counted."""

    def close(self) -> None:
        """Break off what is under way, from another thread, and take nothing more."""


class RequestTracer:
    """Owner of the queue of what finished. All but `close` is called on the event loop.

    Args:
        exporter: of spans.
        clock: converts monotonic to wall time.
        source: digest and revision of a version; raises PlumblineError for one that is gone.
        limit: most requests whose spans wait.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        clock: Clock,
        source: Callable[[VersionRef], tuple[str, str]],
        *,
        limit: int = 4096,
    ) -> None:
        self._exporter, self._clock, self._source = exporter, clock, source
        self._routes: dict[str, tuple[str, str]] = {}
        self._queue: BackgroundQueue[RequestFacts | TaskFacts] = BackgroundQueue(
            self._export, name="spans", limit=limit, batch=128
        )

    def routed(self, record: Routing, place: str) -> None:
        """A route was decided and written at `place` of the decision log."""
        self._routes[record.request] = (record.reason, place)

    def finished(
        self, call: InferenceCall, outcome: InferenceResult | PlumblineError | None, now_ns: int
    ) -> None:
        """A request has its outcome (None: abandoned). Observer of `ObservedInference`."""
        route, decision = self._routes.pop(call.id, ("", ""))
        version = digest = revision = ""
        timing = None
        if isinstance(outcome, InferenceResult):
            version, timing = outcome.served_by.version, outcome.timing
            digest, revision = self._source_of(outcome.served_by)
            word = "ok"
        else:
            word = "abandoned" if outcome is None else outcome.code
        facts = RequestFacts(
            request=call.id, model=call.model if version or route else "", protocol=call.protocol,
            priority=call.priority, traceparent=call.traceparent, arrived_ns=call.arrived_ns,
            answered_ns=now_ns, outcome=word, version=version, digest=digest, revision=revision,
            timing=timing, route=route, decision=decision,
        )  # fmt: skip
        self._queue.offer(facts)

    def task_ended(self, facts: TaskFacts) -> None:
        """The end of a task was stored."""
        self._queue.offer(facts)

    def counts(self) -> Mapping[str, int]:
        """Requests and tasks by what became of their spans."""
        queue = self._queue
        return {"done": queue.done, "failed": queue.failed, "dropped": queue.dropped}

    def close(self, timeout_s: float) -> None:
        """Send what waits, within the time; what is left then is dropped and counted."""
        if not self._queue.close(timeout_s):
            self._exporter.close()

    def _source_of(self, ref: VersionRef) -> tuple[str, str]:
        try:
            return self._source(ref)
        except PlumblineError:
            return "", ""

    def _export(self, ended: Sequence[RequestFacts | TaskFacts]) -> None:
        spans: list[Span] = []
        for facts in ended:
            if isinstance(facts, TaskFacts):
                span = task_span(facts)
                spans += [] if span is None else [span]
                continue
            context = open_context(facts.traceparent)
            if context.is_sampled:
                offset_ns = self._clock.wall_ns() - self._clock.now_ns()
                spans.extend(plan_spans(facts, context, offset_ns, new_span_id))
        if spans:
            self._exporter.export(spans)
