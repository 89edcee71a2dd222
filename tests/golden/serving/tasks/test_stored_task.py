"""A task as this version stores it: a change of the form changes this file and the schema number; a field
that is added with a default changes the file alone.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from plumbline.contracts.requests import TenantId
from plumbline.serving.tasks.documents import task_document
from plumbline.serving.tasks.record import TaskRecord, TaskState, decode_record, encode_record

HERE = Path(__file__).parent

RECORD = TaskRecord(
    tenant=TenantId("acme"), id="t-1", sequence=1_700_000_000_000_000_000, state=TaskState.SUCCEEDED,
    model="double", request_digest="ab" * 32, accepted_wall_ns=1_700_000_000_000_000_000, priority=7,
    version="1", revision=4, owner="g-1", generation=1, name="first", device="cpu", submitted_by="key1",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    caller_span="b7ad6b7169203331",
    started_wall_ns=1_700_000_000_100_000_000, finished_wall_ns=1_700_000_000_200_000_000,
    deadline_wall_ns=1_700_000_060_000_000_000, served_by="double@1", device_used="cpu",
    allocation={"device": "cpu", "strategy": "pinned"}, timing={"queue_ns": 1, "run_ns": 2, "batched": 1},
    result_bytes=14,
)  # fmt: skip


def golden(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def test_the_stored_form_is_the_golden_one_and_reads_back() -> None:
    """Schema 1."""
    stored = json.dumps(json.loads(encode_record(RECORD)), indent=1) + "\n"
    assert stored == golden("record.json")
    assert decode_record(golden("record.json")) == RECORD


def test_a_record_from_before_tasks_had_spans_is_read_as_one_without() -> None:
    old = json.loads(golden("record.json"))
    del old["caller_span"]
    assert decode_record(json.dumps(old)) == dataclasses.replace(RECORD, caller_span=None)


def test_the_document_is_the_golden_one() -> None:
    """Schema `TaskResponse` 1 (L4-53)."""
    document = json.dumps(task_document(RECORD, result='{"outputs":[]}'), indent=1) + "\n"
    assert document == golden("document.json")
