"""Cuts and order of segments against brute force over random programs."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.compiler.planning.segments import COST_PER_NS, order_segments, plan_segments
from plumbline.contracts.program import Operand, PlannedProgram, PlannedStep, Space
from plumbline.contracts.tensors import DType, TensorType
from plumbline.execution.segments import assign_streams
from plumbline.kernels.emit.target import AVX2
from plumbline.kernels.registry import get_operation

ARENA_BYTES = 64


@st.composite
def programs(draw):
    """Steps that copy bytes between random, possibly overlapping, places of the arena and of the state."""
    steps = []
    for index in range(draw(st.integers(1, 12))):
        count = draw(st.integers(1, 24))
        places = []
        for role in ("in", "out"):
            space = draw(st.sampled_from([Space.ARENA, Space.ARENA, Space.STATE]))
            offset = draw(st.integers(0, ARENA_BYTES - count))
            type_ = TensorType(DType.UINT8, (count,))
            places.append(Operand(value=f"{role}{index}", type=type_, space=space, offset=offset))
        scratch = draw(st.sampled_from([0, 0, 8]))
        steps.append(
            PlannedStep(
                name=f"n{index}", operation="identity", inputs=(places[0],), outputs=(places[1],),
                workspace_bytes=scratch, workspace_offset=draw(st.integers(0, ARENA_BYTES - 16)),
            )
        )  # fmt: skip
    starts = sorted({0, *draw(st.sets(st.integers(0, len(steps) - 1), max_size=6))})
    return PlannedProgram(
        name="random", symbols={}, steps=tuple(steps), inputs={}, outputs={}, states={}, weights_bytes=0,
        state_bytes=ARENA_BYTES, arena_bytes=ARENA_BYTES, threads=2, segments=tuple(starts),
    )  # fmt: skip


def touched(step: PlannedStep) -> tuple[set, set]:
    """(read, written) bytes of a step, one by one."""

    def bytes_of(operand: Operand) -> set:
        return {(operand.space, operand.offset + i) for i in range(operand.type.shape[0])}

    scratch = {(Space.ARENA, step.workspace_offset + i) for i in range(2 * step.workspace_bytes)}
    return bytes_of(step.inputs[0]), bytes_of(step.outputs[0]) | scratch


def segment_of(index: int, starts: tuple[int, ...]) -> int:
    return max(i for i, start in enumerate(starts) if start <= index)


def closure(edges, count: int) -> set[tuple[int, int]]:
    before: list[set[int]] = []
    for consumer in range(count):
        direct = {e.producer for e in edges if e.consumer == consumer}
        before.append(direct.union(*(before[p] for p in direct)))
    return {(p, c) for c, found in enumerate(before) for p in found}


@settings(max_examples=200)
@given(programs())
def test_every_conflict_between_segments_is_ordered_and_nothing_else_is_an_edge(program):
    """L2-28: the edges' closure holds each pair that shares a written byte; each edge is such a pair."""
    plan = order_segments(program, AVX2)
    conflicts = set()
    for (i, first), (j, second) in combinations(list(enumerate(program.steps)), 2):
        (r1, w1), (r2, w2) = touched(first), touched(second)
        pair = segment_of(i, program.segments), segment_of(j, program.segments)
        if pair[0] != pair[1] and (w1 & (r2 | w2) or r1 & w2):
            conflicts.add(pair)
    assert conflicts <= closure(plan.edges, len(program.segments))
    assert {(e.producer, e.consumer) for e in plan.edges} <= conflicts


@settings(max_examples=100)
@given(programs(), st.integers(1, 12))
def test_no_segment_is_above_the_limit_unless_it_is_one_step(program, limit_ns):
    plan = plan_segments(program, AVX2, limit_ns)
    ends = [*plan.starts[1:], len(program.steps)]
    assert plan.starts[0] == 0
    assert all(a < b for a, b in pairwise([*plan.starts, len(program.steps)]))
    big = {name for name, _ in plan.oversized}
    for begin, end, cost_ns in zip(plan.starts, ends, plan.estimated_ns, strict=True):
        names = {s.name for s in program.steps[begin:end]}
        assert cost_ns <= limit_ns or (len(names) == 1 and names <= big)


@settings(max_examples=100)
@given(programs(), st.integers(1, 12))
def test_no_cut_could_be_left_out(program, limit_ns):
    """Gathering greedily gives the fewest segments: a segment and the first step of the next are too much."""
    plan = plan_segments(program, AVX2, limit_ns)
    costs = []
    for step in program.steps:
        work = get_operation("identity").kernel.work(step.signature, AVX2)
        costs.append(work.units * work.unit_cost / COST_PER_NS)
    for begin, end in pairwise(plan.starts):
        assert sum(costs[begin : end + 1]) > limit_ns


@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.lists(st.integers(0, 30), max_size=3)), min_size=1, max_size=12
    ),
    st.integers(1, 4),
)
def test_a_schedule_on_more_streams_is_deterministic_and_uses_the_first_ones(rows, streams):
    costs = [cost for cost, _ in rows]
    after = [tuple(sorted({n % i for n in needs})) if i else () for i, (_, needs) in enumerate(rows)]
    chosen = assign_streams(costs, after, streams)
    assert chosen == assign_streams(costs, after, streams)
    assert set(chosen) == set(range(len(set(chosen))))
    assert max(chosen) < streams


def test_a_chain_stays_on_one_stream_and_a_fork_uses_two():
    assert assign_streams([5, 5, 5], [(), (0,), (1,)], 2) == (0, 0, 0)
    assert assign_streams([5, 5, 5, 5], [(), (0,), (0,), (1, 2)], 2)[1:3] == (0, 1)
