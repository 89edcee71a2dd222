"""Lifetimes of values."""

from __future__ import annotations

import random

import pytest

from plumbline.compiler.planning.lifetimes import (
    Buffer,
    Lifetime,
    LifetimeAnalyser,
    StepAccess,
    UnplannableValueError,
    align_up,
    workspace_buffers,
)
from plumbline.compiler.planning.lower_bound import find_lower_bound

STEPS = (
    StepAccess(name="a", reads=("x", "w"), writes=("p",), workspace_bytes=100),
    StepAccess(name="b", reads=("p",), writes=("q",)),
    StepAccess(name="c", reads=("p", "q"), writes=("y", "unused")),
    StepAccess(name="d", reads=("y",), writes=("z",)),
)


def test_each_value_lives_from_its_write_to_its_last_read() -> None:
    """L2-16."""
    lives = LifetimeAnalyser().analyse(STEPS, inputs=["x"], outputs=["y"], external=["w"])
    assert lives == {
        "x": Lifetime(0, 3),
        "p": Lifetime(0, 2),
        "q": Lifetime(1, 2),
        "y": Lifetime(2, 3),
        "unused": Lifetime(2, 2),
        "z": Lifetime(3, 3),
    }


def test_workspace_lives_in_its_own_step_only() -> None:
    assert workspace_buffers(STEPS) == (Buffer(name="a/workspace", size_bytes=100, first=0, last=0),)


def test_a_view_without_a_step_begins_with_its_base() -> None:
    steps = (StepAccess(name="a", writes=("p",)), StepAccess(name="b"), StepAccess(name="c", reads=("v",)))
    lives = LifetimeAnalyser().analyse(steps, views={"v": "u", "u": "p"})
    assert lives["v"] == Lifetime(0, 2)
    assert lives["u"] == Lifetime(0, 0)


def test_a_view_of_a_weight_has_no_lifetime() -> None:
    steps = (StepAccess(name="a", reads=("v",), writes=("p",)),)
    assert list(LifetimeAnalyser().analyse(steps, external=["w"], views={"v": "w"})) == ["p"]


@pytest.mark.parametrize(
    ("steps", "inputs", "outputs", "named"),
    [
        ((StepAccess(name="a", reads=("p",)),), [], [], "p"),
        ((StepAccess(name="a", writes=("p",)), StepAccess(name="b", writes=("p",))), [], [], "p"),
        ((StepAccess(name="a", writes=("x",)),), ["x"], [], "x"),
        ((), [], ["y"], "y"),
    ],
    ids=["read before written", "written twice", "input written", "output never written"],
)
def test_a_value_without_a_static_lifetime_is_refused_by_name(
    steps: tuple[StepAccess, ...], inputs: list[str], outputs: list[str], named: str
) -> None:
    """L2-23, as far as the planner sees it."""
    with pytest.raises(UnplannableValueError) as caught:
        LifetimeAnalyser().analyse(steps, inputs=inputs, outputs=outputs)
    assert caught.value.value == named


def test_circular_views_are_refused_instead_of_followed_forever() -> None:
    with pytest.raises(UnplannableValueError):
        LifetimeAnalyser().analyse((StepAccess(name="a", reads=("u",)),), views={"u": "v", "v": "u"})


@pytest.mark.parametrize("seed", range(30))
def test_lifetimes_equal_a_scan_of_every_step_on_random_programs(seed: int) -> None:
    """L2-16: against brute force."""
    rng = random.Random(seed)
    steps: list[StepAccess] = []
    values = ["in0", "in1"]
    for index in range(rng.randrange(1, 40)):
        reads = tuple(rng.sample(values, rng.randrange(1, min(4, len(values)) + 1)))
        writes = tuple(f"v{index}.{k}" for k in range(rng.randrange(1, 3)))
        steps.append(StepAccess(name=f"s{index}", reads=reads, writes=writes))
        values += writes
    outputs = rng.sample(values, min(2, len(values)))
    lives = LifetimeAnalyser().analyse(steps, inputs=["in0", "in1"], outputs=outputs)
    for value in values:
        touching = [i for i, step in enumerate(steps) if value in step.reads + step.writes]
        if value.startswith("in"):
            touching = list(range(len(steps)))
        elif value in outputs:
            touching.append(len(steps) - 1)
        assert lives[value] == Lifetime(min(touching), max(touching))


@pytest.mark.parametrize("seed", range(20))
def test_lower_bound_equals_the_largest_sum_over_all_steps(seed: int) -> None:
    """L2-18: against brute force."""
    rng = random.Random(seed)
    buffers = []
    for index in range(rng.randrange(1, 30)):
        first = rng.randrange(20)
        last = first + rng.randrange(5)
        buffers.append(Buffer(name=str(index), size_bytes=rng.randrange(2000), first=first, last=last))
    sums = [sum(align_up(b.size_bytes) for b in buffers if b.first <= step <= b.last) for step in range(30)]
    bound = find_lower_bound(buffers)
    assert (bound.size_bytes, bound.step) == (max(sums), sums.index(max(sums)))
