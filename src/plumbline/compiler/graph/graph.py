"""`ExecutionGraph`: an immutable DAG of operators over typed tensors (requirements L2-11..L2-15)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NewType

from plumbline.compiler.graph.constant import Constant
from plumbline.contracts.tensors import TensorType

__all__ = ["ExecutionGraph", "OperatorNode", "TensorEdge", "TensorID", "freeze_attributes"]

TensorID = NewType("TensorID", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEdge:
    """A value of the graph."""

    id: TensorID
    type: TensorType


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorNode:
    """One operator: its operation, operands, results and attributes. Absent optional inputs are None.

    `sources` names the nodes of the model file that this node stands for (empty for made-up ones).
    """

    name: str
    operation: str
    inputs: tuple[TensorID | None, ...]
    outputs: tuple[TensorID, ...]
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExecutionGraph:
    """Nodes in topological order over tensors, with named inputs and outputs.

    Attributes:
        name: for people.
        symbols: name -> upper bound of each symbolic dimension.
        nodes: every operator, after its producers.
        tensors: type of every tensor by id.
        constants: tensors with fixed bytes.
        inputs: caller's name -> tensor.
        outputs: caller's name -> tensor.
        states: caller's name -> tensor that persists between runs.
        budget_bytes: the most memory the caller allows, or None.
        notes: subject and detail of what was odd when it was read; told by `plumb compile --explain`.
    """

    name: str
    symbols: Mapping[str, int]
    nodes: tuple[OperatorNode, ...]
    tensors: Mapping[TensorID, TensorEdge]
    constants: Mapping[TensorID, Constant]
    inputs: Mapping[str, TensorID]
    outputs: Mapping[str, TensorID]
    states: Mapping[str, TensorID] = field(default_factory=lambda: MappingProxyType({}))
    budget_bytes: int | None = None
    notes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("symbols", "tensors", "constants", "inputs", "outputs", "states"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def operators(self) -> tuple[OperatorNode, ...]:
        """All operators, in topological order."""
        return self.nodes

    def topological_order(self) -> tuple[int, ...]:
        """Positions of `operators()` in an order where producers come first."""
        return tuple(range(len(self.nodes)))

    def memory_budget(self) -> int | None:
        """The most bytes the caller allows, or None."""
        return self.budget_bytes

    def type_of(self, tensor: TensorID) -> TensorType:
        """Type of a tensor."""
        return self.tensors[tensor].type

    @cached_property
    def producers(self) -> Mapping[TensorID, OperatorNode]:
        """The node that makes each tensor (inputs, constants and states have none)."""
        return MappingProxyType({t: node for node in self.nodes for t in node.outputs})

    @cached_property
    def consumers(self) -> Mapping[TensorID, tuple[OperatorNode, ...]]:
        """The nodes that read each tensor, in order, once each."""
        found: dict[TensorID, list[OperatorNode]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(t for t in node.inputs if t is not None):
                found.setdefault(tensor, []).append(node)
        return MappingProxyType({t: tuple(nodes) for t, nodes in found.items()})

    @cached_property
    def digest(self) -> str:
        """Content hash: operators, types, symbols and the identity of every constant."""
        from plumbline.compiler.graph.text import format_graph

        return "sha256:" + hashlib.sha256(format_graph(self).encode()).hexdigest()


def freeze_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attributes as an immutable mapping, lists as tuples, in name order."""
    return MappingProxyType({name: _frozen(attributes[name]) for name in sorted(attributes)})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value
