"""The journal of accepted calls: where each one is, and that each gets exactly one outcome.

             send                answer
accepted ----------> sent ---------------> done
    ^                 |
    +---- lose -------+        cancel or fail: from both to done
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from plumbline.contracts.inference import InferenceCall, InferenceResult
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.outcomes import DuplicateRequest
from plumbline.errors import PlumblineError

__all__ = ["CallEvent", "CallState", "Entry", "Journal", "JournalDefect", "LoadedVersion", "apply"]

MAX_SEEN = 2
"""Workers that may have a call in hand when they die; then it is failed."""


class CallState(IntEnum):
    """Of an accepted call."""

    ACCEPTED = 0
    SENT = 1
    DONE = 2


class CallEvent(IntEnum):
    """What happens to a call."""

    SEND = 0
    ANSWER = 1
    LOSE = 2
    FAIL = 3


class JournalDefect(RuntimeError):
    """A transition that there is not: a defect of the pool, never of a caller."""


_TRANSITIONS: dict[tuple[CallState, CallEvent], CallState] = {
    (CallState.ACCEPTED, CallEvent.SEND): CallState.SENT,
    (CallState.ACCEPTED, CallEvent.FAIL): CallState.DONE,
    (CallState.SENT, CallEvent.ANSWER): CallState.DONE,
    (CallState.SENT, CallEvent.LOSE): CallState.ACCEPTED,
    (CallState.SENT, CallEvent.FAIL): CallState.DONE,
}


def apply(state: CallState, event: CallEvent) -> CallState:
    """The state after the event.

    Raises:
        JournalDefect: the event cannot happen in this state.
    """
    try:
        return _TRANSITIONS[state, event]
    except KeyError:
        raise JournalDefect(f"{event.name} in {state.name}") from None


@dataclass(slots=True, kw_only=True, eq=False)
class LoadedVersion:
    """A version that the pool serves. Owned by the pool's loop.

    `alive` counts its accepted calls; `idle` is set when the last of them ends, once somebody waits for it.

    Attributes:
        load_s: seconds that its last load took; what loads fast is loaded first in a replacement.
        load_faults: loads in a row that failed in a replacement, or ended it, the last for `load_reason`.
        not_before_s: no replacement loads it before this moment, on the loop's clock.
    """

    handle: int
    spec: VersionSpec
    metadata: ModelMetadata
    alive: int = 0
    leaving: bool = False
    idle: asyncio.Event | None = None
    load_s: float = 0.0
    load_faults: int = 0
    load_reason: str = ""
    not_before_s: float = 0.0


class Entry:
    """One accepted call. Owned by the journal's loop; `seen` counts workers that had it when they ended, the
    last of them at `lost_ns`.
    """

    __slots__ = (
        "call",
        "future",
        "lost_ns",
        "number",
        "seen",
        "slot",
        "state",
        "unwanted",
        "version",
        "worker",
    )

    def __init__(
        self,
        number: int,
        call: InferenceCall,
        version: LoadedVersion,
        future: asyncio.Future[InferenceResult],
    ) -> None:
        self.number, self.call, self.version, self.future = number, call, version, future
        self.state = CallState.ACCEPTED
        self.seen = 0
        self.slot: tuple[int, int] | None = None
        self.worker = ""
        self.lost_ns = 0
        self.unwanted = False


class Journal:
    """Owner of every accepted call until its outcome. Used on one event loop."""

    def __init__(self) -> None:
        self._by_id: dict[RequestId, Entry] = {}
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._by_id.values()))

    def find(self, request: RequestId) -> Entry | None:
        """The living call of this id."""
        return self._by_id.get(request)

    def verify_new(self, request: RequestId) -> None:
        """No living call has this id.

        Raises:
            DuplicateRequest: one has.
        """
        if request in self._by_id:
            raise DuplicateRequest(request_id=request, state="alive")

    def accept(
        self, call: InferenceCall, version: LoadedVersion, future: asyncio.Future[InferenceResult]
    ) -> Entry:
        """Take a call; from now on it gets one outcome. Its id was verified."""
        self._numbers += 1
        entry = Entry(self._numbers, call, version, future)
        self._by_id[call.id] = entry
        version.alive += 1
        return entry

    def end(self, entry: Entry, event: CallEvent, outcome: InferenceResult | PlumblineError) -> None:
        """Give a call its one outcome.

        Raises:
            JournalDefect: it has one.
        """
        entry.state = apply(entry.state, event)
        del self._by_id[entry.call.id]
        version = entry.version
        version.alive -= 1
        if version.idle is not None and version.alive == 0:
            version.idle.set()
        future = entry.future
        if future.done():
            return
        if isinstance(outcome, PlumblineError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
