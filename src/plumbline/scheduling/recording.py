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

    def begin_segments_with(self, snapshot: Callable[[], bytes], missed: int = 0) -> None:
        """Ask for a snapshot now, and whenever a segment begins; before it `missed` records are missing."""

    def is_due(self) -> bool:
        """Whether one that failed may be tried again now. Costs next to nothing."""

    def note(self, stopped_because: str | None, missed: int) -> None:
        """Why nothing is recorded now (None: all is), and how many records were missed since the beginning.
        Called whenever one of them has changed.
        """


class DecisionRecorder:
    """Records what a core decides. Made after the core, before its first call; used on its thread.

    Each segment states the policy and the fingerprint of the rules that decide in it.

    A journal that fails, or a value that no record can hold (a key of a policy beyond 64 bits), stops the
    recording, never the scheduling. What is decided meanwhile is missed; when the journal can be written
    again it goes on in a new segment, which begins with the state of then and says how many were missed.

    Attributes:
        stopped_because: why nothing is recorded now, or None.
        missed: records that the journal did not take since the beginning.

    >>> recorder = DecisionRecorder(core, DecisionLog(folder, "worker-0"))  # doctest: +SKIP
    """

    def __init__(self, core: DecisionCore, journal: Journal) -> None:
        self.stopped_because: str | None = None
        self.missed = 0
        self._gap = 0
        self._core = core
        self._journal = journal
        self._time_ns = 0
        core.rules = fingerprint_of(core.policy)
        journal.begin_segments_with(self._snapshot)
        core.record = self.record

    def record(self, record: Record) -> None:
        """Append one record."""
        self._time_ns = record.time_ns
        if self.stopped_because is not None:
            self._miss(self.stopped_because)
            if self._journal.is_due():
                self._go_on()
            return
        try:
            self._journal.append(encode_record(record))
        except PlumblineError as error:
            self._miss(error.message)
        except (OverflowError, TypeError, ValueError) as error:
            self._miss(f"a {type(record).__name__} that cannot be written: {error}")

    def _miss(self, reason: str) -> None:
        self.stopped_because = reason
        self.missed += 1
        self._gap += 1
        self._journal.note(reason, self.missed)

    def _go_on(self) -> None:
        """Begin a segment with the state of now: it has what the missed records did."""
        try:
            self._journal.begin_segments_with(self._snapshot, self._gap)
        except PlumblineError as error:
            self.stopped_because = error.message
        except (OverflowError, TypeError, ValueError) as error:
            self.stopped_because = f"a state that cannot be written: {error}"
        else:
            self.stopped_because, self._gap = None, 0
        self._journal.note(self.stopped_because, self.missed)

    def _snapshot(self) -> bytes:
        return encode_record(self._core.snapshot_record(self._time_ns))
