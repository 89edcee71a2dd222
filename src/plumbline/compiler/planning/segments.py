"""Where a planned program is cut, and which of its segments must follow which.

Cuts: steps are gathered in launch order while their estimated cost stays below a limit, so no plan has fewer
segments. Order: from addresses alone. Two segments are ordered where one writes bytes of the arena or of the
state that the other reads or writes; memory that the plan reuses orders segments as data does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from plumbline.contracts.dims import upper_bound
from plumbline.contracts.program import Operand, PlannedProgram, PlannedStep, Space
from plumbline.contracts.tensors import storage_bytes
from plumbline.errors import ValidationError
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import get_operation

__all__ = [
    "COST_PER_NS",
    "SegmentEdge",
    "SegmentLimitRefused",
    "SegmentPlan",
    "order_segments",
    "plan_segments",
]

COST_PER_NS = 16.0
"""Units of `Work.unit_cost` that one core does in a nanosecond: an estimate that decides cuts, never bits."""


@dataclass(eq=False, kw_only=True)
class SegmentLimitRefused(ValidationError):
    """The limit for segments is no positive number of nanoseconds."""

    code = "validation.segment_limit"
    owner = "compiler"
    template = "max_segment_ns is {limit_ns}; a segment takes at least 1 ns"

    limit_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEdge:
    """Segment `consumer` starts after `producer` ends, because both touch the bytes of `value`."""

    producer: int
    consumer: int
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPlan:
    """Cuts of a program with the order between its segments.

    Attributes:
        starts: index of the first step of each segment; the first is 0.
        estimated_ns: cost of each segment on one core, with every symbol at its bound.
        limit_ns: what was asked for, or None.
        oversized: (step, estimated nanoseconds) of steps that alone are above the limit.
        edges: order between segments, earliest consumer first. What other edges imply is left out where the
            earlier bytes were overwritten as a whole.
    """

    starts: tuple[int, ...]
    estimated_ns: tuple[int, ...]
    limit_ns: int | None
    oversized: tuple[tuple[str, int], ...]
    edges: tuple[SegmentEdge, ...]

    @property
    def after(self) -> tuple[tuple[tuple[int, str], ...], ...]:
        """For each segment, the segments that come before it, and why."""
        return tuple(
            tuple((e.producer, e.value) for e in self.edges if e.consumer == index)
            for index in range(len(self.starts))
        )


def plan_segments(program: PlannedProgram, target: TargetDescription, limit_ns: int | None) -> SegmentPlan:
    """Decide the cuts of a program.

    Args:
        program: planned steps; its own `segments` are ignored.
        target: what kernels estimate their cost for.
        limit_ns: longest segment wanted, or None for a single one.

    Raises:
        SegmentLimitRefused: the limit is not positive.
    """
    if limit_ns is not None and limit_ns < 1:
        raise SegmentLimitRefused(limit_ns=limit_ns)
    costs = [_step_ns(step, program, target) for step in program.steps]
    return _plan(program, costs, _starts(costs, limit_ns), limit_ns)


def order_segments(program: PlannedProgram, target: TargetDescription) -> SegmentPlan:
    """The order and the costs of a program that is cut already: its own `segments` are kept."""
    costs = [_step_ns(step, program, target) for step in program.steps]
    return _plan(program, costs, program.segments, None)


def _plan(
    program: PlannedProgram, costs: Sequence[float], starts: tuple[int, ...], limit_ns: int | None
) -> SegmentPlan:
    return SegmentPlan(
        starts=starts,
        estimated_ns=tuple(math.ceil(sum(costs[a:b])) for a, b in _spans(starts, len(costs))),
        limit_ns=limit_ns,
        oversized=tuple(
            (step.name, math.ceil(cost))
            for step, cost in zip(program.steps, costs, strict=True)
            if limit_ns is not None and cost > limit_ns
        ),
        edges=_edges(program, starts),
    )


def _starts(costs: Sequence[float], limit_ns: int | None) -> tuple[int, ...]:
    starts, gathered = [0], 0.0
    for index, cost in enumerate(costs):
        if limit_ns is not None and index > starts[-1] and gathered + cost > limit_ns:
            starts.append(index)
            gathered = 0.0
        gathered += cost
    return tuple(starts)


def _step_ns(step: PlannedStep, program: PlannedProgram, target: TargetDescription) -> float:
    kernel = get_operation(step.operation).kernel
    if kernel is None:
        raise TypeError(f"step {step.name} has no kernel")
    work = kernel.work(step.signature, target)
    return upper_bound(work.units, program.symbols) * work.unit_cost / COST_PER_NS


def _spans(starts: Sequence[int], steps: int) -> Iterator[tuple[int, int]]:
    return zip(starts, (*starts[1:], steps), strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Access:
    """Bytes `[begin, end)` that a segment touches."""

    segment: int
    space: Space
    begin: int
    end: int
    writes: bool
    value: str

    def conflicts(self, other: _Access) -> bool:
        if not (self.writes or other.writes) or self.space is not other.space:
            return False
        return self.begin < other.end and other.begin < self.end

    def covers(self, other: _Access) -> bool:
        return self.space is other.space and self.begin <= other.begin and other.end <= self.end


def _edges(program: PlannedProgram, starts: Sequence[int]) -> tuple[SegmentEdge, ...]:
    """Order edges between segments that start at the given steps, by overlap of what they touch."""
    edges: dict[tuple[int, int], str] = {}
    live: list[_Access] = []
    for segment, (begin, end) in enumerate(_spans(starts, len(program.steps))):
        for step in program.steps[begin:end]:
            for access in _accesses(step, segment, program):
                for earlier in live:
                    if earlier.segment != segment and earlier.conflicts(access):
                        edges.setdefault((segment, earlier.segment), earlier.value)
                if access.writes:
                    live = [a for a in live if not access.covers(a)]
                live.append(access)
    return tuple(
        SegmentEdge(producer=producer, consumer=consumer, value=value)
        for (consumer, producer), value in sorted(edges.items())
    )


def _accesses(step: PlannedStep, segment: int, program: PlannedProgram) -> Iterator[_Access]:
    """What a step reads, then what it writes; its scratch counts as written."""
    for operand in step.inputs:
        if operand is not None and operand.space is not Space.WEIGHTS:
            yield _access(operand, segment, program, writes=False)
    for operand in step.outputs:
        yield _access(operand, segment, program, writes=True)
    if step.workspace_bytes:
        begin = step.workspace_offset
        yield _Access(
            segment=segment, space=Space.ARENA, begin=begin,
            end=begin + step.workspace_bytes * program.threads, writes=True,
            value=f"workspace of {step.name}",
        )  # fmt: skip


def _access(operand: Operand, segment: int, program: PlannedProgram, *, writes: bool) -> _Access:
    size = max(upper_bound(storage_bytes(operand.type), program.symbols), 1)
    return _Access(
        segment=segment, space=operand.space, begin=operand.offset, end=operand.offset + size, writes=writes,
        value=operand.value,
    )  # fmt: skip
