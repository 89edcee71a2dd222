"""The life of a task under any order of events (L4-42)."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from plumbline.contracts.requests import TenantId
from plumbline.serving.tasks.lifecycle import (
    TRANSITIONS,
    TaskEvent,
    TaskTransitionRefused,
    apply,
    is_terminal,
)
from plumbline.serving.tasks.record import TaskRecord, TaskState, decode_record, encode_record

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def fresh(**fields: str) -> TaskRecord:
    return TaskRecord(
        tenant=TenantId("t"), id="x", sequence=1, state=TaskState.ACCEPTED, model="m", request_digest="d",
        accepted_wall_ns=1, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


@given(st.lists(st.sampled_from(list(TaskEvent)), max_size=30))
def test_a_task_ends_at_most_once_and_never_lives_again(events: list[TaskEvent]) -> None:
    """Generations only grow, by one for each claim; a refused event changes nothing; the end stands."""
    record, ends, claims = fresh(), 0, 0
    for wall_ns, event in enumerate(events, start=2):
        before = record
        try:
            record = apply(record, event, wall_ns=wall_ns)
        except TaskTransitionRefused:
            assert (before.state, event) not in TRANSITIONS
            assert record == before
            continue
        assert not is_terminal(before.state)
        claims += event is TaskEvent.CLAIM
        ends += is_terminal(record.state)
        assert record.generation == claims
        assert (record.finished_wall_ns is not None) is is_terminal(record.state)
    assert ends <= 1


@given(texts, texts, st.integers(0, 9), st.dictionaries(texts, st.integers(0, 2**40), max_size=3))
def test_a_record_reads_back_as_it_was_written(
    name: str, device: str, priority: int, timing: dict[str, int]
) -> None:
    """Whatever a client called it."""
    record = dataclasses.replace(fresh(name=name, device=device), priority=priority, timing=timing)
    assert decode_record(encode_record(record)) == record


def test_every_state_is_reached_and_only_ends_have_no_way_on() -> None:
    reached = {TaskState.ACCEPTED, *TRANSITIONS.values()}
    assert reached == set(TaskState)
    assert {state for state in TaskState if not any(s is state for s, _ in TRANSITIONS)} == {
        state for state in TaskState if is_terminal(state)
    }
