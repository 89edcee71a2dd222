"""`GraphBuilder`: append operators, get typed tensors back, and never compute a shape twice.

The builder infers types as operators are added, follows the values of small integer tensors symbolically
(`Shape -> Gather -> Concat -> Reshape` becomes arithmetic on dimensions), and folds operators whose inputs
are all known. A symbolic value that is consumed as data is written by a `symbolic_value` operator.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.compiler.graph.constant import ArrayConstant, Constant
from plumbline.compiler.graph.graph import (
    ExecutionGraph,
    OperatorNode,
    TensorEdge,
    TensorID,
    freeze_attributes,
)
from plumbline.compiler.graph.values import MAX_TRACKED_ELEMENTS, evaluate_symbolically
from plumbline.compiler.graph.verify import verify
from plumbline.contracts.dims import Dim, Expr
from plumbline.contracts.tensors import DType, TensorType
from plumbline.errors import ArtifactError
from plumbline.kernels.contract import Inference
from plumbline.kernels.registry import get_operation

__all__ = ["CyclicGraph", "GraphBuilder", "sort_nodes"]


@dataclass(eq=False, kw_only=True)
class CyclicGraph(ArtifactError):
    """Operators depend on each other in a circle."""

    code = "artifact.cyclic_graph"
    owner = "compiler"
    template = "the graph has a cycle through {nodes}"

    nodes: str


class GraphBuilder:
    """Mutable maker of one `ExecutionGraph`."""

    def __init__(self, name: str, symbols: Mapping[str, int] | None = None) -> None:
        self.name = name
        self._symbols = dict(symbols or {})
        self._nodes: list[OperatorNode] = []
        self._tensors: dict[TensorID, TensorEdge] = {}
        self._constants: dict[TensorID, Constant] = {}
        self._values: dict[TensorID, np.ndarray] = {}
        self._pending: dict[TensorID, np.ndarray] = {}
        self._inputs: dict[str, TensorID] = {}
        self._outputs: dict[str, TensorID] = {}
        self._states: dict[str, TensorID] = {}
        self._names: set[str] = set()
        self._notes: list[tuple[str, str]] = []
        self._current_source: tuple[str, ...] = ()

    # -- sources ---------------------------------------------------------------------------------------------

    @property
    def symbols(self) -> Mapping[str, int]:
        """Upper bound of every declared symbol."""
        return self._symbols

    def symbol(self, name: str, bound: int) -> None:
        """Declare a symbol and its upper bound."""
        self._symbols[name] = bound

    def input(self, name: str, type_: TensorType) -> TensorID:
        """A tensor that the caller gives on every run."""
        tensor = self._define(name, type_)
        self._inputs[name] = tensor
        return tensor

    def state(self, name: str, type_: TensorType) -> TensorID:
        """A tensor that persists between runs."""
        tensor = self._define(name, type_)
        self._states[name] = tensor
        return tensor

    def constant(self, array: np.ndarray, name: str = "constant") -> TensorID:
        """A constant from an array in memory."""
        dense = np.ascontiguousarray(array).reshape(np.shape(array))
        return self.stored_constant(ArrayConstant(dense), TensorType(DType.of(dense), dense.shape), name)

    def stored_constant(self, constant: Constant, type_: TensorType, name: str) -> TensorID:
        """A constant whose bytes may stay unread."""
        tensor = self._define(name, type_)
        self._constants[tensor] = constant
        elements = type_.elements
        small = isinstance(elements, int) and elements <= MAX_TRACKED_ELEMENTS
        if isinstance(constant, ArrayConstant) and small and not type_.dtype.is_float:
            self._values[tensor] = constant.array.astype(object)
        return tensor

    # -- operators -------------------------------------------------------------------------------------------

    def source(self, *names: str) -> None:
        """Name the model-file nodes that the operators added from now on stand for."""
        self._current_source = names

    def add(
        self,
        operation: str,
        inputs: Sequence[TensorID | None],
        attributes: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> tuple[TensorID, ...]:
        """Append an operator and return its results.

        Args:
            operation: registered operation.
            inputs: operands; None for an absent optional one.
            attributes: its attributes.
            name: wish for the name of the first result; made unique.

        Raises:
            ValidationError: a leaf of the operation's shape rule.
        """
        contract = get_operation(operation)
        frozen = freeze_attributes(attributes or {})
        types = tuple(None if t is None else self._tensors[t].type for t in inputs)
        outputs = contract.infer(Inference(operation=operation, inputs=types, attributes=frozen))
        folded = self._fold(operation, inputs, frozen, outputs, name or operation)
        if folded is not None:
            return folded
        operands = tuple(None if t is None else self._materialise(t) for t in inputs)
        results = tuple(self._define(name or operation, type_) for type_ in outputs)
        self._nodes.append(
            OperatorNode(
                name=self._unique_node(results[0] if results else operation), operation=operation,
                inputs=operands, outputs=results, attributes=frozen, sources=self._current_source,
            )
        )  # fmt: skip
        return results

    def add1(
        self,
        operation: str,
        inputs: Sequence[TensorID | None],
        attributes: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> TensorID:
        """`add` for an operation with exactly one result."""
        (result,) = self.add(operation, inputs, attributes, name)
        return result

    def symbolic(self, values: Sequence[Dim] | Dim, name: str = "dims") -> TensorID:
        """An int64 tensor of known dimensions (a scalar for a single `Dim`)."""
        array = np.array(values, dtype=object)
        return self._known(array, TensorType(DType.INT64, array.shape), name)

    def output(self, name: str, tensor: TensorID) -> None:
        """Return a tensor to the caller."""
        self._outputs[name] = self._materialise(tensor)

    # -- questions -------------------------------------------------------------------------------------------

    def type_of(self, tensor: TensorID) -> TensorType:
        """Type of a tensor."""
        return self._tensors[tensor].type

    def find_value(self, tensor: TensorID) -> np.ndarray | None:
        """What is known of an integer or bool tensor at build: an object array of `Dim`, or None."""
        return self._values.get(tensor)

    def find_constant(self, tensor: TensorID) -> np.ndarray | None:
        """The numbers of a constant tensor of any type, read where they lie; None if it is not constant."""
        constant = self._constants.get(tensor)
        if constant is not None:
            return constant.read()
        value = self._values.get(tensor)
        if value is None or any(isinstance(v, Expr) for v in value.ravel()):
            return None
        return value.astype(self.type_of(tensor).dtype.numpy)

    def note(self, subject: str, detail: str) -> None:
        """Remember something that whoever asks about the model should know; it changes nothing."""
        self._notes.append((subject, detail))

    def build(self) -> ExecutionGraph:
        """The finished graph: unused operators removed, nodes in canonical order, verified."""
        nodes = sort_nodes(_live_nodes(self._nodes, set(self._outputs.values())))
        used = {t for node in nodes for t in (*node.inputs, *node.outputs) if t is not None}
        used |= {*self._outputs.values(), *self._inputs.values(), *self._states.values()}
        graph = ExecutionGraph(
            name=self.name,
            symbols=self._symbols,
            nodes=nodes,
            tensors={t: e for t, e in self._tensors.items() if t in used},
            constants={t: c for t, c in self._constants.items() if t in used},
            inputs=self._inputs,
            outputs=self._outputs,
            states=self._states,
            notes=tuple(self._notes),
        )
        verify(graph)
        return graph

    # -- inside ----------------------------------------------------------------------------------------------

    def _fold(
        self,
        operation: str,
        inputs: Sequence[TensorID | None],
        attributes: Mapping[str, Any],
        outputs: tuple[TensorType, ...],
        name: str,
    ) -> tuple[TensorID, ...] | None:
        known = [None if t is None else self._values.get(t) for t in inputs]
        if all(k is not None for k, t in zip(known, inputs, strict=True) if t is not None):
            values = evaluate_symbolically(operation, known, attributes, outputs)
            if values is not None:
                return tuple(self._known(v, t, name) for v, t in zip(values, outputs, strict=True))
        return self._fold_numbers(operation, inputs, attributes, outputs, name)

    def _fold_numbers(
        self,
        operation: str,
        inputs: Sequence[TensorID | None],
        attributes: Mapping[str, Any],
        outputs: tuple[TensorType, ...],
        name: str,
    ) -> tuple[TensorID, ...] | None:
        """Compute a small operator on constants now; large ones are left to the folding pass."""
        sizes = [t.elements for t in outputs]
        if not outputs or not all(isinstance(s, int) and s <= MAX_TRACKED_ELEMENTS for s in sizes):
            return None
        operands = [self._tensors[t].type for t in inputs if t is not None]
        if any(t.dtype is DType.BFLOAT16 for t in (*operands, *outputs)):
            return None  # references see bfloat16 as uint16
        arrays: list[np.ndarray | None] = []
        for tensor in inputs:
            array = None if tensor is None else self._small_constant(tensor)
            if tensor is not None and array is None:
                return None
            arrays.append(array)
        results = get_operation(operation).reference(arrays, attributes)
        return tuple(self.constant(np.asarray(r), name) for r in results)

    def _small_constant(self, tensor: TensorID) -> np.ndarray | None:
        elements = self._tensors[tensor].type.elements
        if not isinstance(elements, int) or elements > MAX_TRACKED_ELEMENTS:
            return None
        constant = self._constants.get(tensor)
        if constant is None or isinstance(constant, ArrayConstant):
            return self.find_constant(tensor)
        return constant.read()

    def _known(self, value: np.ndarray, type_: TensorType, name: str) -> TensorID:
        if not any(isinstance(v, Expr) for v in value.ravel()):
            return self.constant(value.astype(type_.dtype.numpy), name)
        tensor = self._define(name, type_)
        self._values[tensor] = value
        self._pending[tensor] = value
        return tensor

    def _materialise(self, tensor: TensorID) -> TensorID:
        """Give a symbolic value an operator that writes it, the first time it is needed as data."""
        value = self._pending.pop(tensor, None)
        if value is None:
            return tensor
        type_ = self._tensors[tensor].type
        attributes = {"values": tuple(value.ravel()), "shape": value.shape, "dtype": type_.dtype}
        self._nodes.append(
            OperatorNode(
                name=self._unique_node(tensor), operation="symbolic_value", inputs=(), outputs=(tensor,),
                attributes=freeze_attributes(attributes), sources=self._current_source,
            )
        )  # fmt: skip
        return tensor

    def _define(self, name: str, type_: TensorType) -> TensorID:
        tensor = TensorID(name)
        number = 1
        while tensor in self._tensors:
            number += 1
            tensor = TensorID(f"{name}.{number}")
        self._tensors[tensor] = TensorEdge(id=tensor, type=type_)
        return tensor

    def _unique_node(self, name: str) -> str:
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}.{number}"
        self._names.add(unique)
        return unique


def _live_nodes(nodes: Sequence[OperatorNode], wanted: set[TensorID]) -> list[OperatorNode]:
    needed = set(wanted)
    producers = {t: node for node in nodes for t in node.outputs}
    stack = [producers[t] for t in needed if t in producers]
    live: set[str] = set()
    while stack:
        node = stack.pop()
        if node.name in live:
            continue
        live.add(node.name)
        stack += [producers[t] for t in node.inputs if t is not None and t in producers]
    return [node for node in nodes if node.name in live]


def sort_nodes(nodes: Sequence[OperatorNode]) -> tuple[OperatorNode, ...]:
    """A topological order that depends on names only, never on the order of insertion.

    Kahn's algorithm with a heap, O(n log n); ties go to the smaller name, numbers compared as numbers.

    Raises:
        CyclicGraph: naming operators of the circle.
    """
    by_name = {node.name: node for node in nodes}
    producers = {t: node.name for node in nodes for t in node.outputs}
    waiting: dict[str, int] = {}
    followers: dict[str, list[str]] = {}
    for node in nodes:
        needs = {producers[t] for t in node.inputs if t is not None and t in producers}
        waiting[node.name] = len(needs)
        for producer in needs:
            followers.setdefault(producer, []).append(node.name)
    ready = [(_natural(name), name) for name, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order: list[OperatorNode] = []
    while ready:
        _, name = heapq.heappop(ready)
        order.append(by_name[name])
        for follower in followers.get(name, ()):
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, (_natural(follower), follower))
    if len(order) != len(nodes):
        stuck = sorted(name for name, count in waiting.items() if count > 0)
        raise CyclicGraph(nodes=", ".join(stuck[:5]))
    return tuple(order)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p)
