"""The journal: each accepted call has exactly one outcome (L4-72)."""

from __future__ import annotations

import asyncio

import pytest

from plumbline.contracts.inference import InferenceResult, InferenceTiming
from plumbline.contracts.models import ModelMetadata
from plumbline.engine.outcomes import DuplicateRequest
from plumbline.serving.workers.failures import PoolStopped
from plumbline.serving.workers.journal import (
    CallEvent,
    CallState,
    Entry,
    Journal,
    JournalDefect,
    LoadedVersion,
    apply,
)
from plumbline.testing.worker_pools import ECHO, call, spec


def accept(journal: Journal, request: str = "a") -> Entry:
    version = spec()
    metadata = ModelMetadata(ref=ECHO, kind=version.kind, inputs=(), outputs=())
    loaded = LoadedVersion(handle=1, spec=version, metadata=metadata)
    loop = asyncio.new_event_loop()
    return journal.accept(call(request), loaded, loop.create_future())


def result(request: str = "a") -> InferenceResult:
    return InferenceResult(id=call(request).id, served_by=ECHO, outputs={}, timing=InferenceTiming())


def test_nothing_happens_to_a_call_that_has_its_outcome() -> None:
    for event in CallEvent:
        with pytest.raises(JournalDefect):
            apply(CallState.DONE, event)


def test_a_lost_call_is_accepted_again_and_can_be_sent() -> None:
    assert apply(CallState.SENT, CallEvent.LOSE) is CallState.ACCEPTED
    assert apply(CallState.ACCEPTED, CallEvent.SEND) is CallState.SENT
    with pytest.raises(JournalDefect):
        apply(CallState.ACCEPTED, CallEvent.ANSWER)


def test_a_second_outcome_is_refused_and_the_first_stays() -> None:
    journal = Journal()
    entry = accept(journal)
    entry.state = apply(entry.state, CallEvent.SEND)
    journal.end(entry, CallEvent.ANSWER, result())
    with pytest.raises(JournalDefect):
        journal.end(entry, CallEvent.FAIL, PoolStopped())
    assert entry.future.result().id == "a"
    assert len(journal) == 0
    assert entry.version.alive == 0


def test_a_living_id_is_found_and_refused_until_it_ends() -> None:
    journal = Journal()
    entry = accept(journal)
    assert journal.find(entry.call.id) is entry
    with pytest.raises(DuplicateRequest):
        journal.verify_new(entry.call.id)
    journal.end(entry, CallEvent.FAIL, PoolStopped())
    journal.verify_new(entry.call.id)
    assert isinstance(entry.future.exception(), PoolStopped)
