"""Who was not chosen, and why: derived from the state before a selection, never recorded."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import StrEnum

from plumbline.contracts.records import Selection
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.queue_entry import QueueEntry, group_key

__all__ = ["Loser", "LossReason", "interrupted_launch", "losers", "why_not"]


class LossReason(StrEnum):
    """Why a queued request was not part of a launch."""

    BEHIND = "behind"
    """The policy put another one first."""
    LAUNCH_FULL = "launch_full"
    """It might have shared the launch, but those before it took the room."""
    GRAPH_BUSY = "graph_busy"
    """Every instance of its graph was in use."""
    BOUND_ELSEWHERE = "bound_elsewhere"
    """It is bound to another stream."""
    NOT_ABOVE = "not_above"
    """Only requests that go before the running launch were looked at."""
    HELD = "held"
    """It waited for company."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loser:
    """A request that was queued and not chosen. `because` is for people."""

    request: str
    key: tuple[int, ...]
    reason: LossReason
    because: str


def losers(core: DecisionCore, selection: Selection, most: int | None = None) -> list[Loser]:
    """Everybody who was queued and not chosen, those that were next first.

    Args:
        core: as it was just before the selection.
        selection: what was recorded.
        most: how many to give; None for all.
    """
    chosen = set(selection.requests)
    left = [entry for entry in core.queue if entry.request.id not in chosen]
    key = _entry_key
    ordered = sorted(left, key=key) if most is None else heapq.nsmallest(most, left, key=key)
    return [why_not(core, selection, entry) for entry in ordered]


def why_not(core: DecisionCore, selection: Selection, entry: QueueEntry) -> Loser:
    """Why a queued request was not chosen.

    Args:
        core: as it was just before the selection.
        selection: what was recorded; `entry` is not part of it.
        entry: of the queue of `core`.
    """
    reason, because = _reason(core, selection, entry)
    return Loser(request=entry.request.id, key=entry.key, reason=reason, because=because)


def interrupted_launch(core: DecisionCore, selection: Selection) -> Launch | None:
    """The launch that a selection at a segment boundary came before; None for any other selection.

    Args:
        core: as it was just before the selection.
        selection: what was recorded. Its `above` is the key of that launch, or a stricter bound.
    """
    if selection.above is None:
        return None
    on_stream = [launch for launch in core.running.values() if launch.stream == selection.stream]
    return max(on_stream, key=_number, default=None)


def _number(launch: Launch) -> int:
    return launch.number


def _reason(core: DecisionCore, selection: Selection, entry: QueueEntry) -> tuple[LossReason, str]:
    request = entry.request
    if request.stream is not None and request.stream != selection.stream:
        return LossReason.BOUND_ELSEWHERE, f"it is bound to stream {request.stream}"
    if request.graph in selection.busy:
        return LossReason.GRAPH_BUSY, f"every instance of {request.graph} was in use"
    if selection.above is not None and entry.key > selection.above:
        running = interrupted_launch(core, selection)
        because = core.policy.compare(selection.above if running is None else running.key, entry.key)
        return LossReason.NOT_ABOVE, f"it does not go before the running launch: {because}"
    if entry.key < selection.key:
        return LossReason.HELD, f"it waited for others to share the launch of {request.graph}"
    because = core.policy.compare(selection.key, entry.key)
    head = core.queue.find(selection.requests[0])
    shares = request.batch is not None and head is not None
    if shares and head is not None and group_key(head.request) == group_key(request):
        return LossReason.LAUNCH_FULL, f"the launch had no room left for it; {because}"
    return LossReason.BEHIND, because


def _entry_key(entry: QueueEntry) -> tuple[int, ...]:
    return entry.key
