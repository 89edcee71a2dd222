"""`plan_spans`: the spans of one request, from the times it carries anyway; `task_span`: that of a task.

    infer            arrived ------------------------------------------------> answered
      arrival        arrived --> queued
      queue                      queued --> launched
      batch                                 launched -----------> finished
        launch                              launched -----------> finished
      answer                                                      finished --> answered

Times are monotonic; one offset per request makes them wall time, so their order and lengths stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from plumbline.contracts.inference import InferenceTiming
from plumbline.serving.observability.trace_context import TraceContext, open_context

__all__ = ["RequestFacts", "Span", "TaskFacts", "plan_spans", "task_span"]

Value = str | int | float | bool


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a finished request: names and numbers. Made on the way of requests, so a `Struct`.

    Attributes:
        request, model, protocol, priority: of the call.
        version: that served it, empty when it got an error.
        digest, revision: of the source of that version.
        traceparent: of the caller, or empty.
        arrived_ns, answered_ns: absolute monotonic.
        timing: of the engine; None without a result.
        outcome: `ok`, `abandoned`, or the code of the error.
        route: reason of the routing decision, `decision`: where its record is, `log#number`.
    """

    request: str
    model: str
    protocol: str
    priority: int
    traceparent: str
    arrived_ns: int
    answered_ns: int
    outcome: str
    version: str = ""
    digest: str = ""
    revision: str = ""
    timing: InferenceTiming | None = None
    route: str = ""
    decision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span; wall nanoseconds, ids as numbers, `parent_id` 0 for none. `error` is a code or empty."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int
    begin_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    is_root: bool = False
    error: str = ""


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a task that ended.

    Attributes:
        request: id of its last inference request, empty when it was never claimed.
        model: name; priority: of the task; claims: how often it was claimed.
        traceparent: its own context; caller_span: span that it is below, empty for none.
        accepted_wall_ns, finished_wall_ns: nanoseconds since 1970.
        outcome: `ok`, or the state that it ended in.
    """

    request: str
    model: str
    priority: int
    claims: int
    traceparent: str
    caller_span: str
    accepted_wall_ns: int
    finished_wall_ns: int
    outcome: str


def task_span(facts: TaskFacts) -> Span | None:
    """The span of a task, from its acceptance to its end; the spans of its requests are below it.

    None where its trace is not kept.
    """
    own = open_context(facts.traceparent)
    if not own.is_sampled or not own.parent_id:
        return None
    attributes: dict[str, Value] = {
        "plumbline.model": facts.model,
        "plumbline.outcome": facts.outcome,
        "plumbline.request.priority": facts.priority,
        "plumbline.task.claims": facts.claims,
    }
    if facts.request:
        attributes["plumbline.request.id"] = facts.request
    return Span(
        name="task", trace_id=own.trace_id, span_id=own.parent_id,
        parent_id=int(facts.caller_span, 16) if facts.caller_span else 0,
        begin_ns=facts.accepted_wall_ns, end_ns=max(facts.accepted_wall_ns, facts.finished_wall_ns),
        attributes=attributes, is_root=True, error="" if facts.outcome == "ok" else facts.outcome,
    )  # fmt: skip


def plan_spans(
    facts: RequestFacts, context: TraceContext, offset_ns: int, new_id: Callable[[], int]
) -> tuple[Span, ...]:
    """The spans of a request, root first; only parts whose times are known.

    Args:
        facts: of the request.
        context: of its trace.
        offset_ns: wall minus monotonic time.
        new_id: makes span ids.
    """
    root_id = new_id()
    spans: list[Span] = []

    def add(name: str, begin_ns: int, end_ns: int, parent_id: int, attributes: Mapping[str, Value]) -> int:
        if not begin_ns or not end_ns:
            return 0
        span = Span(
            name=name, trace_id=context.trace_id, span_id=new_id(), parent_id=parent_id,
            begin_ns=begin_ns + offset_ns, end_ns=max(begin_ns, end_ns) + offset_ns, attributes=attributes,
        )  # fmt: skip
        spans.append(span)
        return span.span_id

    failed = facts.outcome != "ok"
    begin_ns = facts.arrived_ns or facts.answered_ns
    spans.append(
        Span(
            name="infer", trace_id=context.trace_id, span_id=root_id, parent_id=context.parent_id,
            begin_ns=begin_ns + offset_ns, end_ns=max(begin_ns, facts.answered_ns) + offset_ns,
            attributes=_root_attributes(facts), is_root=True, error=facts.outcome if failed else "",
        )
    )  # fmt: skip
    timing = facts.timing
    if timing is not None:
        place = _place(facts, timing)
        add("arrival", facts.arrived_ns, timing.queued_ns, root_id, {})
        add("queue", timing.queued_ns, timing.launched_ns, root_id, {})
        launched_ns, finished_ns = timing.launched_ns, timing.finished_ns
        size = {"plumbline.batch.size": timing.batched}
        batch = add("batch", launched_ns, finished_ns, root_id, {**place, **size})
        if batch:
            add("launch", launched_ns, finished_ns, batch, {**place, "plumbline.stream": timing.stream})
        add("answer", timing.finished_ns, facts.answered_ns, root_id, {})
    return tuple(spans)


def _root_attributes(facts: RequestFacts) -> dict[str, Value]:
    named: dict[str, Value] = {
        "plumbline.request.id": facts.request,
        "plumbline.model": facts.model,
        "plumbline.version": facts.version,
        "plumbline.digest": facts.digest,
        "plumbline.revision": facts.revision,
        "plumbline.protocol": facts.protocol,
        "plumbline.outcome": facts.outcome,
        "plumbline.route.reason": facts.route,
        "plumbline.decision_log.record": facts.decision,
    }
    known = {name: value for name, value in named.items() if value != ""}
    known["plumbline.request.priority"] = facts.priority
    if facts.timing is not None:
        known |= _place(facts, facts.timing)
        known["plumbline.batch.size"] = facts.timing.batched
    return known


def _place(facts: RequestFacts, timing: InferenceTiming) -> dict[str, Value]:
    place: dict[str, Value] = {"plumbline.launch": timing.launch}
    if timing.worker:
        place["plumbline.worker"] = timing.worker
    return place
