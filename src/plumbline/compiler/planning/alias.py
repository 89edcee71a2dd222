"""Which values share a buffer.

A value lives in its own buffer unless one of three declarations joins it to another:

    ViewOf     mandatory: its bytes are bytes of the base (reshape, contiguous slice)
    InPlace    a wish: its step may overwrite the operand, whose bytes die there
    PlacedIn   a wish: its step may write straight into a part of the base (input of a concatenation)

`resolve_aliases` joins all views, then tries the wishes in a fixed order and accepts one when no live byte is
overwritten and the largest live set does not grow. Every wish gets a reason, accepted or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import TypeVar

from plumbline.compiler.planning.alias_groups import BufferGroups, Member
from plumbline.compiler.planning.lifetimes import Buffer, Lifetime
from plumbline.errors import ValidationError

__all__ = [
    "BufferAssignment",
    "Decision",
    "InPlace",
    "InvalidAliasError",
    "Location",
    "PlacedIn",
    "PlannedValue",
    "ValueRole",
    "ViewOf",
    "resolve_aliases",
]


@dataclass(eq=False, kw_only=True)
class InvalidAliasError(ValidationError):
    """A declaration between values makes no sense: out of range, circular or about an unknown value."""

    code = "validation.plan.alias"
    owner = "compiler.planning"
    template = "alias of {value!r} to {base!r}: {reason}"

    value: str
    base: str
    reason: str


class ValueRole(StrEnum):
    """What a value is to the caller, which limits what may share its bytes."""

    INTERMEDIATE = "intermediate"
    INPUT = "input"
    OUTPUT = "output"
    EXTERNAL = "external"
    """Weights and state: outside the arena."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedValue:
    """A value with its size at the bound of every symbol."""

    name: str
    size_bytes: int
    role: ValueRole = ValueRole.INTERMEDIATE


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOf:
    """`value` is the bytes of `base` from `offset_bytes` on."""

    value: str
    base: str
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlace:
    """The step that writes `value` may write it over its operand `operand`, byte for byte."""

    value: str
    operand: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedIn:
    """`value` may be written at `offset_bytes` of `base`, whose step would otherwise copy it there."""

    value: str
    base: str
    offset_bytes: int


Declaration = ViewOf | InPlace | PlacedIn
Wish = TypeVar("Wish", InPlace, PlacedIn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What became of one declaration, and why."""

    declaration: Declaration
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a value lies: bytes `offset_bytes ..` of a buffer. `external`: the buffer is not in the arena."""

    buffer: str
    offset_bytes: int
    external: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferAssignment:
    """Every value's location, the buffers that the arena must hold, and what was decided.

    `live_before_bytes` and `live_after_bytes` are the largest live set with views only and with the accepted
    wishes.
    """

    locations: Mapping[str, Location]
    buffers: tuple[Buffer, ...]
    decisions: tuple[Decision, ...]
    live_before_bytes: int
    live_after_bytes: int

    def is_accepted(self, declaration: Declaration) -> bool:
        """Whether this wish was granted."""
        return any(decision.accepted for decision in self.decisions if decision.declaration == declaration)


def resolve_aliases(
    values: Sequence[PlannedValue],
    lifetimes: Mapping[str, Lifetime],
    declarations: Iterable[Declaration] = (),
    *,
    part_alignment_bytes: int = 64,
) -> BufferAssignment:
    """Joins values into buffers; deterministic in the order of `values` and `declarations`.

    Args:
        values: all values, those of role EXTERNAL included when something views them.
        lifetimes: from `LifetimeAnalyser`; not needed for external values and their views.
        declarations: views, which are always honoured, and wishes.
        part_alignment_bytes: a part of a concatenation at another multiple is refused, for the sake of
            aligned vector access.

    Raises:
        InvalidAliasError: a view is out of range, circular, doubled, or a declaration names no value.
    """
    known = {value.name: value for value in values}
    wanted = tuple(declarations)
    for declaration in wanted:
        _require_known(declaration, known)
    for weigh_wholes in (True, False):
        result = _attempt(values, lifetimes, wanted, part_alignment_bytes, weigh_wholes)
        if result.live_after_bytes <= result.live_before_bytes:
            break
    return result


def _attempt(
    values: Sequence[PlannedValue],
    lifetimes: Mapping[str, Lifetime],
    wanted: Sequence[Declaration],
    part_alignment_bytes: int,
    weigh_wholes: bool,
) -> BufferAssignment:
    known = {value.name: value for value in values}
    groups = BufferGroups(part_alignment_bytes)
    for value in values:
        groups.add(_member(value, lifetimes), pinned=value.role is not ValueRole.INTERMEDIATE)
    _join_views(groups, wanted, known)
    before = groups.live_bytes()
    verdicts: dict[int, str | None] = {}
    for at, wish in _by_step(
        [(at, w, w.value) for at, w in enumerate(wanted) if isinstance(w, InPlace)], lifetimes
    ):
        verdicts[at] = _decide_in_place(groups, wish, known)
    parts = [(at, w, w.base) for at, w in enumerate(wanted) if isinstance(w, PlacedIn)]
    for _, whole in groupby(_by_step(parts, lifetimes), key=lambda part: part[1].base):
        verdicts |= _decide_whole(groups, list(whole), known, weigh_wholes)
    return BufferAssignment(
        locations=_locations(groups, values),
        buffers=tuple(groups.buffers()),
        decisions=tuple(_decision(declaration, verdicts.get(at)) for at, declaration in enumerate(wanted)),
        live_before_bytes=before,
        live_after_bytes=groups.live_bytes(),
    )


def _by_step(
    wishes: list[tuple[int, Wish, str]], lifetimes: Mapping[str, Lifetime]
) -> list[tuple[int, Wish]]:
    """Wishes with their position, by the step that writes the named value; all wishes of a value together."""
    never = Lifetime(-1, -1)
    return [
        (at, w)
        for at, w, name in sorted(wishes, key=lambda w: (lifetimes.get(w[2], never).first, w[2], w[0]))
    ]


def _require_known(declaration: Declaration, known: Mapping[str, PlannedValue]) -> None:
    base = declaration.operand if isinstance(declaration, InPlace) else declaration.base
    for name in (declaration.value, base):
        if name not in known:
            raise InvalidAliasError(value=declaration.value, base=base, reason=f"no value is called {name!r}")
    if declaration.value == base:
        raise InvalidAliasError(value=declaration.value, base=base, reason="a value cannot alias itself")


def _member(value: PlannedValue, lifetimes: Mapping[str, Lifetime]) -> Member:
    external = value.role is ValueRole.EXTERNAL
    life = lifetimes.get(value.name)
    return Member(
        name=value.name,
        size=value.size_bytes,
        first=life.first if life else 0,
        last=life.last if life else -1,
        external=external,
    )


def _join_views(
    groups: BufferGroups, wanted: Sequence[Declaration], known: Mapping[str, PlannedValue]
) -> None:
    joined: set[str] = set()
    for view in wanted:
        if not isinstance(view, ViewOf):
            continue
        end = view.offset_bytes + known[view.value].size_bytes
        reason = None
        if view.offset_bytes < 0 or end > known[view.base].size_bytes:
            reason = f"bytes {view.offset_bytes}..{end} leave the base of {known[view.base].size_bytes} bytes"
        elif view.value in joined:
            reason = "the value is already a view"
        elif groups.are_joined(view.value, view.base):
            reason = "the views form a circle"
        if reason:
            raise InvalidAliasError(value=view.value, base=view.base, reason=reason)
        joined.add(view.value)
        groups.join_view(view.value, view.base, view.offset_bytes)


_GRANTED = {
    ViewOf: "a view owns no bytes",
    InPlace: "the operand dies in this step",
    PlacedIn: "its step writes the part directly",
}


def _decision(declaration: Declaration, refusal: str | None) -> Decision:
    granted = refusal is None
    return Decision(declaration=declaration, accepted=granted, reason=refusal or _GRANTED[type(declaration)])


def _decide_in_place(groups: BufferGroups, wish: InPlace, known: Mapping[str, PlannedValue]) -> str | None:
    operand = known[wish.operand]
    if operand.role is not ValueRole.INTERMEDIATE:
        return f"the operand is a graph {operand.role.value}"
    if known[wish.value].role in (ValueRole.INPUT, ValueRole.EXTERNAL):
        return "the value is not computed in the arena"
    return groups.try_in_place(wish.value, wish.operand)


def _decide_whole(
    groups: BufferGroups,
    parts: Sequence[tuple[int, PlacedIn]],
    known: Mapping[str, PlannedValue],
    weigh_wholes: bool,
) -> dict[int, str | None]:
    """All parts of one whole: together when that keeps the live set, otherwise one by one, largest first."""
    verdicts = {at: _role_refusal(wish, known) for at, wish in parts}
    for at, wish in parts:
        verdicts[at] = verdicts[at] or groups.placeable(wish.value, wish.base, wish.offset_bytes)
    legal = [(at, wish) for at, wish in parts if verdicts[at] is None]
    together = weigh_wholes and bool(legal) and groups.is_light([w.value for _, w in legal], legal[0][1].base)
    for at, wish in sorted(legal, key=lambda part: (-known[part[1].value].size_bytes, part[0])):
        verdicts[at] = groups.try_placed(wish.value, wish.base, wish.offset_bytes, weigh=not together)
    return verdicts


def _role_refusal(wish: PlacedIn, known: Mapping[str, PlannedValue]) -> str | None:
    role = known[wish.value].role
    if role is not ValueRole.INTERMEDIATE:
        return f"the part is a graph {role.value}"
    if known[wish.base].role in (ValueRole.INPUT, ValueRole.EXTERNAL):
        return "the whole is not computed in the arena"
    return None


def _locations(groups: BufferGroups, values: Sequence[PlannedValue]) -> dict[str, Location]:
    located: dict[str, Location] = {}
    for value in values:
        buffer, offset, external = groups.locate(value.name)
        located[value.name] = Location(buffer=buffer, offset_bytes=offset, external=external)
    return located
