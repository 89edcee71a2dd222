"""The state of a decision core as plain values, and back: what a segment of a log begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from plumbline.contracts.records import RequestFacts
from plumbline.errors import ArtifactError
from plumbline.scheduling.facts import request_facts, request_from_facts
from plumbline.scheduling.launch import Launch, SelectionReason

if TYPE_CHECKING:
    from plumbline.scheduling.decisions import DecisionCore

__all__ = ["CoreState", "SnapshotRefused", "core_state", "read_core_state", "restore_core"]


@dataclass(eq=False, kw_only=True)
class SnapshotRefused(ArtifactError):
    """A state that this core cannot take."""

    code = "artifact.scheduler_snapshot"
    owner = "scheduling"
    template = "state of a decision core: {reason}"

    reason: str


class QueuedState(msgspec.Struct, frozen=True, array_like=True):
    """A queued request."""

    request: RequestFacts
    key: tuple[int, ...]
    arrival: int
    entered_ns: int


class RunningState(msgspec.Struct, frozen=True, array_like=True):
    """A launch that goes on."""

    number: int
    requests: tuple[RequestFacts, ...]
    key: tuple[int, ...]
    reason: str
    stream: int


class CoreState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything a core decides from. `rules`: fingerprint of how it does, absent when that is unknown."""

    policy: str
    policy_state: dict[str, Any]
    capacity: int
    streams: int
    arrivals: int
    launches: int
    queued: tuple[QueuedState, ...]
    running: tuple[RunningState, ...]
    mean_departure_ns: int
    last_departure_ns: int | None
    rules: str = ""


def core_state(core: DecisionCore) -> dict[str, Any]:
    """The whole state, as plain values in a fixed order."""
    state = CoreState(
        policy=core.policy.name,
        policy_state=core.policy.state(),
        capacity=core.capacity,
        streams=core.streams,
        arrivals=core.arrivals,
        launches=core.launches,
        queued=tuple(
            QueuedState(request_facts(e.request), e.key, e.arrival, e.entered_ns) for e in core.queue
        ),
        running=tuple(
            RunningState(
                launch.number,
                tuple(request_facts(r) for r in launch.requests),
                launch.key,
                launch.reason.value,
                launch.stream,
            )
            for launch in core.running.values()
        ),
        mean_departure_ns=core.departures.mean_ns,
        last_departure_ns=core.departures.last_ns,
        rules=core.rules,
    )
    plain: dict[str, Any] = msgspec.to_builtins(state)
    return plain


def read_core_state(state: Mapping[str, Any]) -> CoreState:
    """The fields of a state.

    Raises:
        SnapshotRefused: a field is absent or of another type.
    """
    try:
        return msgspec.convert(dict(state), CoreState)
    except msgspec.ValidationError as error:
        raise SnapshotRefused(reason=str(error)[:200]) from error


def restore_core(core: DecisionCore, state: Mapping[str, Any]) -> None:
    """Put a state into a fresh core.

    Raises:
        SnapshotRefused: the core was used, or the state is of another policy, or not a state.
    """
    found = read_core_state(state)
    if core.arrivals or core.depth or core.running:
        raise SnapshotRefused(reason="the core was already used")
    if found.policy != core.policy.name:
        raise SnapshotRefused(reason=f"made with policy {found.policy!r}, this is {core.policy.name!r}")
    core.capacity, core.streams = found.capacity, found.streams
    core.arrivals, core.launches = found.arrivals, found.launches
    core.departures.mean_ns, core.departures.last_ns = found.mean_departure_ns, found.last_departure_ns
    core.rules = found.rules
    try:
        _refill(core, found)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotRefused(reason=f"{type(error).__name__}: {error}"[:200]) from error


def _refill(core: DecisionCore, found: CoreState) -> None:
    for queued in found.queued:
        core.queue.put(request_from_facts(queued.request), queued.key, queued.arrival, queued.entered_ns)
    for running in found.running:
        core.adopt(
            Launch(
                number=running.number,
                requests=tuple(request_from_facts(facts) for facts in running.requests),
                key=running.key,
                reason=SelectionReason(running.reason),
                stream=running.stream,
            )
        )
    core.policy.restore(found.policy_state)
