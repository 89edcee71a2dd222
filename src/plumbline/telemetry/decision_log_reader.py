"""Reading a decision log: all kept segments of one name, checked and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from plumbline.contracts.records import Record, decode_record
from plumbline.errors import ArtifactError
from plumbline.telemetry.decision_log_files import (
    SUFFIX,
    DecisionLogDamaged,
    SegmentContents,
    StoredRecord,
    TornTail,
    log_names,
    read_segment,
    segment_files,
)

__all__ = ["DecisionLogAbsent", "LogContents", "read_log", "read_logs"]


@dataclass(eq=False, kw_only=True)
class DecisionLogAbsent(ArtifactError):
    """No decision log where one was looked for."""

    code = "artifact.decision_log_absent"
    owner = "telemetry"
    http_status = 404
    template = "no decision log {name!r}; there are {known}"

    name: str
    known: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogContents:
    """A checked log.

    Attributes:
        name: of the log.
        stored: every record of the kept segments, in order.
        previous: digest of the record before the first.
        torn: what dying writers left, by segment.
        segments: kept segments.
    """

    name: str
    stored: tuple[StoredRecord, ...]
    previous: bytes
    torn: tuple[TornTail, ...]
    segments: int

    @property
    def digest(self) -> bytes:
        """Of the last record."""
        return self.stored[-1].digest

    @property
    def bodies(self) -> list[bytes]:
        """Bodies in order."""
        return [record.body for record in self.stored]

    def records(self) -> list[Record]:
        """Records in order."""
        return [decode_record(record.body) for record in self.stored]


def read_log(folder: Path, name: str) -> LogContents:
    """Read one log.

    Raises:
        DecisionLogAbsent: there is none of this name.
        DecisionLogDamaged: naming the first record that is not what was written.
    """
    files = segment_files(folder, name)
    if not files:
        raise DecisionLogAbsent(name=name, known=", ".join(log_names(folder)) or "none")
    segments = [read_segment(path) for _, path in files]
    _verify_joined(segments)
    return _joined(name, segments)


def read_logs(path: Path) -> list[LogContents]:
    """Read every log of a folder and the folders in it, or the one segment of a file.

    A log of a folder inside is named `folder/name`.

    Raises:
        DecisionLogAbsent: nothing is there.
        DecisionLogDamaged: naming the first record that is not what was written.
    """
    if path.is_file():
        segment = read_segment(path)
        return [_joined(segment.segment.log, [segment])]
    folders = sorted({file.parent for file in path.rglob(f"*{SUFFIX}")}) if path.is_dir() else []
    logs = []
    for folder in folders:
        inside = "" if folder == path else f"{folder.relative_to(path).as_posix()}/"
        logs += [replace(read_log(folder, name), name=inside + name) for name in log_names(folder)]
    if not logs:
        raise DecisionLogAbsent(name=path.name, known="none")
    return logs


def _verify_joined(segments: Sequence[SegmentContents]) -> None:
    """Every segment goes on where the one before it ended."""
    for before, after in pairwise(segments):
        follows = (
            after.previous == before.digest
            and after.segment.number == before.segment.number + 1
            and after.segment.first_record == before.records[-1].number + 1
        )
        if not follows:
            first = after.records[0]
            raise DecisionLogDamaged(
                file=after.file,
                record=first.number,
                offset=first.offset,
                reason=f"it does not follow the last record of {before.file}",
            )


def _joined(name: str, segments: Sequence[SegmentContents]) -> LogContents:
    return LogContents(
        name=name,
        stored=tuple(record for segment in segments for record in segment.records),
        previous=segments[0].previous,
        torn=tuple(segment.torn for segment in segments if segment.torn is not None),
        segments=len(segments),
    )
