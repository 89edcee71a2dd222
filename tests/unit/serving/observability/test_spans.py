"""Spans of a request: one clock, one trace, right parents (X-46)."""

from __future__ import annotations

import itertools

import pytest
from msgspec import structs

from plumbline.contracts.inference import InferenceTiming
from plumbline.serving.observability.spans import RequestFacts, Span, TaskFacts, plan_spans, task_span
from plumbline.serving.observability.trace_context import TraceContext, open_context

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def facts(timing: InferenceTiming | None = None, outcome: str = "ok") -> RequestFacts:
    return RequestFacts(
        request="r1", model="m", protocol="rest", priority=5, traceparent="", arrived_ns=100,
        answered_ns=900, outcome=outcome, version="1" if timing else "", timing=timing,
    )  # fmt: skip


def spans_of(given: RequestFacts, parent_id: int = 7) -> dict[str, Span]:
    context = TraceContext(trace_id=3, parent_id=parent_id, is_sampled=True)
    ids = itertools.count(1)
    return {span.name: span for span in plan_spans(given, context, 1_000, lambda: next(ids))}


def test_the_parts_of_a_request_follow_each_other_without_a_gap() -> None:
    timing = InferenceTiming(
        queued_ns=200, launched_ns=300, finished_ns=800, launch=4, batched=2, worker="w0"
    )
    found = spans_of(facts(timing))
    assert set(found) == {"infer", "arrival", "queue", "batch", "launch", "answer"}
    edges = [(found[name].begin_ns, found[name].end_ns) for name in ("arrival", "queue", "batch", "answer")]
    assert edges == [(1_100, 1_200), (1_200, 1_300), (1_300, 1_800), (1_800, 1_900)]
    assert (found["infer"].begin_ns, found["infer"].end_ns) == (1_100, 1_900)
    assert found["infer"].parent_id == 7
    assert {found[name].parent_id for name in ("arrival", "queue", "batch", "answer")} == {
        found["infer"].span_id
    }
    assert found["launch"].parent_id == found["batch"].span_id
    assert {span.trace_id for span in found.values()} == {3}
    assert len({span.span_id for span in found.values()}) == 6
    assert found["batch"].attributes["plumbline.batch.size"] == 2
    assert found["launch"].attributes["plumbline.launch"] == 4


def test_a_request_without_a_result_is_one_span_with_the_code() -> None:
    found = spans_of(facts(outcome="resource.intake_full"), parent_id=0)
    assert set(found) == {"infer"}
    assert found["infer"].error == "resource.intake_full"
    assert found["infer"].parent_id == 0


def test_a_part_whose_times_are_not_known_has_no_span() -> None:
    assert set(spans_of(facts(InferenceTiming()))) == {"infer"}


@pytest.mark.parametrize("flags", ["01", "03", "00"])
def test_a_callers_trace_is_continued_as_its_flags_say(flags: str) -> None:
    context = open_context(f"00-{TRACE}-{PARENT}-{flags}")
    assert (f"{context.trace_id:032x}", f"{context.parent_id:016x}") == (TRACE, PARENT)
    assert context.is_sampled == (flags != "00")


def test_a_later_version_may_say_more() -> None:
    assert open_context(f"01-{TRACE}-{PARENT}-01-more").parent_id == int(PARENT, 16)


@pytest.mark.parametrize(
    "text",
    [
        "", "garbage", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-more", f"00-{TRACE}-{PARENT}",
    ],
)  # fmt: skip
def test_a_context_that_cannot_be_read_begins_a_new_trace(text: str) -> None:
    first, second = open_context(text), open_context(text)
    assert first.parent_id == 0
    assert first.is_sampled
    assert first.trace_id != second.trace_id


TASK = TaskFacts(
    request="task.abc.1", model="m", priority=5, claims=1,
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", caller_span="b7ad6b7169203331",
    accepted_wall_ns=100, finished_wall_ns=900, outcome="ok",
)  # fmt: skip


def test_a_task_has_one_span_below_its_submitter_with_the_id_that_its_requests_are_below() -> None:
    span = task_span(TASK)
    assert span is not None
    assert (span.name, span.begin_ns, span.end_ns, span.error) == ("task", 100, 900, "")
    assert f"{span.trace_id:032x}" == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert f"{span.span_id:016x}" == "00f067aa0ba902b7"
    assert f"{span.parent_id:016x}" == "b7ad6b7169203331"


def test_a_task_without_a_caller_begins_its_trace_and_one_that_failed_says_how() -> None:
    span = task_span(structs.replace(TASK, caller_span="", outcome="expired", request=""))
    assert span is not None
    assert (span.parent_id, span.error) == (0, "expired")
    assert "plumbline.request.id" not in span.attributes, "it was never claimed"


def test_a_task_whose_submitter_keeps_no_trace_has_no_span() -> None:
    assert task_span(structs.replace(TASK, traceparent=TASK.traceparent[:-2] + "00")) is None
