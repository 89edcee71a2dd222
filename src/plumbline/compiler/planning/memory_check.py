"""Judges an allocation plan from its definition; shares no code with the planner."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.compiler.planning.lifetimes import Buffer
from plumbline.compiler.planning.memory import AllocationPlan
from plumbline.errors import ExecutionError

__all__ = ["BrokenPlanError", "verify_plan"]


@dataclass(eq=False, kw_only=True)
class BrokenPlanError(ExecutionError):
    """The memory planner made a mistake: a defect of Plumbline."""

    code = "execution.plan.memory"
    owner = "compiler.planning"
    template = "allocation plan: {reason}"

    reason: str


def verify_plan(plan: AllocationPlan, buffers: Sequence[Buffer]) -> None:
    """Checks that every buffer has an aligned address inside the arena and none overlaps a live one.

    Replays time: at each step the dead leave, the new enter a list sorted by address, and a new one must lie
    clear of the two beside it. O(n log n) comparisons.

    Raises:
        BrokenPlanError: names the buffers.
    """
    wanted = [(b.name, b.size_bytes, b.first, b.last) for b in buffers]
    if [(p.name, p.size_bytes, p.first, p.last) for p in plan.placements] != wanted:
        raise BrokenPlanError(reason="it is not a plan of these buffers")
    _check_range(plan)
    occupied: list[tuple[int, int, str]] = []
    events = [(p.first, 1, p.offset_bytes, p.size_bytes, p.name) for p in plan.placements if p.size_bytes]
    events += [(p.last + 1, 0, p.offset_bytes, p.size_bytes, p.name) for p in plan.placements if p.size_bytes]
    for step, enters, offset, size, name in sorted(events):
        entry = (offset, offset + size, name)
        if not enters:
            occupied.pop(bisect_left(occupied, entry))
            continue
        insort(occupied, entry)
        at = bisect_left(occupied, entry)
        for low, high in ((at - 1, at), (at, at + 1)):
            if low >= 0 and high < len(occupied) and occupied[low][1] > occupied[high][0]:
                pair = f"{occupied[low][2]!r} and {occupied[high][2]!r}"
                raise BrokenPlanError(reason=f"{pair} share bytes at step {step}")


def _check_range(plan: AllocationPlan) -> None:
    top = 0
    for placement in plan.placements:
        if placement.offset_bytes < 0 or placement.offset_bytes % plan.alignment_bytes:
            raise BrokenPlanError(reason=f"{placement.name!r} is at byte {placement.offset_bytes}")
        top = max(top, placement.offset_bytes + placement.size_bytes if placement.size_bytes else 0)
    if not top <= plan.peak_bytes < top + plan.alignment_bytes:
        raise BrokenPlanError(reason=f"the peak is {plan.peak_bytes} but the buffers end at {top}")
    if plan.peak_bytes < plan.lower_bound_bytes:
        raise BrokenPlanError(reason="the peak is under the lower bound")
