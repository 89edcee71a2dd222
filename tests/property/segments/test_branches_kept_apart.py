"""Memory for several streams: buffers share bytes only where data orders their steps."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.compiler.planning.concurrency import widen_for_streams
from plumbline.compiler.planning.lifetimes import Buffer, LifetimeAnalyser, StepAccess, workspace_buffers
from plumbline.compiler.planning.memory import MemoryPlanner


@st.composite
def programs(draw):
    steps = []
    for index in range(draw(st.integers(1, 12))):
        reads = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        steps.append(
            StepAccess(
                name=f"n{index}", reads=tuple(f"v{r}" for r in sorted(reads)) or ("x",),
                writes=(f"v{index}",),
                workspace_bytes=draw(st.sampled_from([0, 0, 300])),
            )
        )  # fmt: skip
    return steps


def ancestors(steps) -> list[set[int]]:
    found: list[set[int]] = []
    for step in steps:
        direct = {int(v[1:]) for v in step.reads if v != "x"}
        found.append(direct.union(*(found[d] for d in direct)))
    return found


@settings(max_examples=200)
@given(programs())
def test_buffers_that_share_bytes_have_ordered_steps(steps):
    """L2-25: against all pairs of steps, not intervals."""
    lifetimes = LifetimeAnalyser().analyse(steps, inputs=["x"], outputs=[steps[-1].writes[0]])
    buffers = [Buffer(name=v, size_bytes=256, first=t.first, last=t.last) for v, t in lifetimes.items()]
    buffers += workspace_buffers(steps)
    widened = widen_for_streams(buffers, {v: v for v in lifetimes}, steps, {})
    offsets = MemoryPlanner().plan(widened).offsets
    users = {
        b.name: [i for i, s in enumerate(steps) if b.name in (*s.reads, *s.writes, f"{s.name}/workspace")]
        for b in buffers
    }
    before = ancestors(steps)
    for a, b in combinations(buffers, 2):
        low, high = sorted((a, b), key=lambda found: offsets[found.name])
        apart = offsets[low.name] + low.size_bytes <= offsets[high.name]
        first, second = users[a.name], users[b.name]
        ordered = all(i in before[j] for i in first for j in second) or all(
            j in before[i] for i in first for j in second
        )
        assert apart or ordered, (a, b)


@given(programs())
def test_intervals_only_grow(steps):
    lifetimes = LifetimeAnalyser().analyse(steps, inputs=["x"])
    buffers = [Buffer(name=v, size_bytes=256, first=t.first, last=t.last) for v, t in lifetimes.items()]
    for old, new in zip(buffers, widen_for_streams(buffers, {}, steps, {}), strict=True):
        assert new.first <= old.first <= old.last <= new.last


def test_a_chain_is_left_as_it_is():
    steps = [StepAccess(name=f"n{i}", reads=(f"v{i - 1}",) if i else (), writes=(f"v{i}",)) for i in range(4)]
    buffers = [Buffer(name=f"v{i}", size_bytes=1, first=i, last=min(i + 1, 3)) for i in range(4)]
    assert widen_for_streams(buffers, {}, steps, {}) == tuple(buffers)
