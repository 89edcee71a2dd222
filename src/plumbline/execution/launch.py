"""Launches and the log of what was issued: names only, so that two logs of the same graph are equal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Protocol

from plumbline.hardware.work import StreamWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One segment on one stream for one batch.

    Attributes:
        segment: name of the segment.
        stream: name of the stream it is planned for.
        work: what the stream runs: entry and context.
        requests: ids of the requests it serves.
        steps: names of the planned steps inside it.
    """

    segment: str
    stream: str
    work: StreamWork
    requests: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


class ActionKind(StrEnum):
    """What can be issued to a stream."""

    LAUNCH = "launch"
    RECORD = "record"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One action issued to one stream. `name` is the segment of a launch, the event of a record or wait."""

    kind: ActionKind
    stream: str
    name: str
    requests: tuple[str, ...] = ()


class LaunchObserver(Protocol):
    """Told of every action, in issue order."""

    def observe(self, entry: LogEntry) -> None:
        """Take one entry."""


class NoObserver:
    """Nobody looks."""

    def observe(self, entry: LogEntry) -> None:
        """Do nothing."""


NO_OBSERVER = NoObserver()


class LaunchLog:
    """Keeps the issued actions. Owned by one issuing thread."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []

    def observe(self, entry: LogEntry) -> None:
        """Append the entry."""
        self.entries.append(entry)

    @property
    def digest(self) -> str:
        """SHA-256 of the entries in order; equal logs have equal digests."""
        document = [asdict(entry) for entry in self.entries]
        return hashlib.sha256(json.dumps(document, separators=(",", ":")).encode()).hexdigest()
