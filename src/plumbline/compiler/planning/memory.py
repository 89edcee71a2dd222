"""An address for every buffer: the allocation plan, made once, before anything runs.

Several cheap heuristics compete and the lowest peak wins; the planner stops as soon as one reaches the lower
bound. The effort is limited by counted work, not by time, so that a plan depends on its input only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.compiler.planning.lifetimes import ALIGNMENT_BYTES, Buffer, align_up
from plumbline.compiler.planning.lower_bound import find_lower_bound
from plumbline.compiler.planning.placement import (
    Extent,
    Placed,
    find_conflicts,
    improve,
    orders,
    place,
    sweep,
)
from plumbline.errors import ResourceError, ValidationError

__all__ = [
    "AllocationPlan",
    "InvalidBufferError",
    "MemoryBudgetError",
    "MemoryPlanner",
    "Placement",
    "verify_budget",
]


@dataclass(eq=False, kw_only=True)
class InvalidBufferError(ValidationError):
    """A buffer to be planned has a negative size, an empty lifetime or a name that is taken."""

    code = "validation.plan.buffer"
    owner = "compiler.planning"
    template = "buffer {buffer!r}: {reason}"

    buffer: str
    reason: str


@dataclass(eq=False, kw_only=True)
class MemoryBudgetError(ResourceError):
    """The plan needs more memory than allowed; nothing was allocated or read."""

    code = "resource.memory.budget"
    owner = "compiler.planning"
    template = (
        "the plan needs {required_bytes} bytes (weights {weights_bytes}, state {state_bytes}, "
        "{contexts} x arena {arena_bytes}) but the budget is {budget_bytes}"
    )

    required_bytes: int
    weights_bytes: int
    state_bytes: int
    contexts: int
    arena_bytes: int
    budget_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A buffer with its address: bytes `offset_bytes ..` of the arena in the steps `first ..= last`."""

    name: str
    offset_bytes: int
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationPlan:
    """Where everything in the arena lies.

    Attributes:
        placements: in the order in which the buffers were given.
        peak_bytes: what the arena must hold; a multiple of the alignment.
        lower_bound_bytes: the largest live set, first reached at step `lower_bound_step`.
        naive_bytes: what the arena would hold without reuse.
        strategy: the heuristic that won.
    """

    placements: tuple[Placement, ...]
    peak_bytes: int
    lower_bound_bytes: int
    lower_bound_step: int
    naive_bytes: int
    alignment_bytes: int
    strategy: str

    @property
    def offsets(self) -> dict[str, int]:
        """Byte address in the arena by buffer name."""
        return {placement.name: placement.offset_bytes for placement in self.placements}

    @property
    def reuse_percent(self) -> float:
        """Share of `naive_bytes` that reuse saves, 0 .. 100."""
        return 100.0 * (1.0 - self.peak_bytes / self.naive_bytes) if self.naive_bytes else 0.0

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form: equal plans have equal digests, in any process."""
        return hashlib.sha256(self.to_canonical_json().encode()).hexdigest()

    def to_canonical_json(self) -> str:
        """The plan as JSON without spaces; addresses and lifetimes, not how they were found."""
        body: dict[str, Any] = {
            "alignment_bytes": self.alignment_bytes,
            "peak_bytes": self.peak_bytes,
            "buffers": [[p.name, p.offset_bytes, p.size_bytes, p.first, p.last] for p in self.placements],
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlanner:
    """Plans addresses. The limits bound the effort; the defaults keep 5,000 buffers under a second.

    Attributes:
        alignment_bytes: every address is a multiple; a power of two.
        work_limit: neighbours that all heuristics together may look at.
        work_per_buffer: the same, for each buffer, so that a small model plans in milliseconds.
    """

    alignment_bytes: int = ALIGNMENT_BYTES
    work_limit: int = 3_000_000
    work_per_buffer: int = 400

    def plan(self, buffers: Sequence[Buffer]) -> AllocationPlan:
        """Addresses for `buffers`; pure and deterministic in their order.

        Raises:
            InvalidBufferError: negative size, `last < first`, negative step or a doubled name.
        """
        _verify_buffers(buffers)
        bound = find_lower_bound(buffers, self.alignment_bytes)
        extents = [Extent(-(-b.size_bytes // self.alignment_bytes), b.first, b.last) for b in buffers]
        strategy, placed = self._best(extents, bound.size_bytes // self.alignment_bytes)
        return AllocationPlan(
            placements=tuple(
                Placement(
                    name=buffer.name,
                    offset_bytes=address * self.alignment_bytes,
                    size_bytes=buffer.size_bytes,
                    first=buffer.first,
                    last=buffer.last,
                )
                for buffer, address in zip(buffers, placed.addresses, strict=True)
            ),
            peak_bytes=placed.peak * self.alignment_bytes,
            lower_bound_bytes=bound.size_bytes,
            lower_bound_step=bound.step,
            naive_bytes=sum(align_up(buffer.size_bytes, self.alignment_bytes) for buffer in buffers),
            alignment_bytes=self.alignment_bytes,
            strategy=strategy,
        )

    def _best(self, extents: Sequence[Extent], goal: int) -> tuple[str, Placed]:
        strategy, best = "sweep", sweep(extents)
        work = min(self.work_limit, 20_000 + self.work_per_buffer * len(extents)) - best.work
        if best.peak <= goal:
            return strategy, best
        neighbours = find_conflicts(extents, work // 4)
        if neighbours is None:
            return strategy, best
        work -= sum(map(len, neighbours)) // 2
        start: list[int] = []
        lowest: int | None = None
        for name, order in orders(extents):
            for fit in ("lowest", "tightest"):
                if work <= 0:
                    return strategy, best
                found = place(extents, neighbours, order, best_fit=fit == "tightest")
                work -= found.work
                if lowest is None or found.peak < lowest:
                    lowest, start = found.peak, order
                if found.peak < best.peak:
                    strategy, best = f"{name}/{fit}", found
                if best.peak <= goal:
                    return strategy, best
        searched = improve(extents, neighbours, start, best, goal=goal, work=work)
        return (strategy, best) if searched.peak == best.peak else ("search", searched)


def verify_budget(
    plan: AllocationPlan, *, weights_bytes: int, state_bytes: int, contexts: int, budget_bytes: int
) -> int:
    """The bytes that the model needs in all: weights + state + contexts x arena.

    Raises:
        MemoryBudgetError: they exceed `budget_bytes`.
    """
    required = weights_bytes + state_bytes + contexts * plan.peak_bytes
    if required > budget_bytes:
        raise MemoryBudgetError(
            required_bytes=required,
            weights_bytes=weights_bytes,
            state_bytes=state_bytes,
            contexts=contexts,
            arena_bytes=plan.peak_bytes,
            budget_bytes=budget_bytes,
        )
    return required


def _verify_buffers(buffers: Sequence[Buffer]) -> None:
    seen: set[str] = set()
    for buffer in buffers:
        if buffer.name in seen:
            raise InvalidBufferError(buffer=buffer.name, reason="the name occurs twice")
        if buffer.size_bytes < 0:
            raise InvalidBufferError(buffer=buffer.name, reason=f"its size is {buffer.size_bytes} bytes")
        if buffer.first < 0 or buffer.last < buffer.first:
            reason = f"it lives from step {buffer.first} to step {buffer.last}"
            raise InvalidBufferError(buffer=buffer.name, reason=reason)
        seen.add(buffer.name)
