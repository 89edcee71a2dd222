"""Decisions of the alias resolver, one situation each."""

from __future__ import annotations

import pytest

from plumbline.compiler.planning.alias import (
    BufferAssignment,
    Declaration,
    InPlace,
    InvalidAliasError,
    Location,
    PlacedIn,
    PlannedValue,
    ValueRole,
    ViewOf,
    resolve_aliases,
)
from plumbline.compiler.planning.alias_check import BrokenAssignmentError, verify_assignment
from plumbline.compiler.planning.lifetimes import Lifetime


def resolve(
    values: dict[str, tuple[int, int, int]], *wishes: Declaration, **roles: ValueRole
) -> BufferAssignment:
    """Values are `name: (size_bytes, first, last)`; the result is verified."""
    planned = [
        PlannedValue(name=name, size_bytes=size, role=roles.get(name, ValueRole.INTERMEDIATE))
        for name, (size, _, _) in values.items()
    ]
    lives = {
        name: Lifetime(first, last)
        for name, (_, first, last) in values.items()
        if roles.get(name) is not ValueRole.EXTERNAL and first >= 0
    }
    assignment = resolve_aliases(planned, lives, wishes)
    verify_assignment(planned, lives, assignment)
    return assignment


def at(buffer: str, offset_bytes: int) -> Location:
    return Location(buffer=buffer, offset_bytes=offset_bytes)


def test_a_view_of_a_view_lies_at_the_sum_of_the_offsets() -> None:
    views = ViewOf(value="v", base="x", offset_bytes=256), ViewOf(value="w", base="v", offset_bytes=64)
    result = resolve({"x": (1024, 0, 1), "v": (512, 0, 3), "w": (128, 0, 5)}, *views)
    assert result.locations == {"x": at("x", 0), "v": at("x", 256), "w": at("x", 320)}
    assert [(b.name, b.first, b.last) for b in result.buffers] == [("x", 0, 5)]


def test_a_view_of_a_weight_stays_outside_the_arena() -> None:
    result = resolve(
        {"w": (1024, -1, -1), "v": (512, -1, -1)}, ViewOf(value="v", base="w"), w=ValueRole.EXTERNAL
    )
    assert result.locations["v"] == Location(buffer="w", offset_bytes=0, external=True)
    assert result.buffers == ()


def test_an_operand_that_dies_is_overwritten() -> None:
    result = resolve({"x": (512, 0, 1), "y": (512, 1, 2)}, InPlace(value="y", operand="x"))
    assert result.locations["y"] == at("x", 0)
    assert (result.live_before_bytes, result.live_after_bytes) == (1024, 512)


def test_a_chain_of_elementwise_steps_needs_one_buffer() -> None:
    values = {f"v{i}": (512, i, i + 1) for i in range(20)}
    wishes = [InPlace(value=f"v{i + 1}", operand=f"v{i}") for i in range(19)]
    result = resolve(values, *wishes)
    assert len(result.buffers) == 1
    assert all(decision.accepted for decision in result.decisions)


@pytest.mark.parametrize(
    ("x", "y", "role", "reason"),
    [
        ((512, 0, 3), (512, 1, 2), ValueRole.INTERMEDIATE, "read again at step 3"),
        ((512, 0, 1), (513, 1, 2), ValueRole.INTERMEDIATE, "do not fit"),
        ((512, 0, 2), (512, 1, 2), ValueRole.INPUT, "graph input"),
        ((512, 0, 2), (512, 1, 2), ValueRole.OUTPUT, "graph output"),
        ((512, -1, -1), (512, 1, 2), ValueRole.EXTERNAL, "graph external"),
    ],
)
def test_an_operand_that_is_still_needed_is_kept(
    x: tuple[int, int, int], y: tuple[int, int, int], role: ValueRole, reason: str
) -> None:
    result = resolve({"x": x, "y": y}, InPlace(value="y", operand="x"), x=role)
    assert not result.decisions[0].accepted
    assert reason in result.decisions[0].reason
    assert result.locations["y"] == at("y", 0)


def test_a_view_that_is_read_later_protects_its_base() -> None:
    wishes = ViewOf(value="v", base="x"), InPlace(value="y", operand="x")
    result = resolve({"x": (512, 0, 1), "v": (512, 0, 5), "y": (512, 1, 2)}, *wishes)
    assert not result.is_accepted(wishes[1])
    assert "'v'" in result.decisions[1].reason


def test_a_second_operand_on_the_same_bytes_forbids_overwriting() -> None:
    wishes = ViewOf(value="v", base="x"), InPlace(value="y", operand="x")
    assert not resolve({"x": (512, 0, 1), "v": (512, 0, 1), "y": (512, 1, 2)}, *wishes).is_accepted(wishes[1])


def test_two_results_of_one_step_do_not_overwrite_the_same_operand() -> None:
    wishes = InPlace(value="y", operand="x"), InPlace(value="z", operand="x")
    result = resolve({"x": (512, 0, 1), "y": (512, 1, 2), "z": (512, 1, 2)}, *wishes)
    assert [decision.accepted for decision in result.decisions] == [True, False]


def test_inputs_of_a_concatenation_are_written_into_the_whole() -> None:
    wishes = PlacedIn(value="a", base="c", offset_bytes=0), PlacedIn(value="b", base="c", offset_bytes=512)
    result = resolve({"a": (512, 0, 2), "b": (512, 1, 2), "c": (1024, 2, 3)}, *wishes)
    assert result.locations == {"a": at("c", 0), "b": at("c", 512), "c": at("c", 0)}
    assert (result.live_before_bytes, result.live_after_bytes) == (2048, 1024)


def test_a_concatenation_of_concatenations_nests() -> None:
    wishes = (
        PlacedIn(value="a", base="c", offset_bytes=0),
        PlacedIn(value="b", base="c", offset_bytes=256),
        PlacedIn(value="d", base="e", offset_bytes=0),
        PlacedIn(value="c", base="e", offset_bytes=256),
    )
    values = {"a": (256, 0, 2), "b": (256, 1, 2), "c": (512, 2, 4), "d": (256, 3, 4), "e": (768, 4, 5)}
    result = resolve(values, *wishes)
    assert all(decision.accepted for decision in result.decisions)
    assert {name: place.offset_bytes for name, place in result.locations.items()} == {
        "a": 256, "b": 512, "c": 256, "d": 0, "e": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [((0, 256), "another part"), ((0, 832), "leaves the whole"), ((0, 520), "multiple")],
)
def test_a_part_at_an_impossible_offset_is_copied_instead(offsets: tuple[int, int], reason: str) -> None:
    wishes = [PlacedIn(value=n, base="c", offset_bytes=o) for n, o in zip("ab", offsets, strict=True)]
    result = resolve({"a": (512, 0, 2), "b": (320, 1, 2), "c": (1024, 2, 3)}, *wishes)
    assert not result.decisions[1].accepted
    assert reason in result.decisions[1].reason


def test_a_value_is_placed_in_one_whole_only() -> None:
    wishes = PlacedIn(value="a", base="c", offset_bytes=0), PlacedIn(value="a", base="d", offset_bytes=0)
    result = resolve({"a": (512, 0, 3), "c": (1024, 2, 3), "d": (1024, 3, 4)}, *wishes)
    assert [decision.accepted for decision in result.decisions].count(True) <= 1


def test_an_early_part_that_would_raise_the_peak_is_copied_instead() -> None:
    wish = PlacedIn(value="skip", base="c", offset_bytes=0)
    values = {"skip": (256, 0, 9), "wide": (4096, 3, 4), "c": (4096, 9, 10)}
    result = resolve(values, wish)
    assert result.decisions[0].reason == "the largest live set would grow"


@pytest.mark.parametrize(
    "wishes",
    [
        (ViewOf(value="v", base="x", offset_bytes=768),),
        (ViewOf(value="v", base="x", offset_bytes=-64),),
        (ViewOf(value="v", base="x"), ViewOf(value="v", base="y")),
        (ViewOf(value="v", base="w"), ViewOf(value="w", base="v")),
        (ViewOf(value="v", base="nobody"),),
        (InPlace(value="v", operand="v"),),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(wishes: tuple[Declaration, ...]) -> None:
    values = {"x": (1024, 0, 1), "y": (1024, 0, 1), "v": (512, 0, 3), "w": (512, 0, 3)}
    with pytest.raises(InvalidAliasError):
        resolve(values, *wishes)


def test_the_verifier_finds_two_live_values_on_the_same_bytes() -> None:
    planned = [PlannedValue(name=name, size_bytes=512) for name in "xy"]
    good = resolve_aliases(
        planned, {"x": Lifetime(0, 1), "y": Lifetime(1, 2)}, [InPlace(value="y", operand="x")]
    )
    with pytest.raises(BrokenAssignmentError):
        verify_assignment(planned, {"x": Lifetime(0, 2), "y": Lifetime(1, 2)}, good)


def test_a_view_that_nobody_reads_still_has_a_place() -> None:
    planned = [PlannedValue(name="x", size_bytes=512), PlannedValue(name="v", size_bytes=256)]
    lives = {"x": Lifetime(0, 1)}
    result = resolve_aliases(planned, lives, [ViewOf(value="v", base="x", offset_bytes=256)])
    verify_assignment(planned, lives, result)
    assert result.locations["v"] == at("x", 256)
    assert [(b.first, b.last) for b in result.buffers] == [(0, 1)]


def test_all_parts_are_placed_together_when_one_alone_would_raise_the_peak() -> None:
    """Placing only the first part makes the whole live early beside the other parts."""
    values = {
        "a": (256, 0, 4),
        "b": (4096, 1, 4),
        "temporary": (4096, 2, 3),
        "d": (4096, 3, 4),
        "c": (8448, 4, 5),
    }
    wishes = (
        PlacedIn(value="a", base="c", offset_bytes=0),
        PlacedIn(value="b", base="c", offset_bytes=256),
        PlacedIn(value="d", base="c", offset_bytes=4352),
    )
    result = resolve(values, *wishes)
    assert all(decision.accepted for decision in result.decisions)
    assert result.live_after_bytes == 8448 + 4096
