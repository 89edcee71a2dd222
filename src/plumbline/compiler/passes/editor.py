"""`GraphEditor`: a working copy of a graph for one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from plumbline.compiler.graph.builder import sort_nodes
from plumbline.compiler.graph.constant import ArrayConstant, Constant
from plumbline.compiler.graph.graph import (
    ExecutionGraph,
    OperatorNode,
    TensorEdge,
    TensorID,
    freeze_attributes,
)
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference
from plumbline.kernels.registry import get_operation

__all__ = ["GraphEditor"]


class GraphEditor:
    """Mutable view of a graph: look around, replace nodes, then `finish` into a new graph."""

    def __init__(self, graph: ExecutionGraph) -> None:
        self._graph = graph
        self._nodes: dict[str, OperatorNode] = {node.name: node for node in graph.nodes}
        self._tensors: dict[TensorID, TensorEdge] = dict(graph.tensors)
        self._constants: dict[TensorID, Constant] = dict(graph.constants)
        self._outputs: dict[str, TensorID] = dict(graph.outputs)
        self._producer: dict[TensorID, str] = {t: n.name for n in graph.nodes for t in n.outputs}
        self._readers: dict[TensorID, dict[str, None]] = {}
        for node in graph.nodes:
            self._link(node)
        self._changed = False

    # -- questions -------------------------------------------------------------------------------------------

    @property
    def symbols(self) -> Mapping[str, int]:
        """Bounds of the symbols."""
        return self._graph.symbols

    @property
    def outputs(self) -> Mapping[str, TensorID]:
        """Graph outputs by name."""
        return self._outputs

    @property
    def sources(self) -> frozenset[TensorID]:
        """Inputs and states of the graph."""
        return frozenset((*self._graph.inputs.values(), *self._graph.states.values()))

    def nodes(self) -> list[OperatorNode]:
        """A snapshot of the nodes, in the order in which they stand."""
        return list(self._nodes.values())

    def is_present(self, node: OperatorNode) -> bool:
        """Whether a node from a snapshot still stands unchanged."""
        return self._nodes.get(node.name) is node

    def type_of(self, tensor: TensorID) -> TensorType:
        """Type of a tensor."""
        return self._tensors[tensor].type

    def find_producer(self, tensor: TensorID | None) -> OperatorNode | None:
        """The node that makes a tensor, or None for sources and constants."""
        return None if tensor is None or tensor not in self._producer else self._nodes[self._producer[tensor]]

    def readers(self, tensor: TensorID) -> list[OperatorNode]:
        """The nodes that read a tensor."""
        return [self._nodes[name] for name in self._readers.get(tensor, ())]

    def find_only_reader(self, tensor: TensorID) -> OperatorNode | None:
        """The single node that reads a tensor which is no graph output, else None."""
        readers = self._readers.get(tensor, {})
        if len(readers) != 1 or tensor in self._outputs.values():
            return None
        return self._nodes[next(iter(readers))]

    def find_constant(self, tensor: TensorID | None) -> Constant | None:
        """The constant behind a tensor, or None."""
        return None if tensor is None else self._constants.get(tensor)

    def find_scalar(self, tensor: TensorID | None) -> float | None:
        """The number of a constant with one element, or None."""
        constant = self.find_constant(tensor)
        if constant is None or tensor is None or self.type_of(tensor).elements != 1:
            return None
        return float(constant.read().reshape(-1)[0])

    # -- changes ---------------------------------------------------------------------------------------------

    def add_constant(self, array: np.ndarray, name: str) -> TensorID:
        """A new constant from an array."""
        dense = np.ascontiguousarray(array).reshape(np.shape(array))
        return self.add_stored_constant(ArrayConstant(dense), TensorType(DType.of(dense), dense.shape), name)

    def add_stored_constant(self, constant: Constant, type_: TensorType, name: str) -> TensorID:
        """A new constant of any kind."""
        tensor = self._define(name, type_)
        self._constants[tensor] = constant
        return tensor

    def add_node(
        self,
        operation: str,
        inputs: Sequence[TensorID | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        name: str,
        sources: Iterable[str] = (),
        outputs: Sequence[TensorID] | None = None,
        layouts: Sequence[Any] | None = None,
    ) -> tuple[TensorID, ...]:
        """A new node; results are new tensors, or the given ids whose old producer was removed.

        Raises:
            ValidationError: a leaf of the operation's shape rule.
        """
        frozen = freeze_attributes(attributes or {})
        types = tuple(None if t is None else self.type_of(t) for t in inputs)
        inferred = get_operation(operation).infer(
            Inference(operation=operation, inputs=types, attributes=frozen)
        )
        if layouts is not None:
            inferred = tuple(t.with_layout(k) for t, k in zip(inferred, layouts, strict=True))
        results = tuple(
            self._redefine(outputs[i], t) if outputs else self._define(name, t)
            for i, t in enumerate(inferred)
        )
        node = OperatorNode(
            name=self._unique(name), operation=operation, inputs=tuple(inputs), outputs=results,
            attributes=frozen, sources=tuple(dict.fromkeys(sources)),
        )  # fmt: skip
        self._nodes[node.name] = node
        self._producer.update(dict.fromkeys(results, node.name))
        self._link(node)
        self._changed = True
        return results

    def remove(self, node: OperatorNode) -> None:
        """Remove a node; its results must be re-made or unread when the pass ends."""
        del self._nodes[node.name]
        for tensor in node.inputs:
            if tensor is not None:
                self._readers.get(tensor, {}).pop(node.name, None)
        for tensor in node.outputs:
            if self._producer.get(tensor) == node.name:
                del self._producer[tensor]
        self._changed = True

    def replace_uses(self, old: TensorID, new: TensorID) -> None:
        """Let every reader of `old` (graph outputs too) read `new`."""
        for node in self.readers(old):
            self.rewire(node, tuple(new if t == old else t for t in node.inputs))
        for name, tensor in self._outputs.items():
            if tensor == old:
                self._outputs[name] = new
        self._changed = True

    def rewire(self, node: OperatorNode, inputs: tuple[TensorID | None, ...]) -> OperatorNode:
        """Give a node other operands of the same types."""
        changed = replace(node, inputs=inputs)
        for tensor in node.inputs:
            if tensor is not None:
                self._readers.get(tensor, {}).pop(node.name, None)
        self._nodes[node.name] = changed
        self._link(changed)
        self._changed = True
        return changed

    def set_output(self, name: str, tensor: TensorID) -> None:
        """Let a graph output be another tensor."""
        self._outputs[name] = tensor
        self._changed = True

    def set_type(self, tensor: TensorID, type_: TensorType) -> None:
        """Give a tensor another layout."""
        self._tensors[tensor] = TensorEdge(id=tensor, type=type_)
        self._changed = True

    def finish(self) -> ExecutionGraph:
        """The new graph without dead nodes, in canonical order; the old one where nothing changed."""
        if not self._changed:
            return self._graph
        live = self._live()
        used = {t for node in live for t in (*node.inputs, *node.outputs) if t is not None}
        used |= {*self._outputs.values(), *self.sources}
        return replace(
            self._graph,
            nodes=sort_nodes(live),
            tensors={t: e for t, e in self._tensors.items() if t in used},
            constants={t: c for t, c in self._constants.items() if t in used},
            outputs=self._outputs,
        )

    # -- inside ----------------------------------------------------------------------------------------------

    def _live(self) -> list[OperatorNode]:
        live: dict[str, OperatorNode] = {}
        stack = [n for t in self._outputs.values() if (n := self.find_producer(t)) is not None]
        while stack:
            node = stack.pop()
            if node.name not in live:
                live[node.name] = node
                stack += [p for t in node.inputs if (p := self.find_producer(t)) is not None]
        return [node for node in self._nodes.values() if node.name in live]

    def _link(self, node: OperatorNode) -> None:
        for tensor in node.inputs:
            if tensor is not None:
                self._readers.setdefault(tensor, {})[node.name] = None

    def _define(self, name: str, type_: TensorType) -> TensorID:
        tensor, number = TensorID(name), 1
        while tensor in self._tensors:
            number += 1
            tensor = TensorID(f"{name}.{number}")
        return self._redefine(tensor, type_)

    def _redefine(self, tensor: TensorID, type_: TensorType) -> TensorID:
        self._tensors[tensor] = TensorEdge(id=tensor, type=type_)
        return tensor

    def _unique(self, name: str) -> str:
        unique, number = name, 1
        while unique in self._nodes:
            number += 1
            unique = f"{name}.{number}"
        return unique
