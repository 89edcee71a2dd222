"""Judges a buffer assignment from its definition; shares no code with the resolver.

For every buffer: a sweep over time visits each pair of values that are live in the same step and lie on the
same bytes. Such a pair must show one content (a chain of views and accepted parts leads from one to the
other, or from both to a common base), or be the hand-over of an accepted in-place wish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plumbline.compiler.planning.alias import BufferAssignment, InPlace, PlacedIn, PlannedValue, ViewOf
from plumbline.compiler.planning.lifetimes import Lifetime
from plumbline.errors import ExecutionError

__all__ = ["BrokenAssignmentError", "verify_assignment"]


@dataclass(eq=False, kw_only=True)
class BrokenAssignmentError(ExecutionError):
    """The alias resolver made a mistake: a defect of Plumbline."""

    code = "execution.plan.assignment"
    owner = "compiler.planning"
    template = "buffer assignment of {value!r}: {reason}"

    value: str
    reason: str


def verify_assignment(
    values: Sequence[PlannedValue], lifetimes: Mapping[str, Lifetime], assignment: BufferAssignment
) -> None:
    """Checks that no live byte is overwritten, that views lie where declared and that buffers suffice.

    Raises:
        BrokenAssignmentError: names a value and what is wrong with it.
    """
    sizes = {value.name: value.size_bytes for value in values}
    accepted = [decision.declaration for decision in assignment.decisions if decision.accepted]
    _check_places(accepted, sizes, assignment)
    _check_parts(accepted, sizes)
    _check_part_ranges(accepted, sizes, assignment)
    _check_buffers(sizes, lifetimes, assignment)
    content = _contents(sizes, accepted)
    handovers: dict[str, list[str]] = {}
    for wish in accepted:
        if isinstance(wish, InPlace):
            handovers.setdefault(wish.operand, []).append(wish.value)
    by_buffer: dict[str, list[str]] = {}
    for name in sizes:
        if name in lifetimes and not assignment.locations[name].external:
            by_buffer.setdefault(assignment.locations[name].buffer, []).append(name)
    for names in by_buffer.values():
        _check_overlaps(names, sizes, lifetimes, assignment, content, handovers)


def _check_places(accepted: Sequence[object], sizes: Mapping[str, int], assignment: BufferAssignment) -> None:
    for wish in accepted:
        if isinstance(wish, ViewOf | PlacedIn):
            base, offset = wish.base, wish.offset_bytes
        elif isinstance(wish, InPlace):
            base, offset = wish.operand, 0
        else:
            continue
        here, there = assignment.locations[wish.value], assignment.locations[base]
        if (here.buffer, here.offset_bytes) != (there.buffer, there.offset_bytes + offset):
            raise BrokenAssignmentError(value=wish.value, reason=f"not at byte {offset} of {base!r}")
        if offset + sizes[wish.value] > sizes[base]:
            raise BrokenAssignmentError(value=wish.value, reason=f"leaves {base!r}")


def _check_parts(accepted: Sequence[object], sizes: Mapping[str, int]) -> None:
    """Parts of one whole share no byte."""
    ends: dict[str, int] = {}
    parts = [wish for wish in accepted if isinstance(wish, PlacedIn)]
    for part in sorted(parts, key=lambda wish: wish.offset_bytes):
        if sizes[part.value] and part.offset_bytes < ends.get(part.base, 0):
            raise BrokenAssignmentError(value=part.value, reason=f"overlaps another part of {part.base!r}")
        ends[part.base] = part.offset_bytes + sizes[part.value]


def _check_buffers(
    sizes: Mapping[str, int], lifetimes: Mapping[str, Lifetime], assignment: BufferAssignment
) -> None:
    buffers = {buffer.name: buffer for buffer in assignment.buffers}
    for name, size in sizes.items():
        place = assignment.locations[name]
        if place.external or name not in lifetimes:
            continue
        buffer, life = buffers.get(place.buffer), lifetimes[name]
        if buffer is None:
            raise BrokenAssignmentError(value=name, reason=f"there is no buffer {place.buffer!r}")
        if place.offset_bytes < 0 or place.offset_bytes + size > buffer.size_bytes:
            raise BrokenAssignmentError(value=name, reason=f"leaves buffer {buffer.name!r}")
        if life.first < buffer.first or life.last > buffer.last:
            raise BrokenAssignmentError(value=name, reason=f"outlives buffer {buffer.name!r}")


def _check_part_ranges(
    accepted: Sequence[object], sizes: Mapping[str, int], assignment: BufferAssignment
) -> None:
    """Bytes that a part brings along (of its base when it is a view) claim no other byte of the whole."""
    linked = _links(sizes, accepted)
    start = {name: assignment.locations[name].offset_bytes for name in sizes}
    for part in accepted:
        if not isinstance(part, PlacedIn):
            continue
        low, whole_low = start[part.value], start[part.base]
        high, whole_high = low + sizes[part.value], whole_low + sizes[part.base]
        seen, todo = {part.base, part.value}, [part.value]
        while todo:
            name = todo.pop()
            claimed = max(start[name], whole_low), min(start[name] + sizes[name], whole_high)
            if claimed[0] < claimed[1] and (claimed[0] < low or claimed[1] > high):
                raise BrokenAssignmentError(value=name, reason=f"reaches beyond the part {part.value!r}")
            todo += [other for other in linked[name] if other not in seen]
            seen.update(linked[name])


def _links(sizes: Mapping[str, int], accepted: Sequence[object]) -> dict[str, list[str]]:
    linked: dict[str, list[str]] = {name: [] for name in sizes}
    for wish in accepted:
        if isinstance(wish, ViewOf | PlacedIn):
            linked[wish.value].append(wish.base)
            linked[wish.base].append(wish.value)
    return linked


def _contents(sizes: Mapping[str, int], accepted: Sequence[object]) -> dict[str, int]:
    """A number for each set of values that views and parts connect."""
    linked = _links(sizes, accepted)
    number: dict[str, int] = {}
    for start in sizes:
        todo = [] if start in number else [start]
        while todo:
            name = todo.pop()
            if name not in number:
                number[name] = len(number) if name == start else number[start]
                todo += linked[name]
    return number


def _check_overlaps(
    names: Sequence[str],
    sizes: Mapping[str, int],
    lifetimes: Mapping[str, Lifetime],
    assignment: BufferAssignment,
    content: Mapping[str, int],
    handovers: Mapping[str, Sequence[str]],
) -> None:
    alive: list[str] = []
    for name in sorted(names, key=lambda name: lifetimes[name].first):
        begins, low = lifetimes[name].first, assignment.locations[name].offset_bytes
        alive = [other for other in alive if lifetimes[other].last >= begins]
        for other in alive:
            other_low = assignment.locations[other].offset_bytes
            if low >= other_low + sizes[other] or other_low >= low + sizes[name]:
                continue
            if content[name] == content[other]:
                continue
            if _is_handover(other, name, lifetimes, handovers, content):
                continue
            raise BrokenAssignmentError(value=name, reason=f"overwrites {other!r} at step {begins}")
        alive.append(name)


def _is_handover(
    one: str,
    other: str,
    lifetimes: Mapping[str, Lifetime],
    handovers: Mapping[str, Sequence[str]],
    content: Mapping[str, int],
) -> bool:
    """Whether one dies as the operand of the step that writes the other (or the value it is a view of)."""
    for operand, written in ((one, other), (other, one)):
        heirs = handovers.get(operand, ())
        touch = lifetimes[operand].last == lifetimes[written].first
        if touch and any(content[heir] == content[written] for heir in heirs):
            return True
    return False
