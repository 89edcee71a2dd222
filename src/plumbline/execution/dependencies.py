"""Which events order a graph of segments on several streams: a pure plan, and a tracker that applies it.

Segments of one stream are ordered by the stream. Between streams the producer records an event once and the
consumer waits for it, unless an earlier wait of the consumer's stream already implies it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from plumbline.errors import ValidationError
from plumbline.execution.launch import ActionKind
from plumbline.hardware.device import Device, Event, Stream


@dataclass(eq=False, kw_only=True)
class SegmentOrderError(ValidationError):
    """Segments must have unique names and come after everything they depend on."""

    code = "validation.segment_order"
    owner = "execution"
    template = "segment {segment!r}: {reason}"

    segment: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A segment that must be done first, and the tensor or memory range because of which."""

    segment: str
    tensor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentNode:
    """A segment on its stream. `after` holds data and anti-dependencies alike."""

    name: str
    stream: str
    after: tuple[Dependency, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAction:
    """One action for one stream.

    Attributes:
        kind: launch, record or wait.
        stream: the stream that it is issued to.
        segment: what is launched, what was recorded after, or what waits.
        event: the event of a record or wait, named after its producer; empty for a launch.
        tensor: why, for a wait.
    """

    kind: ActionKind
    stream: str
    segment: str
    event: str = ""
    tensor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyPlan:
    """Actions in issue order."""

    actions: tuple[PlannedAction, ...]

    @property
    def events(self) -> tuple[str, ...]:
        """Names of the events that are recorded, in order."""
        return tuple(action.event for action in self.actions if action.kind is ActionKind.RECORD)

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams that are used, in order of first use."""
        return tuple(dict.fromkeys(action.stream for action in self.actions))


def required_order(segments: Sequence[SegmentNode]) -> tuple[tuple[str, str], ...]:
    """Every (producer, consumer) pair that a run must respect."""
    return tuple((dep.segment, node.name) for node in segments for dep in node.after)


def plan_dependencies(segments: Sequence[SegmentNode]) -> DependencyPlan:
    """Decide what is recorded and waited, for segments in issue order.

    Each stream knows, for every other stream, the last position that it is certain to come after (a vector
    clock: Fidge 1988, Mattern 1989). A wait is planned only when it teaches the stream something.

    Raises:
        SegmentOrderError: a name occurs twice, or a dependency is missing or comes later.
    """
    _verify_order(segments)
    knowledge: dict[str, dict[str, int]] = {}
    reached: dict[str, dict[str, int]] = {}
    order = {node.name: index for index, node in enumerate(segments)}
    nodes = {node.name: node for node in segments}
    waits: dict[str, list[Dependency]] = {}
    for node in segments:
        known = knowledge.setdefault(node.stream, {})
        waits[node.name] = []
        for dependency in sorted(node.after, key=lambda d: -order[d.segment]):
            producer_stream = nodes[dependency.segment].stream
            producer_clock = reached[dependency.segment]
            if known.get(producer_stream, 0) < producer_clock[producer_stream]:
                waits[node.name].append(dependency)
                _learn(known, producer_clock)
        known[node.stream] = known.get(node.stream, 0) + 1
        reached[node.name] = dict(known)
    return DependencyPlan(actions=_actions(segments, waits))


def _learn(known: dict[str, int], other: Mapping[str, int]) -> None:
    for stream, position in other.items():
        known[stream] = max(known.get(stream, 0), position)


def _actions(
    segments: Sequence[SegmentNode], waits: Mapping[str, Sequence[Dependency]]
) -> tuple[PlannedAction, ...]:
    awaited = {dependency.segment for found in waits.values() for dependency in found}
    actions: list[PlannedAction] = []
    for node in segments:
        for dep in waits[node.name]:
            actions.append(_action(ActionKind.WAIT, node, event=dep.segment, tensor=dep.tensor))
        actions.append(_action(ActionKind.LAUNCH, node))
        if node.name in awaited:
            actions.append(_action(ActionKind.RECORD, node, event=node.name))
    return tuple(actions)


def _action(kind: ActionKind, node: SegmentNode, *, event: str = "", tensor: str = "") -> PlannedAction:
    return PlannedAction(kind=kind, stream=node.stream, segment=node.name, event=event, tensor=tensor)


def _verify_order(segments: Sequence[SegmentNode]) -> None:
    seen: set[str] = set()
    for node in segments:
        if node.name in seen:
            raise SegmentOrderError(segment=node.name, reason="the name occurs twice")
        for dependency in node.after:
            if dependency.segment not in seen:
                reason = f"depends on {dependency.segment!r}, which does not come before it"
                raise SegmentOrderError(segment=node.name, reason=reason)
        seen.add(node.name)


class DependencyTracker:
    """Owns the events of one plan on one device: use it in a `with` block."""

    def __init__(self, device: Device, plan: DependencyPlan) -> None:
        events: dict[str, Event] = {}
        try:
            for name in plan.events:
                events[name] = device.open_event(name)
        except BaseException:
            for event in events.values():
                event.close()
            raise
        self.events: Mapping[str, Event] = MappingProxyType(events)

    def record(self, event: str, stream: Stream) -> None:
        """Let `event` mean the end of what `stream` was given so far."""
        stream.record(self.events[event])

    def wait(self, event: str, stream: Stream) -> None:
        """Let `stream` go on only after `event`."""
        stream.wait(self.events[event])

    def close(self) -> None:
        """Give every event back."""
        for event in self.events.values():
            event.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
