"""Choose a backend for every node: the first of the allowed ones that does not refuse it, or the forced one.

There is no fallback outside the allowed backends: a node that all of them refuse is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode
from plumbline.contracts.program import StepSignature
from plumbline.errors import BackendError, ValidationError
from plumbline.execution.backend import ComputeBackend
from plumbline.execution.partitioned_record import Candidate, Placement

__all__ = ["OperationUnplaced", "PlacementRefused", "select_backends", "signature_of_node"]


@dataclass(eq=False, kw_only=True)
class OperationUnplaced(BackendError):
    """No allowed backend runs an operation of the graph."""

    code = "backend.operation_unplaced"
    owner = "compiler"
    template = "node {node!r} ({operation}, from {sources}): no allowed backend runs it: {reasons}"

    node: str
    operation: str
    sources: str
    reasons: str


@dataclass(eq=False, kw_only=True)
class PlacementRefused(ValidationError):
    """A node was forced onto a backend that does not run it, or that is not allowed."""

    code = "validation.placement"
    owner = "compiler"
    template = "node {node!r} ({operation}) cannot be placed on {backend!r}: {reason}"

    node: str
    operation: str
    backend: str
    reason: str


def select_backends(
    graph: ExecutionGraph, backends: Sequence[ComputeBackend], forced: Mapping[str, str]
) -> tuple[Placement, ...]:
    """A placement for every node, in graph order.

    Args:
        graph: as imported, before passes for a target.
        backends: allowed ones, first choice first.
        forced: node -> backend; the node's own name or the name of a model-file node that it stands for.

    Raises:
        OperationUnplaced: a node that no allowed backend runs.
        PlacementRefused: a forced placement that cannot be.
    """
    _verify_forced_names(graph, forced)
    return tuple(_place(node, graph, backends, _forced(node, forced)) for node in graph.nodes)


def signature_of_node(node: OperatorNode, graph: ExecutionGraph) -> StepSignature:
    """Operand types and attributes of a node."""
    return StepSignature(
        operation=node.operation,
        inputs=tuple(None if t is None else graph.type_of(t) for t in node.inputs),
        outputs=tuple(graph.type_of(t) for t in node.outputs),
        attributes=node.attributes,
    )


def _place(
    node: OperatorNode, graph: ExecutionGraph, backends: Sequence[ComputeBackend], forced: str | None
) -> Placement:
    signature = signature_of_node(node, graph)
    candidates = tuple(
        Candidate(backend=backend.name, refusal=backend.find_refusal(signature)) for backend in backends
    )
    if forced is not None:
        _verify_forced(node, forced, candidates)
        chosen, reason = forced, "forced by the caller"
    else:
        accepted = [c.backend for c in candidates if c.refusal is None]
        if not accepted:
            raise OperationUnplaced(
                node=node.name, operation=node.operation, sources=", ".join(node.sources) or "no model node",
                reasons="; ".join(f"{c.backend}: {c.refusal}" for c in candidates) or "none is allowed",
            )  # fmt: skip
        chosen, reason = accepted[0], "first of the allowed backends that runs it"
    return Placement(
        node=node.name, operation=node.operation, backend=chosen, forced=forced is not None, reason=reason,
        candidates=candidates,
    )  # fmt: skip


def _forced(node: OperatorNode, forced: Mapping[str, str]) -> str | None:
    return next((forced[name] for name in (node.name, *node.sources) if name in forced), None)


def _verify_forced(node: OperatorNode, wanted: str, candidates: Sequence[Candidate]) -> None:
    found = next((c for c in candidates if c.backend == wanted), None)
    allowed = ", ".join(c.backend for c in candidates)
    reason = f"allowed backends are: {allowed}" if found is None else found.refusal
    if reason is not None:
        raise PlacementRefused(node=node.name, operation=node.operation, backend=wanted, reason=reason)


def _verify_forced_names(graph: ExecutionGraph, forced: Mapping[str, str]) -> None:
    known = {name for node in graph.nodes for name in (node.name, *node.sources)}
    for name in sorted(forced.keys() - known):
        reason = f"graph {graph.name!r} has no such node"
        raise PlacementRefused(node=name, operation="?", backend=forced[name], reason=reason)
