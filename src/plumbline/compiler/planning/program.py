"""From a graph to a planned program: order, lifetimes, addresses. Reads no weight, allocates nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from plumbline.compiler.graph.constant import Constant
from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
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
from plumbline.compiler.planning.concurrency import widen_for_streams
from plumbline.compiler.planning.lifetimes import LifetimeAnalyser, StepAccess, align_up, workspace_buffers
from plumbline.compiler.planning.memory import AllocationPlan, MemoryPlanner, verify_budget
from plumbline.compiler.planning.order import OrderNode, plan_order
from plumbline.compiler.planning.segments import SegmentPlan, plan_segments
from plumbline.compiler.planning.threads import choose_threads
from plumbline.compiler.planning.weights import WeightsPlan, constant_bytes, plan_weights
from plumbline.contracts.dims import upper_bound
from plumbline.contracts.program import Operand, PlannedProgram, PlannedStep, Space, StepSignature
from plumbline.contracts.tensors import ROW_MAJOR, Blocked, TensorType, storage_bytes
from plumbline.kernels.contract import Kernel, OperationContract, Work
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import get_operation

__all__ = ["ProgramPlan", "plan_program"]


CONCATENATIONS = frozenset({"concat", "concat_blocked"})
"""Operations whose parts may be written in place; both have an attribute `axis`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramPlan:
    """A planned program with everything that was decided on the way."""

    program: PlannedProgram
    allocation: AllocationPlan
    assignment: BufferAssignment
    weights: WeightsPlan
    constants: Mapping[TensorID, Constant]
    steps: tuple[StepAccess, ...]
    order_strategy: str
    segments: SegmentPlan

    def verify_budget(self, budget_bytes: int | None, contexts: int = 1) -> None:
        """Refuse a plan that needs more memory than allowed, before any weight is read.

        Raises:
            MemoryBudgetError: with every part of the sum.
        """
        if budget_bytes is not None:
            verify_budget(
                self.allocation,
                weights_bytes=self.program.weights_bytes,
                state_bytes=self.program.state_bytes,
                contexts=contexts,
                budget_bytes=budget_bytes,
            )


def plan_program(
    graph: ExecutionGraph,
    target: TargetDescription,
    threads: int,
    max_segment_ns: int | None = None,
    streams: int = 1,
) -> ProgramPlan:
    """Fix the order, every address, and where the program is cut into segments.

    Args:
        graph: verified graph whose outputs are all written by an operator of their own.
        target: decides workspace only.
        threads: most threads of a context (each that is used has its own workspace).
        max_segment_ns: longest segment wanted, or None for one segment.
        streams: with more than one, branches that share no data share no memory either.

    Raises:
        SegmentLimitRefused: `max_segment_ns` is not positive.
        ValidationError: a leaf from the kernel of an operator that the target does not support.
    """
    views: dict[str, str] = {}
    for node in graph.nodes:
        if get_operation(node.operation).is_view and node.inputs[0] is not None:
            views[node.outputs[0]] = node.inputs[0]
    ordered, strategy = _ordered_nodes(graph, views)
    stepped = [node for node in ordered if not get_operation(node.operation).is_view]
    works = {node.name: _work(node, graph, target) for node in stepped}
    threads = choose_threads(works.values(), graph.symbols, threads)
    accesses = [_access(node, works[node.name].workspace_bytes * threads) for node in stepped]
    external = {*graph.constants, *graph.states.values()}
    lifetimes = LifetimeAnalyser().analyse(
        accesses,
        inputs=graph.inputs.values(),
        outputs=graph.outputs.values(),
        external=external,
        views=views,
    )
    values = [_planned_value(t, graph, external) for t in _appearance(graph, ordered)]
    declarations = _declarations(graph, ordered)
    assignment = resolve_aliases(values, lifetimes, declarations)
    buffers = (*assignment.buffers, *workspace_buffers(accesses))
    if streams > 1:
        buffer_of = {value: location.buffer for value, location in assignment.locations.items()}
        buffers = widen_for_streams(buffers, buffer_of, accesses, views)
    allocation = MemoryPlanner().plan(buffers)
    weights = plan_weights(graph)
    states = _state_offsets(graph)
    locate = _Locator(graph, assignment, allocation, weights, states)
    placed: set[Declaration] = {
        d.declaration for d in assignment.decisions if d.accepted and isinstance(d.declaration, PlacedIn)
    }
    steps = tuple(
        _step(node, locate, works[node.name], allocation, placed)
        for node in stepped
        if not _is_written_in_place(node, placed)
    )
    program = PlannedProgram(
        name=graph.name,
        symbols=dict(graph.symbols),
        steps=steps,
        inputs={name: locate(t) for name, t in graph.inputs.items()},
        outputs={name: locate(t) for name, t in graph.outputs.items()},
        states={name: locate(t) for name, t in graph.states.items()},
        weights_bytes=weights.size_bytes,
        state_bytes=sum(align_up(_bound_bytes(graph, t)) for t in graph.states.values()),
        arena_bytes=allocation.peak_bytes,
        threads=threads,
    )
    segments = plan_segments(program, target, max_segment_ns)
    return ProgramPlan(
        program=replace(program, segments=segments.starts), allocation=allocation, assignment=assignment,
        weights=weights, constants=graph.constants, steps=tuple(accesses), order_strategy=strategy,
        segments=segments,
    )  # fmt: skip


def _ordered_nodes(graph: ExecutionGraph, views: Mapping[str, str]) -> tuple[list[OperatorNode], str]:
    """The operators in their planned order, and which candidate won."""
    nodes = {node.name: node for node in graph.nodes}
    order = plan_order(
        [
            OrderNode(
                name=node.name,
                index=index,
                inputs=tuple(t for t in node.inputs if t is not None),
                outputs=tuple((t, 0 if t in views else _bound_bytes(graph, t)) for t in node.outputs),
            )
            for index, node in enumerate(graph.nodes)
        ],
        outputs=graph.outputs.values(),
        views=views,
    )
    return [nodes[name] for name in order.names], order.strategy


def _bound_bytes(graph: ExecutionGraph, tensor: TensorID) -> int:
    """Size of a tensor at the bound of every symbol, with room for whole-vector access past its end."""
    type_ = graph.type_of(tensor)
    constant = graph.constants.get(tensor)
    if constant is not None:
        return constant_bytes(constant, type_)
    return max(upper_bound(storage_bytes(type_), graph.symbols), 1)


def _work(node: OperatorNode, graph: ExecutionGraph, target: TargetDescription) -> Work:
    contract = get_operation(node.operation)
    return kernel_of(contract).work(signature_of(node, graph), target)


def kernel_of(contract: OperationContract) -> Kernel:
    """The native kernel of an operation that makes a step."""
    if contract.kernel is None:
        raise TypeError(f"operation {contract.name} has no kernel")
    return contract.kernel


def signature_of(node: OperatorNode, graph: ExecutionGraph) -> StepSignature:
    """The signature of a node."""
    return StepSignature(
        operation=node.operation,
        inputs=tuple(None if t is None else graph.type_of(t) for t in node.inputs),
        outputs=tuple(graph.type_of(t) for t in node.outputs),
        attributes=node.attributes,
    )


def _access(node: OperatorNode, workspace_bytes: int) -> StepAccess:
    return StepAccess(
        name=node.name,
        reads=tuple(dict.fromkeys(t for t in node.inputs if t is not None)),
        writes=node.outputs,
        workspace_bytes=workspace_bytes,
    )


def _appearance(graph: ExecutionGraph, nodes: Sequence[OperatorNode]) -> list[TensorID]:
    """Every tensor once, in order of first appearance."""
    found: dict[TensorID, None] = dict.fromkeys(
        (*graph.inputs.values(), *graph.states.values(), *graph.constants)
    )
    for node in nodes:
        found.update(dict.fromkeys(node.outputs))
    return list(found)


def _planned_value(tensor: TensorID, graph: ExecutionGraph, external: set[TensorID]) -> PlannedValue:
    role = ValueRole.INTERMEDIATE
    if tensor in external:
        role = ValueRole.EXTERNAL
    elif tensor in graph.inputs.values():
        role = ValueRole.INPUT
    elif tensor in graph.outputs.values():
        role = ValueRole.OUTPUT
    return PlannedValue(name=tensor, size_bytes=_bound_bytes(graph, tensor), role=role)


def _declarations(graph: ExecutionGraph, nodes: Sequence[OperatorNode]) -> list[Declaration]:
    declared: list[Declaration] = []
    for node in nodes:
        contract = get_operation(node.operation)
        if contract.is_view and node.inputs[0] is not None:
            declared.append(ViewOf(value=node.outputs[0], base=node.inputs[0]))
            continue
        declared += _in_place_wishes(node, contract, graph)
        if node.operation in CONCATENATIONS:
            declared += _concat_wishes(node, graph)
    return declared


def _in_place_wishes(
    node: OperatorNode, contract: OperationContract, graph: ExecutionGraph
) -> list[Declaration]:
    wishes: list[Declaration] = []
    for output, position in contract.inplace:
        if position >= len(node.inputs):
            continue
        operand = node.inputs[position]
        if operand is None or operand in graph.constants or node.inputs.count(operand) > 1:
            continue
        if graph.type_of(operand) == graph.type_of(node.outputs[output]):
            wishes.append(InPlace(value=node.outputs[output], operand=operand))
    return wishes


def _concat_wishes(node: OperatorNode, graph: ExecutionGraph) -> list[Declaration]:
    """Inputs of a concatenation along the slowest axis that is not 1 may be written in place."""
    output = graph.type_of(node.outputs[0])
    axis = node.attributes["axis"] % max(output.rank, 1)
    if any(d != 1 for d in output.shape[:axis]):
        return []
    wishes: list[Declaration] = []
    offset = 0
    for tensor in node.inputs:
        if tensor is None:
            return []
        type_ = graph.type_of(tensor)
        size = _part_bytes(type_, output)
        if size is None:
            return []
        once = node.inputs.count(tensor) == 1 and tensor not in graph.constants
        if once:
            wishes.append(PlacedIn(value=tensor, base=node.outputs[0], offset_bytes=offset))
        offset += size
    return wishes


def _part_bytes(part: TensorType, whole: TensorType) -> int | None:
    """Static bytes of one part of a concatenation, or None where it cannot be placed."""
    if part.layout != whole.layout or part.dtype != whole.dtype:
        return None
    if isinstance(part.layout, Blocked):
        channels = part.shape[1]
        if not isinstance(channels, int) or channels % part.layout.block:
            return None
    elif part.layout != ROW_MAJOR:
        return None
    size = storage_bytes(part)
    return size if isinstance(size, int) else None


def _state_offsets(graph: ExecutionGraph) -> dict[TensorID, int]:
    offsets: dict[TensorID, int] = {}
    total = 0
    for tensor in graph.states.values():
        offsets[tensor] = total
        total += align_up(_bound_bytes(graph, tensor))
    return offsets


def _is_written_in_place(node: OperatorNode, placed: set[Declaration]) -> bool:
    """Whether every operand of a concatenation was written into its part, so that no step is needed."""
    if node.operation not in CONCATENATIONS:
        return False
    written = {d.value for d in placed if isinstance(d, PlacedIn) and d.base == node.outputs[0]}
    return all(t in written for t in node.inputs)


class _Locator:
    """Address of any tensor as an operand."""

    def __init__(
        self,
        graph: ExecutionGraph,
        assignment: BufferAssignment,
        allocation: AllocationPlan,
        weights: WeightsPlan,
        states: Mapping[TensorID, int],
    ) -> None:
        self._graph, self._assignment, self._weights, self._states = graph, assignment, weights, states
        self._offsets = allocation.offsets

    def __call__(self, tensor: TensorID) -> Operand:
        type_ = self._graph.type_of(tensor)
        location = self._assignment.locations.get(tensor)
        base = tensor if location is None else TensorID(location.buffer)
        shift = 0 if location is None else location.offset_bytes
        if base in self._weights.offsets:
            return Operand(
                value=tensor, type=type_, space=Space.WEIGHTS, offset=self._weights.offsets[base] + shift
            )
        if base in self._states:
            return Operand(value=tensor, type=type_, space=Space.STATE, offset=self._states[base] + shift)
        return Operand(value=tensor, type=type_, space=Space.ARENA, offset=self._offsets[base] + shift)


def _step(
    node: OperatorNode, locate: _Locator, work: Work, allocation: AllocationPlan, placed: set[Declaration]
) -> PlannedStep:
    """One step. Parts of a concatenation that were written in place are dropped from its operands."""
    inputs = tuple(None if t is None else locate(t) for t in node.inputs)
    attributes = dict(node.attributes)
    if node.operation in CONCATENATIONS:
        base = node.outputs[0]
        written = {d.value for d in placed if isinstance(d, PlacedIn) and d.base == base}
        attributes["placed"] = tuple(i for i, t in enumerate(node.inputs) if t in written)
    workspace = f"{node.name}/workspace"
    return PlannedStep(
        name=node.name,
        operation=node.operation,
        inputs=inputs,
        outputs=tuple(locate(t) for t in node.outputs),
        attributes=attributes,
        workspace_offset=allocation.offsets.get(workspace, 0) if work.workspace_bytes else 0,
        workspace_bytes=work.workspace_bytes,
    )
