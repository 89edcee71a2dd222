"""Allocation plans on arbitrary buffers."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.compiler.planning.lifetimes import Buffer
from plumbline.compiler.planning.memory import AllocationPlan, MemoryPlanner
from plumbline.compiler.planning.memory_check import BrokenPlanError, verify_plan
from plumbline.compiler.planning.placement import Extent, find_conflicts, orders, place, sweep

SPANS = st.tuples(st.integers(0, 5000), st.integers(0, 20), st.integers(0, 12))
BUFFERS = st.lists(SPANS, max_size=40).map(
    lambda spans: [
        Buffer(name=f"b{i}", size_bytes=size, first=first, last=first + length)
        for i, (size, first, length) in enumerate(spans)
    ]
)


def overlapping_pairs(plan: AllocationPlan) -> list[tuple[str, str]]:
    """Brute force: every pair, every condition."""
    return [
        (a.name, b.name)
        for a, b in combinations(plan.placements, 2)
        if a.first <= b.last
        and b.first <= a.last
        and a.offset_bytes < b.offset_bytes + b.size_bytes
        and b.offset_bytes < a.offset_bytes + a.size_bytes
    ]


@settings(max_examples=300, deadline=None)
@given(BUFFERS)
def test_no_two_live_buffers_overlap(buffers: list[Buffer]) -> None:
    """L2-17."""
    plan = MemoryPlanner().plan(buffers)
    assert overlapping_pairs(plan) == []
    assert all(p.offset_bytes % 256 == 0 for p in plan.placements)
    verify_plan(plan, buffers)


@settings(max_examples=200, deadline=None)
@given(BUFFERS)
def test_the_peak_lies_between_the_lower_bound_and_the_sum(buffers: list[Buffer]) -> None:
    """L2-18, L2-21: the peak is also exactly where the highest buffer ends, rounded up."""
    plan = MemoryPlanner().plan(buffers)
    ends = [-(-(p.offset_bytes + p.size_bytes) // 256) * 256 for p in plan.placements if p.size_bytes]
    assert plan.lower_bound_bytes <= plan.peak_bytes <= plan.naive_bytes
    assert plan.peak_bytes == max(ends, default=0)
    assert 0 <= plan.reuse_percent <= 100


@settings(max_examples=150, deadline=None)
@given(BUFFERS)
def test_every_heuristic_alone_gives_a_legal_plan(buffers: list[Buffer]) -> None:
    extents = [Extent(-(-b.size_bytes // 256), b.first, b.last) for b in buffers]
    neighbours = find_conflicts(extents, 10**6)
    assert neighbours is not None
    found = [sweep(extents)]
    for _, order in orders(extents):
        found += [place(extents, neighbours, order), place(extents, neighbours, order, best_fit=True)]
    for placed in found:
        for a, b in combinations(range(len(extents)), 2):
            together = extents[a].first <= extents[b].last and extents[b].first <= extents[a].last
            low = max(placed.addresses[a], placed.addresses[b])
            high = min(placed.addresses[a] + extents[a].units, placed.addresses[b] + extents[b].units)
            assert not (together and extents[a].units and extents[b].units and low < high)


@settings(max_examples=100, deadline=None)
@given(BUFFERS.filter(lambda buffers: len(buffers) > 1), st.randoms(use_true_random=False))
def test_the_verifier_agrees_with_brute_force_on_damaged_plans(
    buffers: list[Buffer], rng: random.Random
) -> None:
    plan = MemoryPlanner().plan(buffers)
    moved = list(plan.placements)
    victim = rng.randrange(len(moved))
    p = moved[victim]
    slots = max(1, (plan.peak_bytes - p.size_bytes) // 256 + 1)
    moved[victim] = type(p)(
        name=p.name,
        offset_bytes=256 * rng.randrange(slots),
        size_bytes=p.size_bytes,
        first=p.first,
        last=p.last,
    )
    ends = [-(-(m.offset_bytes + m.size_bytes) // 256) * 256 for m in moved if m.size_bytes]
    damaged = AllocationPlan(
        placements=tuple(moved),
        peak_bytes=max(ends, default=0),
        lower_bound_bytes=0,
        lower_bound_step=0,
        naive_bytes=plan.naive_bytes,
        alignment_bytes=256,
        strategy="damaged",
    )
    real = [pair for pair in overlapping_pairs(damaged) if all(damaged_size(damaged, n) for n in pair)]
    if real:
        with pytest.raises(BrokenPlanError):
            verify_plan(damaged, buffers)
    else:
        verify_plan(damaged, buffers)


def damaged_size(plan: AllocationPlan, name: str) -> int:
    return next(p.size_bytes for p in plan.placements if p.name == name)


PROGRAM = """
import json, random
from plumbline.compiler.planning.lifetimes import Buffer
from plumbline.compiler.planning.memory import MemoryPlanner
from plumbline.compiler.planning.order import OrderNode, plan_order
rng = random.Random(5)
buffers = []
for i in range(300):
    size, first = rng.randrange(1, 10**6), rng.randrange(200)
    buffers.append(Buffer(name=f"b{i}", size_bytes=size, first=first, last=first + rng.randrange(9)))
plan = MemoryPlanner().plan(buffers)
nodes = []
for i in range(1, 200):
    inputs = tuple({f"v{rng.randrange(i)}" for _ in range(3)})
    outputs = ((f"v{i}", rng.randrange(1, 9999)),)
    nodes.append(OrderNode(name=f"n{i}", index=i, inputs=inputs, outputs=outputs))
print(json.dumps([plan.digest, plan.to_canonical_json(), plan_order(nodes).names]))
"""


def test_plans_are_byte_equal_across_processes_and_hash_seeds() -> None:
    """L2-20."""
    seen = set()
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        )
        assert len(json.loads(done.stdout)[0]) == 64
        seen.add(done.stdout)
    assert len(seen) == 1


def test_doubling_the_network_at_most_doubles_the_work_and_the_pairs_kept() -> None:
    """L2-31, L2-32: counted, not timed; lifetimes are bounded as in a network."""
    looked, kept = [], []
    for count in (500, 1000, 2000, 4000):
        rng = random.Random(3)
        extents = [Extent(rng.randrange(1, 1000), i, i + rng.randrange(1, 6)) for i in range(count)]
        neighbours = find_conflicts(extents, 10**9)
        assert neighbours is not None
        kept.append(sum(map(len, neighbours)))
        looked.append(
            sweep(extents).work + sum(place(extents, neighbours, order).work for _, order in orders(extents))
        )
    for counts in (looked, kept):
        assert all(later < 2.3 * earlier for earlier, later in pairwise(counts))


def test_the_search_ends_within_its_work_limit() -> None:
    """L2-31: the limit decides the effort, so a hostile model cannot keep the planner busy."""
    rng = random.Random(1)
    buffers = []
    for i in range(400):
        first = rng.randrange(400)
        last = min(399, first + rng.randrange(150))
        buffers.append(Buffer(name=f"b{i}", size_bytes=rng.randrange(256, 10**6), first=first, last=last))
    quick = MemoryPlanner(work_limit=1).plan(buffers)
    slow = MemoryPlanner().plan(buffers)
    assert quick.strategy == "sweep"
    assert slow.peak_bytes <= quick.peak_bytes
    verify_plan(quick, buffers)
