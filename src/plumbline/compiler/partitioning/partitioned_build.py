"""Select, split, compile, record: a graph becomes a `PartitionedModel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.partitioning.parts import split_graph
from plumbline.compiler.partitioning.selection import select_backends
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.dims import upper_bound
from plumbline.contracts.tensors import TensorType, storage_bytes
from plumbline.errors import ValidationError
from plumbline.execution.backend import CompiledPart, ComputeBackend, GraphPart, describe_backend
from plumbline.execution.backend_refusals import BackendUnknown
from plumbline.execution.partitioned import PartitionedModel, PlacedPart
from plumbline.execution.partitioned_record import (
    HOST,
    BuildRecord,
    CopyKind,
    Dispatch,
    MemoryCopy,
    PartSummary,
    Placement,
)

__all__ = ["PartitionOptions", "StatefulPartition", "partition_graph"]


@dataclass(eq=False, kw_only=True)
class StatefulPartition(ValidationError):
    """A graph with persistent state is not split: its state would need a home on one backend."""

    code = "validation.stateful_partition"
    owner = "compiler"
    template = "graph {graph!r} keeps state ({states}) and cannot be split over backends"

    graph: str
    states: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionOptions:
    """What the caller decides.

    Attributes:
        forced: node -> backend that must run it.
        alternatives: names of allowed backends for which every part that they do not refuse is compiled as
            well, so that a run may dispatch it there.
    """

    forced: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()


def partition_graph(
    graph: ExecutionGraph,
    backends: Sequence[ComputeBackend],
    options: PartitionOptions | None = None,
    report: PassReport | None = None,
) -> PartitionedModel:
    """Split a graph over backends and compile every part.

    Args:
        graph: verified graph, as imported.
        backends: allowed ones, first choice first; they stay the caller's.
        options: forced placements, and alternatives for dispatch.
        report: also gets one note for each part, copy and refusal, for `--explain`.

    Raises:
        OperationUnplaced: naming a node that no allowed backend runs, with each one's reason.
        PlacementRefused: a forced placement cannot be.
        StatefulPartition: the graph keeps state.
        BackendUnknown: an alternative is not among the backends.
    """
    chosen = options or PartitionOptions()
    if graph.states:
        raise StatefulPartition(graph=graph.name, states=", ".join(graph.states))
    by_name = {backend.name: backend for backend in backends}
    for name in chosen.alternatives:
        if name not in by_name:
            raise BackendUnknown(backend=name, known=", ".join(by_name))
    placements = select_backends(graph, backends, chosen.forced)
    placed: list[PlacedPart] = []
    try:
        for part, backend in split_graph(graph, placements):
            placed.append(_compile(part, backend, by_name, chosen.alternatives))
    except BaseException:
        for done in placed:
            for compiled in done.compiled.values():
                compiled.close()
        raise
    record = _record(graph, backends, placements, placed)
    if report is not None:
        note_partition(record, report)
    return PartitionedModel(
        name=graph.name, record=record, parts=tuple(placed), backends=by_name, inputs=graph.inputs,
        outputs=graph.outputs, types={t: graph.type_of(t) for t in graph.inputs.values()},
        constants={t: graph.constants[t] for t in graph.outputs.values() if t in graph.constants},
        symbols=graph.symbols,
    )  # fmt: skip


def note_partition(record: BuildRecord, report: PassReport) -> None:
    """Write a record into a report: parts and copies as `partitioned`, rejected backends as `refused`."""
    for part in record.parts:
        made_for = ", ".join(f"{s.backend} ({s.path}, {s.target})" for s in record.specialisation[part.name])
        detail = f"{len(part.nodes)} nodes on {part.backend}; compiled for {made_for}"
        report.note("partition", "partitioned", part.name, detail)
    for copy in record.copies:
        detail = f"{copy.kind} copy of {copy.size_bytes} bytes from {copy.source} to {copy.target}"
        report.note("partition", "partitioned", copy.tensor, detail)
    for placement in record.placements:
        for candidate in placement.candidates:
            if candidate.refusal is not None:
                detail = f"{placement.operation} on {candidate.backend}: {candidate.refusal}"
                report.note("partition", "refused", placement.node, detail)


def _compile(
    part: GraphPart, backend: str, backends: Mapping[str, ComputeBackend], alternatives: Sequence[str]
) -> PlacedPart:
    compiled: dict[str, CompiledPart] = {backend: backends[backend].compile(part)}
    for name in alternatives:
        accepts = all(backends[name].find_refusal(node.signature) is None for node in part.nodes)
        if name not in compiled and accepts:
            compiled[name] = backends[name].compile(part)
    return PlacedPart(part=part, backend=backend, compiled=compiled)


def _record(
    graph: ExecutionGraph,
    backends: Sequence[ComputeBackend],
    placements: tuple[Placement, ...],
    placed: Sequence[PlacedPart],
) -> BuildRecord:
    memories = {backend.name: backend.memory for backend in backends}
    return BuildRecord(
        graph_digest=graph.digest,
        preference=tuple(backend.name for backend in backends),
        backends=tuple(describe_backend(backend) for backend in backends),
        placements=placements,
        parts=tuple(
            PartSummary(
                name=p.part.name, backend=p.backend, nodes=tuple(n.name for n in p.part.nodes),
                inputs=p.part.inputs, outputs=p.part.outputs,
            )
            for p in placed
        ),
        copies=plan_copies(graph, placed, memories),
        specialisation={p.part.name: p.specialisations for p in placed},
        dispatch=tuple(
            Dispatch(
                part=p.part.name, backend=p.backend, candidates=tuple(p.compiled),
                reason="placed there by the build",
            )
            for p in placed
        ),
    )  # fmt: skip


def plan_copies(
    graph: ExecutionGraph, placed: Sequence[PlacedPart], memories: Mapping[str, str]
) -> tuple[MemoryCopy, ...]:
    """Every copy that a run with the built dispatch makes, in order, with sizes at the bounds."""
    where: dict[str, list[str]] = {t: [HOST] for t in (*graph.inputs.values(), *graph.constants)}
    copies: list[MemoryCopy] = []

    def bring(tensor: str, memory: str, kind: CopyKind, type_: TensorType) -> None:
        """Into the host first where it is not there yet, then into the memory that wants it."""
        held = where[tensor]
        size_bytes = upper_bound(storage_bytes(type_), graph.symbols)
        for target in (HOST, memory):
            if memory not in held and target not in held:
                source = HOST if target != HOST else held[0]
                copies.append(
                    MemoryCopy(tensor=tensor, source=source, target=target, size_bytes=size_bytes, kind=kind)
                )
                held.append(target)

    given = set(graph.inputs.values())
    for p in placed:
        for tensor in p.part.inputs:
            kind = CopyKind.INPUT if tensor in given else CopyKind.BOUNDARY
            bring(tensor, memories[p.backend], kind, p.part.types[tensor])
        for tensor in p.part.outputs:
            where[tensor] = [memories[p.backend]]
    for output in graph.outputs.values():
        bring(output, HOST, CopyKind.OUTPUT, graph.type_of(output))
    return tuple(copies)
