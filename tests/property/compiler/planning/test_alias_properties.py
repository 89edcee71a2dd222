"""Sharing of buffers on random programs, judged by running them on a memory of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.compiler.planning.alias import (
    BufferAssignment,
    Declaration,
    InPlace,
    PlacedIn,
    PlannedValue,
    ValueRole,
    ViewOf,
    resolve_aliases,
)
from plumbline.compiler.planning.alias_check import verify_assignment
from plumbline.compiler.planning.lifetimes import LifetimeAnalyser, StepAccess
from plumbline.compiler.planning.memory import MemoryPlanner
from plumbline.compiler.planning.memory_check import verify_plan

UNIT = 64
Token = tuple[str, int]


@dataclass
class Program:
    """A random program with what each value must read as: one token for every 64 bytes."""

    steps: list[StepAccess] = field(default_factory=list)
    content: dict[str, tuple[Token, ...]] = field(default_factory=dict)
    roles: dict[str, ValueRole] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    declared: list[Declaration] = field(default_factory=list)

    def new(self, content: tuple[Token, ...] | int) -> str:
        name = f"v{len(self.content)}"
        units = content if isinstance(content, int) else 0
        self.content[name] = content if isinstance(content, tuple) else tuple((name, i) for i in range(units))
        return name

    def resolve(self) -> tuple[BufferAssignment, list[PlannedValue]]:
        def named(role: ValueRole) -> list[str]:
            return [name for name, given_role in self.roles.items() if given_role is role]

        self.lives = LifetimeAnalyser().analyse(
            self.steps, inputs=named(ValueRole.INPUT), outputs=named(ValueRole.OUTPUT), views=self.views
        )
        values = [
            PlannedValue(name=n, size_bytes=UNIT * len(c), role=self.roles.get(n, ValueRole.INTERMEDIATE))
            for n, c in self.content.items()
            if n in self.lives
        ]
        known = {value.name for value in values}
        self.declared = [d for d in self.declared if d.value in known]
        return resolve_aliases(values, self.lives, self.declared), values


@st.composite
def programs(draw: st.DrawFn) -> Program:
    program = Program()
    for _ in range(draw(st.integers(1, 2))):
        program.roles[program.new(draw(st.integers(1, 4)))] = ValueRole.INPUT
    for index in range(draw(st.integers(1, 14))):
        pick = st.sampled_from(sorted(program.content, key=lambda n: (-int(n[1:]) // 3, int(n[1:]))))
        kind = draw(st.sampled_from(("over", "over", "view", "concat", "concat", "fresh")))
        if kind == "view":
            base = draw(pick)
            low = draw(st.integers(0, len(program.content[base]) - 1))
            high = draw(st.integers(low + 1, len(program.content[base])))
            name = program.new(program.content[base][low:high])
            program.views[name] = base
            program.declared.append(ViewOf(value=name, base=base, offset_bytes=low * UNIT))
            continue
        if kind == "concat":
            parts = draw(st.lists(pick, min_size=1, max_size=4))
            whole = program.new(tuple(token for part in parts for token in program.content[part]))
            at = 0
            for part in parts:
                program.declared.append(PlacedIn(value=part, base=whole, offset_bytes=at * UNIT))
                at += len(program.content[part])
            program.steps.append(StepAccess(name=f"s{index}", reads=tuple(parts), writes=(whole,)))
            continue
        operands = draw(st.lists(pick, min_size=1, max_size=3))
        size = len(program.content[operands[0]]) if kind == "over" else draw(st.integers(1, 5))
        name = program.new(size)
        if kind == "over":
            program.declared += [InPlace(value=name, operand=operand) for operand in dict.fromkeys(operands)]
        program.steps.append(StepAccess(name=f"s{index}", reads=tuple(operands), writes=(name,)))
    for name in draw(st.lists(st.sampled_from(sorted(program.content)), max_size=3, unique=True)):
        program.roles.setdefault(name, ValueRole.OUTPUT)
    draw(st.randoms(use_true_random=False)).shuffle(program.declared)
    return program


def run_on_tokens(program: Program, assignment: BufferAssignment, offsets: dict[str, int], size: int) -> None:
    """Executes the program on one arena; each read must see exactly the tokens of the value."""
    arena: list[Token | None] = [None] * (size // UNIT)

    def place(name: str) -> int:
        location = assignment.locations[name]
        return (offsets[location.buffer] + location.offset_bytes) // UNIT

    def check(name: str, when: str) -> None:
        low, content = place(name), program.content[name]
        assert tuple(arena[low : low + len(content)]) == content, f"{name} is damaged {when}"

    def write(name: str, skip: set[int]) -> None:
        for index, token in enumerate(program.content[name]):
            if index not in skip:
                arena[place(name) + index] = token

    placed = {
        d.declaration for d in assignment.decisions if d.accepted and isinstance(d.declaration, PlacedIn)
    }
    for name, role in program.roles.items():
        if role is ValueRole.INPUT:
            write(name, set())
    for step in program.steps:
        for name in step.reads:
            check(name, f"when {step.name} reads it")
        for name in step.writes:
            done = {
                wish.offset_bytes // UNIT + index
                for wish in placed
                if wish.base == name
                for index in range(len(program.content[wish.value]))
            }
            write(name, done)
            check(name, f"after {step.name} wrote it")
    for name in program.roles:
        check(name, "at the end")


@settings(max_examples=400, deadline=None)
@given(programs())
def test_a_program_with_shared_buffers_reads_what_was_written(program: Program) -> None:
    """L2-17: views, in-place and concatenation in place, in any mixture, damage no live byte."""
    assignment, values = program.resolve()
    verify_assignment(values, program.lives, assignment)
    plan = MemoryPlanner().plan(assignment.buffers)
    verify_plan(plan, assignment.buffers)
    run_on_tokens(program, assignment, plan.offsets, plan.peak_bytes)


@settings(max_examples=150, deadline=None)
@given(programs())
def test_granted_wishes_never_raise_the_largest_live_set(program: Program) -> None:
    """L2-18."""
    assignment, _ = program.resolve()
    assert assignment.live_after_bytes <= assignment.live_before_bytes
    plan = MemoryPlanner().plan(assignment.buffers)
    assert plan.lower_bound_bytes == assignment.live_after_bytes


@settings(max_examples=100, deadline=None)
@given(programs())
def test_every_declaration_is_answered_with_a_reason(program: Program) -> None:
    assignment, _ = program.resolve()
    assert [decision.declaration for decision in assignment.decisions] == program.declared
    assert all(decision.reason for decision in assignment.decisions)
    assert all(d.accepted for d in assignment.decisions if isinstance(d.declaration, ViewOf))
