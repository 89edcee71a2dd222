"""Replay: the recorded arrivals, cancellations and times go through a fresh core, and every decision must
come out again, byte for byte (requirement L4-17).

Pure: records in, a core out. The state begins at the first snapshot that the records hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from plumbline.contracts.records import (
    START_DIGEST,
    Arrival,
    Boundary,
    Breach,
    Cancellation,
    Expiry,
    Finish,
    Held,
    LaunchStart,
    Promise,
    Record,
    Refusal,
    Routing,
    Segment,
    Selection,
    Snapshot,
    chain_digest,
    decode_record,
    encode_record,
)
from plumbline.contracts.requests import RequestId
from plumbline.errors import ArtifactError, PlumblineError
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.facts import request_from_facts
from plumbline.scheduling.policies.registry import open_policy
from plumbline.scheduling.policy import SchedulingPolicy
from plumbline.scheduling.refusals import QueueFull
from plumbline.scheduling.rules import verify_rules
from plumbline.scheduling.snapshot import read_core_state

__all__ = ["ReplayDiverged", "Replayed", "Watcher", "replay"]


@dataclass(eq=False, kw_only=True)
class ReplayDiverged(ArtifactError):
    """The rules that are in force decide otherwise than the log says."""

    code = "artifact.replay_diverged"
    owner = "scheduling"
    template = "record {record}: the log says {logged}, replay gives {replayed}"

    record: int
    logged: str
    replayed: str


class Watcher(Protocol):
    """Sees each record before replay applies it, with the core as it was then (None before a snapshot)."""

    def __call__(self, number: int, record: Record, core: DecisionCore | None) -> None:
        """Look; change nothing."""


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What came out.

    Attributes:
        core: state after the last record; None when there was no snapshot.
        digest: of the chain over the records that replay made.
        counts: records by kind.
        rules: policy and fingerprint of the rules of each life of the log, in order; an empty fingerprint is
            unknown (a log from before there were any).
    """

    core: DecisionCore | None = None
    digest: bytes = START_DIGEST
    counts: dict[str, int] = field(default_factory=dict)
    rules: list[tuple[str, str]] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many were replayed."""
        return sum(self.counts.values())


def replay(
    bodies: Iterable[bytes],
    *,
    first: int = 0,
    previous: bytes = START_DIGEST,
    policy: Callable[[str], SchedulingPolicy] = open_policy,
    watch: Watcher | None = None,
    any_rules: bool = False,
) -> Replayed:
    """Decide everything again.

    Args:
        bodies: of records, in order; the first ones are a segment and a snapshot.
        first: number of the first record, for messages.
        previous: digest of the record before the first.
        policy: makes a fresh policy from its name.
        watch: sees every record before it is applied.
        any_rules: try it also where the log states other rules than those that are here.

    Raises:
        RulesDiffer: the log states the fingerprint of other rules.
        ReplayDiverged: naming the first record that came out otherwise.
        RecordUnreadable, SnapshotRefused, PolicyUnknown, PolicyUnusable: the records cannot be replayed.
    """
    machine = _Machine(policy, any_rules=any_rules)
    result = Replayed(digest=previous)
    for number, body in enumerate(bodies, start=first):
        record = decode_record(body)
        if watch is not None:
            watch(number, record, machine.core)
        came = machine.apply(number, record)
        made = body if came is record else encode_record(came)
        if made != body:
            raise _diverged(number, record, decode_record(made))
        result.digest = chain_digest(result.digest, made)
        kind = str(record.__struct_config__.tag)
        result.counts[kind] = result.counts.get(kind, 0) + 1
    result.core, result.rules = machine.core, machine.rules
    return result


class _Machine:
    """Owns the core that is rebuilt. Each recorded step is one call of the core, which makes one record."""

    def __init__(self, policy: Callable[[str], SchedulingPolicy], *, any_rules: bool) -> None:
        self.core: DecisionCore | None = None
        self.rules: list[tuple[str, str]] = []
        self._any_rules = any_rules
        self._made: list[Record] = []
        self._policy = policy

    def apply(self, number: int, record: Record) -> Record:
        """Do again what led to `record`; gives the record that came out."""
        match record:
            case Segment():
                if record.fresh:
                    self.core = None
                return record
            case Snapshot():
                return self._take_snapshot(number, record)
            case Promise() | Breach() | Routing():
                return record
            case Refusal() if record.reason != "queue_full":
                return record
        self._made.clear()
        self._decide(number, record)
        if len(self._made) != 1:
            made = ", then ".join(_short(other) for other in self._made) or "nothing"
            raise ReplayDiverged(record=number, logged=_short(record), replayed=made)
        return self._made[0]

    def _decide(self, number: int, record: Record) -> None:
        if self.core is None:
            raise ReplayDiverged(
                record=number, logged=_short(record), replayed="no state: no snapshot before it"
            )
        try:
            _redo(self.core, record)
        except QueueFull:
            pass
        except PlumblineError as error:
            raise ReplayDiverged(record=number, logged=_short(record), replayed=error.message) from error

    def _take_snapshot(self, number: int, record: Snapshot) -> Record:
        if self.core is not None:
            return self.core.snapshot_record(record.time_ns)
        state = read_core_state(record.state)
        policy = self._policy(state.policy)
        self.rules.append((state.policy, state.rules))
        if not self._any_rules:
            verify_rules(number, policy, state.rules)
        core = DecisionCore(
            policy=policy,
            capacity=state.capacity,
            streams=state.streams,
            record=self._made.append,
        )
        core.restore(record.state)
        self.core = core
        return core.snapshot_record(record.time_ns)


def _redo(core: DecisionCore, record: Record) -> None:
    """Call what led to a record, with the times and facts it holds."""
    match record:
        case Arrival() | Refusal():
            core.submit(request_from_facts(record.request), record.time_ns)
        case Selection():
            core.select(record.stream, record.time_ns, busy=record.busy, above=record.above)
        case Held():
            core.select(record.stream, record.time_ns, busy=record.busy)
        case Expiry():
            core.expire(record.time_ns, most=1)
        case Cancellation():
            core.cancel(record.request, record.time_ns)
        case LaunchStart():
            core.launched(record.launch, record.time_ns)
        case Boundary():
            core.boundary(record.launch, record.segment, record.time_ns)
        case Finish():
            core.finish(
                record.launch, record.time_ns, {RequestId(i): outcome for i, outcome in record.outcomes}
            )
        case _:
            pass


def _diverged(number: int, logged: Record, made: Record) -> ReplayDiverged:
    return ReplayDiverged(record=number, logged=_short(logged), replayed=_short(made))


def _short(record: Record) -> str:
    text = repr(record)
    return text if len(text) <= 300 else f"{text[:297]}..."
