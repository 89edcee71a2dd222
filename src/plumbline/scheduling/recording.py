"""From a decision core to a journal: every record is encoded and appended; segments begin with snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from plumbline.contracts.records import Record, encode_record
from plumbline.errors import PlumblineError
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.rules import fingerprint_of

__all__ = ["DecisionRecorder", "Journal"]


class Journal(Protocol):
    """Where record bodies go. `telemetry.decision_log.DecisionLog` is one."""

    def append(self, body: bytes) -> None:
        """Write a body."""

    def begin_segments_with(self, snapshot: Callable[[], bytes]) -> None:
        """Ask for a snapshot now, and whenever a segment begins."""


class DecisionRecorder:
    """Records what a core decides. Made after the core, before its first call; used on its thread.

    Each segment states the policy and the fingerprint of the rules that decide in it.

    A journal that fails, or a value that no record can hold (a key of a policy beyond 64 bits), ends the
    recording, never the scheduling: `stopped_because` then says why, and the log ends at the record before.

    >>> recorder = DecisionRecorder(core, DecisionLog(folder, "worker-0"))  # doctest: +SKIP
    """

    def __init__(self, core: DecisionCore, journal: Journal) -> None:
        self.stopped_because: str | None = None
        self._core = core
        self._journal = journal
        self._time_ns = 0
        core.rules = fingerprint_of(core.policy)
        journal.begin_segments_with(self._snapshot)
        core.record = self.record

    def record(self, record: Record) -> None:
        """Append one record."""
        if self.stopped_because is not None:
            return
        self._time_ns = record.time_ns
        try:
            self._journal.append(encode_record(record))
        except PlumblineError as error:
            self.stopped_because = error.message
        except (OverflowError, TypeError, ValueError) as error:
            self.stopped_because = f"a {type(record).__name__} that cannot be written: {error}"

    def _snapshot(self) -> bytes:
        return encode_record(self._core.snapshot_record(self._time_ns))
