"""Files of a decision log: their names, their layout, and reading them with every byte checked.

    file    = magic (8 bytes) | digest before the first record (32) | record ... | zeros
    record  = size (4, little endian) | size with all bits inverted (4) | body (size) | digest (32)

The eight bytes of the size are written last, in one store, so a record whose size is there is whole. After
the last record a file holds zeros: anything else there is a record whose writer died while it wrote (a torn
tail); it was never acknowledged. One changed byte of a whole record can be taken for neither an end nor a
torn tail: it breaks the size or the chain at that record. A log that was cut off exactly between two records
is found only by whoever knows the last digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from plumbline.contracts.records import (
    DIGEST_BYTES,
    SCHEMA_VERSION,
    RecordUnreadable,
    Segment,
    chain_digest,
    decode_record,
)
from plumbline.errors import ArtifactError, ValidationError

__all__ = [
    "FIRST_RECORD_AT",
    "MAGIC",
    "SIZE_WORDS",
    "DecisionLogDamaged",
    "LogNameRefused",
    "SegmentContents",
    "StoredRecord",
    "TornTail",
    "log_names",
    "read_segment",
    "segment_files",
    "segment_path",
    "verify_log_name",
]

MAGIC = b"PLUMREC1"
FIRST_RECORD_AT = len(MAGIC) + DIGEST_BYTES
SIZE_WORDS = Struct("<II")
LARGEST_FILE_BYTES = 1 << 31
SUFFIX = ".records"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})-(?P<number>[0-9]{8})" + re.escape(SUFFIX))


@dataclass(eq=False, kw_only=True)
class DecisionLogDamaged(ArtifactError):
    """A record that is not what was written."""

    code = "artifact.decision_log_damaged"
    owner = "telemetry"
    template = "{file}: record {record} (at byte {offset}): {reason}"

    file: str
    record: int
    offset: int
    reason: str


@dataclass(eq=False, kw_only=True)
class LogNameRefused(ValidationError):
    """A name that cannot begin a file name."""

    code = "validation.log_name"
    owner = "telemetry"
    template = (
        "name of a log {name!r}: at most 64 letters, digits, dots, dashes; begin with a letter or digit"
    )

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A whole record. `number` counts from the first record of the log, which is 0."""

    number: int
    offset: int
    body: bytes
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TornTail:
    """What a dying writer left of record `record`: `size_bytes` from `offset` on."""

    file: str
    record: int
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentContents:
    """A checked segment.

    Attributes:
        file: name of the file.
        segment: its first record.
        previous: digest of the record before it.
        records: with the first one.
        torn: what a dying writer left after them, or None.
    """

    file: str
    segment: Segment
    previous: bytes
    records: tuple[StoredRecord, ...]
    torn: TornTail | None

    @property
    def digest(self) -> bytes:
        """Of the last record."""
        return self.records[-1].digest


def verify_log_name(name: str) -> str:
    """The name itself.

    Raises:
        LogNameRefused: it cannot begin a file name.
    """
    if not _NAME.fullmatch(name):
        raise LogNameRefused(name=name[:80])
    return name


def segment_path(folder: Path, name: str, number: int) -> Path:
    """Where segment `number` of a log lies."""
    return folder / f"{name}-{number:08d}{SUFFIX}"


def segment_files(folder: Path, name: str) -> list[tuple[int, Path]]:
    """Segments of a log by number."""
    return [(number, path) for found, number, path in _files(folder) if found == name]


def log_names(folder: Path) -> list[str]:
    """Names of the logs in a folder."""
    return sorted({name for name, _, _ in _files(folder)})


def _files(folder: Path) -> list[tuple[str, int, Path]]:
    found = ((_FILE.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((m["name"], int(m["number"]), path) for m, path in found if m is not None)


def read_segment(path: Path) -> SegmentContents:
    """Read a segment and check every record.

    Raises:
        DecisionLogDamaged: naming the first record that is not what was written.
    """
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise _damaged(path, 0, 0, f"the file is larger than {LARGEST_FILE_BYTES} bytes")
    data = path.read_bytes()
    if data[: len(MAGIC)] != MAGIC or len(data) < FIRST_RECORD_AT:
        raise _damaged(path, 0, 0, "the file does not begin as a segment does")
    segment, first = _first_record(path, data)
    records = list(_records(path, data, first))
    end = records[-1].offset + SIZE_WORDS.size + len(records[-1].body) + DIGEST_BYTES
    return SegmentContents(
        file=path.name,
        segment=segment,
        previous=data[len(MAGIC) : FIRST_RECORD_AT],
        records=tuple(records),
        torn=_torn_tail(path, data, end, first + len(records)),
    )


def _first_record(path: Path, data: bytes) -> tuple[Segment, int]:
    """The segment record, and its number."""
    body = _body_at(path, data, FIRST_RECORD_AT, 0)
    if body is None:
        raise _damaged(path, 0, FIRST_RECORD_AT, "there is no record")
    digest_at = FIRST_RECORD_AT + SIZE_WORDS.size + len(body)
    if data[digest_at : digest_at + DIGEST_BYTES] != chain_digest(data[len(MAGIC) : FIRST_RECORD_AT], body):
        raise _damaged(path, 0, FIRST_RECORD_AT, "the first record of the segment is not what was written")
    try:
        record = decode_record(body)
    except RecordUnreadable as error:
        raise _damaged(path, 0, FIRST_RECORD_AT, error.reason) from error
    if not isinstance(record, Segment):
        raise _damaged(path, 0, FIRST_RECORD_AT, "the first record is not that of a segment")
    if record.schema != SCHEMA_VERSION:
        reason = f"schema {record.schema}, this version reads {SCHEMA_VERSION}"
        raise _damaged(path, record.first_record, FIRST_RECORD_AT, reason)
    return record, record.first_record


def _records(path: Path, data: bytes, first: int) -> Iterator[StoredRecord]:
    digest = data[len(MAGIC) : FIRST_RECORD_AT]
    offset, number = FIRST_RECORD_AT, first
    while (body := _body_at(path, data, offset, number)) is not None:
        digest = chain_digest(digest, body)
        digest_at = offset + SIZE_WORDS.size + len(body)
        if data[digest_at : digest_at + DIGEST_BYTES] != digest:
            raise _damaged(path, number, offset, "the digest is not that of the record and those before it")
        yield StoredRecord(number=number, offset=offset, body=body, digest=digest)
        offset, number = digest_at + DIGEST_BYTES, number + 1


def _body_at(path: Path, data: bytes, offset: int, number: int) -> bytes | None:
    """Body of the record at `offset`; None at the end."""
    words = data[offset : offset + SIZE_WORDS.size]
    if not any(words):
        return None
    if len(words) < SIZE_WORDS.size:
        raise _damaged(path, number, offset, "the file ends inside its size")
    size, inverted = SIZE_WORDS.unpack(words)
    if size ^ inverted != 0xFFFFFFFF:
        raise _damaged(path, number, offset, "its size is damaged")
    begin = offset + SIZE_WORDS.size
    if begin + size + DIGEST_BYTES > len(data):
        raise _damaged(path, number, offset, "the file ends inside it")
    return data[begin : begin + size]


def _torn_tail(path: Path, data: bytes, end: int, number: int) -> TornTail | None:
    left = data[end:].rstrip(b"\0")
    if not left:
        return None
    return TornTail(file=path.name, record=number, offset=end, size_bytes=len(left))


def _damaged(path: Path, record: int, offset: int, reason: str) -> DecisionLogDamaged:
    return DecisionLogDamaged(file=path.name, record=record, offset=offset, reason=reason)
