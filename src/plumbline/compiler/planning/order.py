"""Which operator runs when: a deterministic legal order that keeps the peak of live bytes low.

Three candidates are made in O((n + m) log n): the program order made legal, greedy list scheduling by the
change of live bytes, and depth first from the consumers (heavier subtrees first, after Sethi and Ullman,
"The generation of optimal code for arithmetic expressions", 1970, generalised from trees to DAGs without its
optimality). The lowest peak wins; on a tie the earlier named, so a program is only reordered for a gain.
Ties inside a candidate fall to `OrderNode.index`, never to insertion order or hashing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from plumbline.compiler.planning.lifetimes import align_up
from plumbline.errors import ValidationError

__all__ = ["GraphCycleError", "InvalidNodeError", "OperatorOrder", "OrderNode", "plan_order"]


@dataclass(eq=False, kw_only=True)
class GraphCycleError(ValidationError):
    """Nodes wait for each other in a circle."""

    code = "validation.plan.cycle"
    owner = "compiler.planning"
    template = "the graph has a cycle through the nodes {nodes}"

    nodes: tuple[str, ...]


@dataclass(eq=False, kw_only=True)
class InvalidNodeError(ValidationError):
    """A node cannot be ordered: its name, index or output is taken, or it waits for an unknown node."""

    code = "validation.plan.node"
    owner = "compiler.planning"
    template = "node {node!r}: {reason}"

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNode:
    """An operator to be ordered.

    Attributes:
        name: unique id.
        index: unique position in the source program; breaks ties.
        inputs: value ids it reads; those that no node produces (graph inputs, weights) are ignored.
        outputs: value ids it produces with their size in bytes.
        after: names of nodes that must run earlier although no value says so (state updates).
    """

    name: str
    index: int
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, int], ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorOrder:
    """The chosen order, who made it, and the peak of live bytes of every candidate that was compared."""

    names: tuple[str, ...]
    strategy: str
    peak_bytes: int
    candidates: tuple[tuple[str, int], ...]


@dataclass(slots=True)
class _Problem:
    """The graph over node positions 0 .. n-1 (sorted by index) and value numbers. Owned by `plan_order`."""

    names: list[str]
    before: list[list[int]]
    after: list[list[int]]
    produces: list[list[int]]
    consumes: list[list[int]]
    size: list[int]
    uses: list[int]


def plan_order(
    nodes: Iterable[OrderNode], *, outputs: Iterable[str] = (), views: Mapping[str, str] | None = None
) -> OperatorOrder:
    """A legal order with a low peak; the same for every insertion order of `nodes`.

    Args:
        nodes: the operators.
        outputs: graph outputs, which stay live to the end.
        views: value -> base for values that own no bytes: reading one keeps its base alive.

    Raises:
        GraphCycleError: no legal order exists.
        InvalidNodeError: a name, index or produced value occurs twice, or `after` names nobody.
    """
    problem = _number(
        sorted(nodes, key=lambda node: (node.index, node.name)), frozenset(outputs), views or {}
    )
    program = _program_order(problem)
    found = {"program": program, "greedy": _greedy_order(problem), "depth_first": _depth_first_order(problem)}
    peaks = {strategy: _peak(problem, order) for strategy, order in found.items()}
    best = min(peaks, key=lambda strategy: peaks[strategy])
    return OperatorOrder(
        names=tuple(problem.names[position] for position in found[best]),
        strategy=best,
        peak_bytes=peaks[best],
        candidates=tuple(peaks.items()),
    )


def _number(nodes: Sequence[OrderNode], outputs: frozenset[str], views: Mapping[str, str]) -> _Problem:
    position: dict[str, int] = {}
    producer: dict[str, int] = {}
    for at, node in enumerate(nodes):
        if node.name in position:
            raise InvalidNodeError(node=node.name, reason="the name occurs twice")
        if at and nodes[at - 1].index == node.index:
            raise InvalidNodeError(
                node=node.name, reason=f"index {node.index} is also {nodes[at - 1].name!r}"
            )
        position[node.name] = at
        for value, _ in node.outputs:
            if value in producer:
                raise InvalidNodeError(node=node.name, reason=f"value {value!r} is produced twice")
            producer[value] = at
    touched = (value for node in nodes for value in (*node.inputs, *(made for made, _ in node.outputs)))
    owners = {value: _chain(value, views)[-1] for value in touched}
    number: dict[str, int] = {}
    problem = _Problem([n.name for n in nodes], [], [[] for _ in nodes], [], [], [], [])
    for node in nodes:
        problem.produces.append([])
        for value, size_bytes in node.outputs:
            if owners[value] == value:
                number[value] = len(problem.size)
                problem.produces[-1].append(number[value])
                problem.size.append(align_up(size_bytes))
    problem.uses = [0] * len(problem.size)
    for at, node in enumerate(nodes):
        unknown = [name for name in node.after if name not in position]
        if unknown:
            raise InvalidNodeError(node=node.name, reason=f"waits for the unknown node {unknown[0]!r}")
        needed = (value for read in node.inputs for value in _chain(read, views))
        waits = {producer[value] for value in needed if value in producer} | {
            position[name] for name in node.after
        }
        problem.before.append(sorted(waits))
        problem.consumes.append(sorted({number[owners[v]] for v in node.inputs if owners[v] in number}))
        for earlier in problem.before[-1]:
            problem.after[earlier].append(at)
        for value_number in problem.consumes[-1]:
            problem.uses[value_number] += 1
    for value in sorted(outputs):
        owner = _chain(value, views)[-1]
        if owner in number:
            problem.uses[number[owner]] += 1
    return problem


def _chain(value: str, views: Mapping[str, str]) -> list[str]:
    """The value, its base, the base of that, ...; ends at the value that owns the bytes."""
    chain = [value]
    while chain[-1] in views and len(chain) <= len(views):
        chain.append(views[chain[-1]])
    return chain


def _program_order(problem: _Problem) -> list[int]:
    waiting = [len(before) for before in problem.before]
    ready = [at for at, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        at = heapq.heappop(ready)
        order.append(at)
        for later in problem.after[at]:
            waiting[later] -= 1
            if waiting[later] == 0:
                heapq.heappush(ready, later)
    if len(order) < len(waiting):
        raise GraphCycleError(nodes=_find_cycle(problem, waiting))
    return order


def _find_cycle(problem: _Problem, waiting: Sequence[int]) -> tuple[str, ...]:
    """Walks backwards among the nodes that never became ready until one repeats."""
    at = next(at for at, count in enumerate(waiting) if count > 0)
    seen: dict[int, int] = {}
    path: list[int] = []
    while at not in seen:
        seen[at] = len(path)
        path.append(at)
        at = next(earlier for earlier in problem.before[at] if waiting[earlier] > 0)
    return tuple(problem.names[node] for node in reversed(path[seen[at] :]))


def _greedy_order(problem: _Problem) -> list[int]:
    """List scheduling: of the ready nodes, the one that leaves the fewest live bytes."""
    uses = list(problem.uses)
    lone_user = [0] * len(uses)
    for at, consumed in enumerate(problem.consumes):
        for value in consumed:
            lone_user[value] += at
    growth = [sum(problem.size[v] for v in made if uses[v]) for made in problem.produces]
    for at, consumed in enumerate(problem.consumes):
        growth[at] -= sum(problem.size[value] for value in consumed if uses[value] == 1)
    waiting = [len(before) for before in problem.before]
    ready = [(growth[at], at) for at, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    done = [False] * len(waiting)
    order: list[int] = []
    while ready:
        key, at = heapq.heappop(ready)
        if done[at] or key != growth[at]:
            continue
        done[at] = True
        order.append(at)
        for value in problem.consumes[at]:
            uses[value] -= 1
            lone_user[value] -= at
            last = lone_user[value]
            if (
                uses[value] == 1
                and 0 <= last < len(done)
                and value in problem.consumes[last]
                and not done[last]
            ):
                growth[last] -= problem.size[value]
                if waiting[last] == 0:
                    heapq.heappush(ready, (growth[last], last))
        for later in problem.after[at]:
            waiting[later] -= 1
            if waiting[later] == 0:
                heapq.heappush(ready, (growth[later], later))
    return order


def _depth_first_order(problem: _Problem) -> list[int]:
    """Post-order from the nodes nobody waits for; the input with the larger need is computed first."""
    need = _needs(problem)
    wanted = [sorted(before, key=lambda node: (-need[node], node)) for before in problem.before]
    visited = [False] * len(need)
    order: list[int] = []
    for start in (at for at, after in enumerate(problem.after) if not after):
        stack = [(start, 0)] if not visited[start] else []
        visited[start] = True
        while stack:
            at, branch = stack.pop()
            while branch < len(wanted[at]) and visited[wanted[at][branch]]:
                branch += 1
            if branch == len(wanted[at]):
                order.append(at)
                continue
            child = wanted[at][branch]
            visited[child] = True
            stack += [(at, branch + 1), (child, 0)]
    return order


def _needs(problem: _Problem) -> list[int]:
    """For each node the live bytes to compute it alone, inputs by falling need (exact on trees)."""
    made = [sum(problem.size[value] for value in values) for values in problem.produces]
    need = [0] * len(made)
    for at in _program_order(problem):
        held = 0
        for earlier in sorted(problem.before[at], key=lambda node: (made[node] - need[node], node)):
            need[at] = max(need[at], held + need[earlier])
            held += made[earlier]
        need[at] = max(need[at], held + made[at])
    return need


def _peak(problem: _Problem, order: Sequence[int]) -> int:
    uses = list(problem.uses)
    live = peak = 0
    for at in order:
        live += sum(problem.size[value] for value in problem.produces[at])
        peak = max(peak, live)
        live -= sum(problem.size[value] for value in problem.produces[at] if uses[value] == 0)
        for value in problem.consumes[at]:
            uses[value] -= 1
            if uses[value] == 0:
                live -= problem.size[value]
    return peak
