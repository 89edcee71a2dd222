"""Allocation points of a planned run (X-43, X-44): the plan says where, the run says when.

Addresses are fixed by the plan, so nothing is measured per tensor while a run goes on: its points are derived
afterwards from the planned placements and the times at which the steps started.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plumbline.errors import ValidationError
from plumbline.telemetry.points import TensorAllocation, TensorDeallocation, TracePoint


@dataclass(eq=False, kw_only=True)
class PlacementStepsError(ValidationError):
    """A placement names steps that the run does not have."""

    code = "validation.placement_steps"
    owner = "telemetry"
    template = "tensor {tensor!r} lives in steps {first_step} to {last_step}, but the run has {steps}"

    tensor: str
    first_step: int
    last_step: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A tensor of the plan: `[offset, offset + size_bytes)` from `first_step` through `last_step`."""

    tensor: str
    offset: int
    size_bytes: int
    first_step: int
    last_step: int


def placement_points(placements: Iterable[Placement], step_times_ns: Sequence[int]) -> list[TracePoint]:
    """One allocation and one deallocation for each placement, in time order.

    Args:
        placements: of the plan.
        step_times_ns: start of each step, then the end of the last one: one more than there are steps.

    Raises:
        PlacementStepsError: a placement leaves the run.
    """
    steps = len(step_times_ns) - 1
    timed: list[tuple[int, int, TracePoint]] = []
    for place in placements:
        if not 0 <= place.first_step <= place.last_step < steps:
            raise PlacementStepsError(
                tensor=place.tensor, first_step=place.first_step, last_step=place.last_step, steps=steps
            )
        start_ns, end_ns = step_times_ns[place.first_step], step_times_ns[place.last_step + 1]
        allocation = TensorAllocation(
            timestamp_ns=start_ns, tensor=place.tensor, size_bytes=place.size_bytes, offset=place.offset
        )
        deallocation = TensorDeallocation(timestamp_ns=end_ns, tensor=place.tensor)
        timed.append((2 * place.first_step + 1, len(timed), allocation))
        timed.append((2 * place.last_step + 2, len(timed), deallocation))
    return [point for _, _, point in sorted(timed, key=lambda entry: entry[:2])]
