"""Sets of values that share a buffer, grown one join at a time.

A group has its own byte frame; every member knows its place in it. Two labels decide what may overlap:

    group    the values lie in one buffer
    content  the values show the same bytes: views, and parts written straight into their whole

Members of one content may always overlap. Members of different content may lie on the same bytes only when
no step sees both, or when the one is written over the other in the step where the other dies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from plumbline.compiler.planning.lifetimes import Buffer, align_up

__all__ = ["BufferGroups", "Member"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A value: bytes, inclusive interval of steps (`last < first`: never live), and whether it is outside."""

    name: str
    size: int
    first: int
    last: int
    external: bool = False


@dataclass(slots=True)
class _Group:
    """Members by rising `last`, the byte range and the hull of intervals that they span, and the owner."""

    owner: str
    members: list[Member]
    low: int
    high: int
    first: int
    last: int
    external: bool
    pinned: bool

    @property
    def bytes_live(self) -> int:
        return 0 if self.external else align_up(self.high - self.low)


@dataclass(slots=True)
class _Content:
    members: list[str] = field(default_factory=list)


class BufferGroups:
    """The mutable state of one alias resolution; owned by `resolve_aliases`."""

    def __init__(self, part_alignment: int) -> None:
        self._part_alignment = part_alignment
        self._group: dict[str, _Group] = {}
        self._place: dict[str, int] = {}
        self._content: dict[str, _Content] = {}
        self._parts: dict[str, list[tuple[int, int]]] = {}
        self._views: set[str] = set()
        self._profile: list[int] | None = None
        self._peak: int | None = None

    def add(self, member: Member, *, pinned: bool) -> None:
        """A value alone in its group. `pinned`: the caller knows it, so it is no part of something else."""
        self._group[member.name] = _Group(
            member.name, [member], 0, member.size, member.first, member.last, member.external, pinned
        )
        self._place[member.name] = 0
        self._content[member.name] = _Content([member.name])

    def are_joined(self, one: str, other: str) -> bool:
        """Whether both lie in one buffer."""
        return self._group[one] is self._group[other]

    def join_view(self, value: str, base: str, offset: int) -> None:
        """Lays `value` on `base`; only before the first wish, when nothing can be overwritten."""
        self._merge(self._group[base], self._group[value], self._shift(value, base, offset), owner=base)
        self._share_content(value, base)
        self._views.add(value)

    def try_in_place(self, value: str, operand: str) -> str | None:
        """Lays `value` over `operand` when nobody needs the old bytes; otherwise says why not."""
        old, new = self._group[operand], self._group[value]
        if old is new:
            return "they share a buffer already"
        if value in self._views:
            return "the value is a view; no step writes it"
        if old.external:
            return "the operand is a view of weights or state"
        held, written = self._find(old, operand), self._find(new, value)
        if written.size > held.size:
            return f"{written.size} bytes do not fit in the operand's {held.size}"
        if held.last > written.first:
            return f"the operand is read again at step {held.last}"
        shift = self._shift(value, operand, 0)
        clash = self._find_clash(old, new, shift, handover=(operand, written.first))
        if clash:
            return clash
        return self._join_if_light(old, new, shift)

    def placeable(self, value: str, base: str, offset: int) -> str | None:
        """Why `value` cannot be written at `offset` of `base`, or None. Does not look at the live set."""
        part, whole = self._group[value], self._group[base]
        size = self._find(part, value).size
        if base in self._views:
            return "the whole is a view; no step writes it"
        if part is whole:
            return "it has a place in this buffer already"
        if part.external or part.pinned:
            return "its bytes are also those of a graph input or output, weights or state"
        if offset < 0 or offset + size > self._find(whole, base).size:
            return "the part leaves the whole"
        if offset % self._part_alignment:
            return f"offset {offset} is not a multiple of {self._part_alignment}"
        if any(low < offset + size and offset < high for low, high in self._parts.get(base, ())):
            return "another part has these bytes"
        if self._content_range(value) != (self._place[value], self._place[value] + size):
            return "it is a slice of a larger value, or larger values are placed on it"
        return self._find_clash(whole, part, self._shift(value, base, offset), same_content=(value, base))

    def try_placed(self, value: str, base: str, offset: int, *, weigh: bool = True) -> str | None:
        """Lays `value` into `base` when legal (and, with `weigh`, when the live set does not grow)."""
        reason = self.placeable(value, base, offset)
        if reason:
            return reason
        whole, part = self._group[base], self._group[value]
        size = self._find(part, value).size
        shift = self._shift(value, base, offset)
        reason = self._join_if_light(whole, part, shift, weigh=weigh)
        if reason is None:
            self._share_content(value, base)
            self._parts.setdefault(base, []).append((offset, offset + size))
        return reason

    def is_light(self, values: Sequence[str], base: str) -> bool:
        """Whether laying all `values` into `base` together keeps the largest live set."""
        distinct = {id(self._group[name]): self._group[name] for name in (base, *values)}
        return self._weigh(list(distinct.values()), self._group[base].bytes_live) is not None

    def live_bytes(self) -> int:
        """The largest sum of aligned buffer sizes over all steps."""
        if self._peak is None:
            self._peak = max(self._live_profile(), default=0)
        return self._peak

    def buffers(self) -> Iterator[Buffer]:
        """The arena's buffers, in the order in which their owners were added."""
        for group in self._arena_groups():
            yield Buffer(
                name=group.owner, size_bytes=group.high - group.low, first=group.first, last=group.last
            )

    def locate(self, name: str) -> tuple[str, int, bool]:
        """Buffer, byte offset in it, and whether it is outside the arena."""
        group = self._group[name]
        return group.owner, self._place[name] - group.low, group.external

    def _arena_groups(self) -> Iterator[_Group]:
        seen: set[int] = set()
        for group in self._group.values():
            if id(group) not in seen and not group.external and group.last >= group.first:
                seen.add(id(group))
                yield group

    def _find(self, group: _Group, name: str) -> Member:
        return next(member for member in reversed(group.members) if member.name == name)

    def _shift(self, value: str, base: str, offset: int) -> int:
        """What to add to places in `value`'s frame to get places in `base`'s frame."""
        return self._place[base] + offset - self._place[value]

    def _content_range(self, value: str) -> tuple[int, int]:
        group = self._group[value]
        names = set(self._content[value].members)
        shown = [member for member in group.members if member.name in names]
        low = min(self._place[member.name] for member in shown)
        return low, max(self._place[member.name] + member.size for member in shown)

    def _share_content(self, one: str, other: str) -> None:
        small, large = sorted((self._content[one], self._content[other]), key=lambda c: len(c.members))
        if small is not large:
            large.members += small.members
            for name in small.members:
                self._content[name] = large

    def _find_clash(
        self,
        stay: _Group,
        come: _Group,
        shift: int,
        *,
        handover: tuple[str, int] | None = None,
        same_content: tuple[str, str] | None = None,
    ) -> str | None:
        """A live value that would be overwritten by laying `come` on `stay`, as a sentence, or None."""
        if not self._fits(stay, come, shift):
            return "it does not fit inside the buffer"
        shared = {id(self._content[name]) for name in same_content or ()}
        for arriving in come.members:
            low = self._place[arriving.name] + shift
            for staying in reversed(stay.members):
                if staying.last < come.first:
                    break
                place = self._place[staying.name]
                if staying.first > arriving.last or staying.last < arriving.first:
                    continue
                if place >= low + arriving.size or low >= place + staying.size:
                    continue
                if shared and {id(self._content[staying.name]), id(self._content[arriving.name])} <= shared:
                    continue
                if handover == (staying.name, arriving.first) and staying.last == arriving.first:
                    continue
                step = max(staying.first, arriving.first)
                return f"{arriving.name!r} would overwrite {staying.name!r}, which is live at step {step}"
        return None

    @staticmethod
    def _fits(stay: _Group, come: _Group, shift: int) -> bool:
        low, high = come.low + shift, come.high + shift
        return (stay.low <= low and high <= stay.high) or (low <= stay.low and stay.high <= high)

    def _join_if_light(self, stay: _Group, come: _Group, shift: int, *, weigh: bool = True) -> str | None:
        size = max(stay.bytes_live, come.bytes_live)
        changes = self._weigh([stay, come], size, force=not weigh)
        if changes is None:
            return "the largest live set would grow"
        profile = self._live_profile()
        for first, end, change in changes:
            profile[first:end] = [live + change for live in profile[first:end]]
        self._peak = None
        self._merge(stay, come, shift, owner=stay.owner)
        return None

    def _weigh(
        self, groups: Sequence[_Group], size: int, *, force: bool = False
    ) -> list[tuple[int, int, int]] | None:
        """How the live set changes when `groups` become one of `size`; None when its maximum would grow."""
        profile, changes = self._live_profile(), []
        alive = [group for group in groups if group.last >= group.first]
        if not alive:
            return []
        begin, stop = min(g.first for g in alive), max(g.last for g in alive) + 1
        marks = sorted({edge for group in alive for edge in (group.first, group.last + 1)})
        for first, end in pairwise(marks):
            held = sum(g.bytes_live for g in alive if g.first <= first <= g.last)
            change = (size if begin <= first < stop else 0) - held
            if change > 0 and not force and max(profile[first:end]) + change > self.live_bytes():
                return None
            if change:
                changes.append((first, end, change))
        return changes

    def _live_profile(self) -> list[int]:
        if self._profile is None:
            groups = list(self._arena_groups())
            change = [0] * (max((group.last for group in groups), default=-1) + 2)
            for group in groups:
                change[group.first] += group.bytes_live
                change[group.last + 1] -= group.bytes_live
            self._profile = list(_running_sum(change))
        return self._profile

    def _merge(self, stay: _Group, come: _Group, shift: int, *, owner: str) -> None:
        """Makes one group; the one with fewer members is rewritten into the frame of the other."""
        owner = self._group[owner].owner
        if len(come.members) > len(stay.members):
            stay, come, shift = come, stay, -shift
        for member in come.members:
            self._place[member.name] += shift
            self._group[member.name] = stay
        in_order = stay.members[-1].last <= come.members[0].last
        stay.members.extend(come.members)
        if not in_order:
            stay.members.sort(key=lambda member: member.last)
        stay.low, stay.high = min(stay.low, come.low + shift), max(stay.high, come.high + shift)
        alive = [group for group in (stay, come) if group.last >= group.first] or [stay]
        stay.first, stay.last = min(g.first for g in alive), max(g.last for g in alive)
        stay.external, stay.pinned = stay.external or come.external, stay.pinned or come.pinned
        stay.owner = owner


def _running_sum(changes: Iterable[int]) -> Iterator[int]:
    total = 0
    for change in changes:
        total += change
        yield total
