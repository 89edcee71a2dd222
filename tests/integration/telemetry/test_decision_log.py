"""The log file: what was appended survives the writer, changed bytes are found, old segments go (L4-17)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.records import (
    START_DIGEST,
    LaunchStart,
    Segment,
    Snapshot,
    chain_digest,
    decode_record,
    encode_record,
)
from plumbline.telemetry.decision_log import DecisionLog, DecisionLogBusy, DecisionLogFailed
from plumbline.telemetry.decision_log_files import (
    FIRST_RECORD_AT,
    DecisionLogDamaged,
    LogNameRefused,
    read_segment,
    segment_files,
    segment_path,
)
from plumbline.telemetry.decision_log_reader import DecisionLogAbsent, read_log, read_logs


def body(number: int) -> bytes:
    return encode_record(LaunchStart(number, number))


def launches(folder: Path, name: str = "w") -> list[int]:
    return [r.launch for r in read_log(folder, name).records() if isinstance(r, LaunchStart)]


def written(folder: Path, count: int, **options: int) -> DecisionLog:
    log = DecisionLog(folder, "w", **options)
    for number in range(count):
        log.append(body(number))
    return log


def test_what_was_appended_is_read_back_in_order_with_one_chain(tmp_path: Path) -> None:
    log = written(tmp_path, 100)
    contents = read_log(tmp_path, "w")
    assert launches(tmp_path) == list(range(100)), "also while the writer has it open"
    digest = START_DIGEST
    for record in contents.stored:
        digest = chain_digest(digest, record.body)
        assert record.digest == digest
    assert contents.digest == log.digest == digest
    assert [r.number for r in contents.stored] == list(range(101))
    assert not contents.torn
    log.close()
    log.close()
    assert read_log(tmp_path, "w") == contents


WRITER = """
import sys
from pathlib import Path
from plumbline.contracts.records import LaunchStart, encode_record
from plumbline.telemetry.decision_log import DecisionLog
log = DecisionLog(Path(sys.argv[1]), "w", segment_bytes=20000)
number = 0
while True:
    log.append(encode_record(LaunchStart(number, number)))
    number += 1
    if number % 1000 == 0:
        print(number, flush=True)
"""


def test_what_was_appended_survives_sigkill_of_the_writer_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """Four writers in turn are killed at some moment; none of what they acknowledged is missing."""
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        writer.wait(timeout=60)
        writer.stdout.close()
        contents = read_log(tmp_path, "w")
        records = contents.records()
        fresh = [n for n, r in enumerate(records) if isinstance(r, Segment) and r.fresh]
        own = [r.launch for r in records[fresh[-1] if fresh else 0 :] if isinstance(r, LaunchStart)]
        assert own == list(range(own[0], own[0] + len(own)))
        assert own[-1] + 1 >= acknowledged
    with DecisionLogContext(tmp_path) as log:
        log.append(body(7))
        assert read_log(tmp_path, "w").digest == log.digest


class DecisionLogContext:
    def __init__(self, folder: Path) -> None:
        self.log = DecisionLog(folder, "w")

    def __enter__(self) -> DecisionLog:
        return self.log

    def __exit__(self, *_: object) -> None:
        self.log.close()


def test_a_record_without_its_size_is_a_torn_tail_and_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, 10).close()
    path = segment_path(tmp_path, "w", 0)
    whole = read_segment(path)
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(bytes(8) + body(10)[:5])
    torn = read_segment(path)
    assert torn.records == whole.records
    assert torn.torn is not None
    assert (torn.torn.record, torn.torn.size_bytes) == (11, 13)
    with DecisionLogContext(tmp_path) as log:
        log.append(body(10))
    contents = read_log(tmp_path, "w")
    assert [t.record for t in contents.torn] == [11]
    assert launches(tmp_path) == list(range(11))


def test_every_flipped_byte_is_found_and_the_record_named(tmp_path: Path) -> None:
    written(tmp_path, 6).close()
    path = segment_path(tmp_path, "w", 0)
    good, contents = path.read_bytes(), read_segment(path)
    for offset in range(len(good)):
        owner = max((r.number for r in contents.records if r.offset <= offset), default=0)
        for flip in (0x01, 0x80, 0xFF, good[offset] or 0x55):
            path.write_bytes(good[:offset] + bytes([good[offset] ^ flip]) + good[offset + 1 :])
            with pytest.raises(DecisionLogDamaged) as found:
                read_segment(path)
            assert found.value.record == owner, f"byte {offset} ^ {flip:#x}"
    path.write_bytes(good)
    assert read_segment(path) == contents


def test_a_segment_that_was_cut_is_found_unless_between_two_records(tmp_path: Path) -> None:
    written(tmp_path, 3).close()
    path = segment_path(tmp_path, "w", 0)
    good = path.read_bytes()
    ends = {r.offset for r in read_segment(path).records} | {len(good)}
    for size in range(len(good)):
        path.write_bytes(good[:size])
        if size in ends and size > FIRST_RECORD_AT:
            read_segment(path)
        else:
            with pytest.raises(DecisionLogDamaged):
                read_segment(path)


def test_a_full_segment_is_followed_by_one_that_begins_with_a_snapshot_and_old_ones_go(
    tmp_path: Path,
) -> None:
    log = DecisionLog(tmp_path, "w", segment_bytes=4096, keep_segments=3)
    taken: list[int] = []

    def snapshot() -> bytes:
        taken.append(log.records)
        return encode_record(Snapshot(0, {"records": log.records}))

    log.begin_segments_with(snapshot)
    for number in range(1000):
        log.append(body(number))
    files = segment_files(tmp_path, "w")
    assert len(files) == 3
    assert files[-1][0] > 5
    for _, path in files:
        segment = read_segment(path)
        kinds = [type(decode_record(r.body)) for r in segment.records[:2]]
        assert kinds == [Segment, Snapshot]
        assert segment.segment.fresh is (segment.segment.number == 0)
    found = launches(tmp_path)
    assert found == list(range(found[0], 1000))
    log.close()


def test_a_missing_or_foreign_segment_breaks_the_chain(tmp_path: Path) -> None:
    written(tmp_path, 400, segment_bytes=4096).close()
    files = segment_files(tmp_path, "w")
    assert len(files) >= 3
    kept = files[1][1].read_bytes()
    files[1][1].unlink()
    with pytest.raises(DecisionLogDamaged, match="does not follow"):
        read_log(tmp_path, "w")
    files[1][1].write_bytes(kept)
    read_log(tmp_path, "w")
    other = tmp_path / "other"
    written(other, 400, segment_bytes=4096).close()
    files[2][1].write_bytes(segment_path(other, "w", 2).read_bytes())
    with pytest.raises(DecisionLogDamaged):
        read_log(tmp_path, "w")


def test_a_record_larger_than_a_segment_is_kept(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, "w", segment_bytes=4096)
    large = Snapshot(0, {"x": "y" * 50_000})
    log.append(body(0))
    log.append(encode_record(large))
    log.append(body(1))
    assert [r for r in read_log(tmp_path, "w").records() if isinstance(r, Snapshot)] == [large]
    assert launches(tmp_path) == [0, 1]
    log.close()


def test_several_logs_share_a_folder_and_a_second_writer_of_one_is_refused(tmp_path: Path) -> None:
    log, other = written(tmp_path, 1), DecisionLog(tmp_path, "w-1")
    other.append(body(5))
    with pytest.raises(DecisionLogBusy):
        DecisionLog(tmp_path, "w")
    assert [c.name for c in read_logs(tmp_path)] == ["w", "w-1"]
    assert [c.name for c in read_logs(segment_path(tmp_path, "w-1", 0))] == ["w-1"]
    log.close()
    other.close()
    DecisionLog(tmp_path, "w").close()


def test_a_damaged_log_is_not_continued(tmp_path: Path) -> None:
    written(tmp_path, 10).close()
    path = segment_path(tmp_path, "w", 0)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(DecisionLogDamaged):
            DecisionLog(tmp_path, "w")


def test_a_segment_whose_writer_died_before_its_first_record_is_made_anew(tmp_path: Path) -> None:
    written(tmp_path, 3).close()
    (tmp_path / "w.new").write_bytes(bytes(4096))
    with DecisionLogContext(tmp_path) as log:
        log.append(body(3))
    assert launches(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a b", "ü"])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LogNameRefused):
        DecisionLog(tmp_path, name)


def test_a_folder_that_cannot_be_used_and_a_log_that_is_not_there_are_typed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DecisionLogFailed) as failed:
        DecisionLog(tmp_path / "file", "w")
    assert str(tmp_path) not in failed.value.message
    with pytest.raises(DecisionLogAbsent):
        read_log(tmp_path, "w")
    with pytest.raises(DecisionLogAbsent):
        read_logs(tmp_path / "nothing")
    with pytest.raises(DecisionLogDamaged):
        read_logs(tmp_path / "file")


def test_a_segment_of_another_schema_is_refused_by_number(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, "w")
    log.append(body(0))
    log.close()
    foreign = encode_record(Segment(0, 99, "w", 0, 0, 0, True))
    size = len(foreign).to_bytes(4, "little")
    inverted = (len(foreign) ^ 0xFFFFFFFF).to_bytes(4, "little")
    digest = chain_digest(START_DIGEST, foreign)
    head = segment_path(tmp_path, "w", 0).read_bytes()[:FIRST_RECORD_AT]
    segment_path(tmp_path, "w", 0).write_bytes(head + size + inverted + foreign + digest)
    with pytest.raises(DecisionLogDamaged, match="schema 99"):
        read_log(tmp_path, "w")


def test_a_snapshot_larger_than_a_segment_is_not_written_again_for_every_record(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, "w", segment_bytes=4096, keep_segments=50)
    log.begin_segments_with(lambda: encode_record(Snapshot(0, {"x": "y" * 100_000})))
    for number in range(1000):
        log.append(body(number))
    assert len(segment_files(tmp_path, "w")) == 1
    assert launches(tmp_path) == list(range(1000))
    log.close()


def test_a_segment_that_cannot_be_made_leaves_the_present_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: what is there stays whole, and the log goes on when there is room again."""
    log = DecisionLog(tmp_path, "w", segment_bytes=4096)
    log.append(body(0))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(DecisionLogFailed, match="No space left"):
            log.rotate()
    log.append(body(1))
    log.rotate()
    log.append(body(2))
    assert launches(tmp_path) == [0, 1, 2]
    assert len(segment_files(tmp_path, "w")) == 2
    log.close()


def append_until(log: DecisionLog, end: int) -> None:
    """The log looks for its file every 256 records."""
    for number in range(1, end):
        log.append(body(number))


def test_a_segment_whose_file_was_removed_is_noticed_and_another_one_begun(tmp_path: Path) -> None:
    """What goes into a file without a name is gone with the process: it counts as not written."""
    clock, health = FakeClock(), [0, 0]
    log = DecisionLog(tmp_path, "w", clock=clock, health=health)
    log.begin_segments_with(lambda: encode_record(Snapshot(0, {})))
    log.append(body(0))
    segment_path(tmp_path, "w", 0).unlink()
    with pytest.raises(DecisionLogFailed, match="removed"):
        append_until(log, 300)
    assert not log.is_due()
    log.note("the file of the log was removed", 1)
    assert health == [errno.ENOENT, 1]
    clock.advance(1_000_000_000)
    assert log.is_due()
    log.begin_segments_with(lambda: encode_record(Snapshot(1, {})), 1)
    log.note(None, 1)
    assert health == [0, 1]
    log.append(body(7))
    log.close()
    assert launches(tmp_path) == [7]
    first = read_log(tmp_path, "w").records()[0]
    assert isinstance(first, Segment)
    assert (first.fresh, first.missed) == (True, 1)


def test_a_log_that_found_the_disk_full_says_so_and_recovers_without_another_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who refuses work as long as there is trouble appends nothing: asking must be enough (L4-17, L4-31)."""
    clock = FakeClock()
    log = DecisionLog(tmp_path, "w", segment_bytes=4096, clock=clock)
    log.append(body(0))
    assert log.trouble() == ""
    tries: list[object] = []

    def full(*asked: object) -> None:
        tries.append(asked)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(DecisionLogFailed, match="No space left"):
            log.rotate()
        assert [log.trouble() for _ in range(3)] == ["No space left on device"] * 3
        assert len(tries) == 1, "tried again within a second"
        clock.advance(1_000_000_000)
        assert log.trouble() == "No space left on device"
        assert len(tries) == 2
    clock.advance(1_000_000_000)
    assert log.trouble() == ""
    log.append(body(1))
    assert launches(tmp_path) == [0, 1]
    log.close()
