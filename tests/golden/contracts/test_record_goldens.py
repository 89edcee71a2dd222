"""The bytes of records never change: one record of each kind, chained, against a file (L4-17)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from plumbline.contracts.records import (
    SCHEMA_VERSION,
    START_DIGEST,
    Arrival,
    BatchFacts,
    Boundary,
    Breach,
    Cancellation,
    Expiry,
    Finish,
    Held,
    LaunchStart,
    Promise,
    Record,
    RecordUnreadable,
    Refusal,
    RequestFacts,
    Routing,
    Segment,
    Selection,
    Snapshot,
    chain_digest,
    decode_record,
    encode_record,
)
from plumbline.scheduling.replay import replay

GOLDEN = Path(__file__).parent / "records.json"

FACTS = RequestFacts(
    "r1", "m@1", "tenant", 5, 10, 900, None, 100, (40, 60), 1000, "task", 0, BatchFacts("m@1", 2, 8, 4, 50)
)
RECORDS: tuple[Record, ...] = (
    Segment(1, SCHEMA_VERSION, "worker-0", 3, 1200, 1_700_000_000_000_000_000, True, 0),
    Snapshot(2, {"policy": "fifo", "b": [1, None, "x"], "a": {"z": 1, "y": 2}}),
    Arrival(3, FACTS, 7, (4, 7), 2),
    Selection(4, 9, 1, ("r1", "r2"), (4, 7), "filled", (8, 8, 1), ("n@1",), (5, 6), 0, bytes(range(16))),
    Held(5, 1, "r1", 55, 1, 2, ()),
    LaunchStart(6, 9),
    Boundary(7, 9, 1),
    Finish(8, 9, (("r1", "ok"), ("r2", "failed")), 0),
    Cancellation(9, "r3", None, 1),
    Expiry(10, "r4", "deadline", 10, 0),
    Refusal(11, FACTS, "queue_full", {"depth": 64}),
    Promise(12, "r1", 900, {}),
    Breach(13, "r1", 5, "slow_launch", {"launch": 9}),
    Routing(14, "r1", "m", ("1", "2"), (("1", "retired"),), "2", "only_one", {}),
)


def test_each_kind_of_record_has_the_bytes_and_the_chain_of_the_golden_file() -> None:
    """A change here needs another schema version, and a reader for the old one; a field that is added at the
    end, with a default, needs neither."""
    digest, rows = START_DIGEST, []
    for record in RECORDS:
        body = encode_record(record)
        digest = chain_digest(digest, body)
        rows.append({"kind": type(record).__name__, "body": body.hex(), "digest": digest.hex()})
    assert {"schema": SCHEMA_VERSION, "records": rows} == json.loads(GOLDEN.read_text(encoding="utf-8"))


SEGMENT_BEFORE_MISSED = "98a77365676d656e740101a8776f726b65722d3003cd04b0cf17979cfe362a0000c3"


def test_a_segment_from_before_missed_records_were_counted_is_read_as_one_that_missed_none() -> None:
    """Fields are added at the end, with a default; replay takes such a body as it is."""
    record = decode_record(bytes.fromhex(SEGMENT_BEFORE_MISSED))
    assert record == RECORDS[0]
    assert replay([bytes.fromhex(SEGMENT_BEFORE_MISSED)]).digest == chain_digest(
        START_DIGEST, bytes.fromhex(SEGMENT_BEFORE_MISSED)
    )


def test_the_golden_file_holds_every_kind() -> None:
    assert {type(record) for record in RECORDS} == set(get_args(Record))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_its_bytes(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


def test_equal_mappings_give_equal_bytes_whatever_their_order() -> None:
    one, other = Promise(0, "r", 1, {"a": 1, "b": 2}), Promise(0, "r", 1, {"b": 2, "a": 1})
    assert encode_record(one) == encode_record(other)


@pytest.mark.parametrize(
    "body", [b"", b"\x93", b"\xc0", b"\x92\xa7nothing\x01", b"\x92\xa6launch\x01", b"\xff" * 40]
)
def test_bytes_that_are_no_record_are_refused(body: bytes) -> None:
    with pytest.raises(RecordUnreadable):
        decode_record(body)
