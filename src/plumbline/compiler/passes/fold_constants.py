"""Compute operators whose operands are all constant, at build, by their references.

Symbolic attributes keep an operator; so does a result that is much larger than its operands (a constant that
is expanded is cheaper to make than to store), and bfloat16, which references know as numbers only. Small
operands are computed at once, larger ones when bytes are written, after the budget has been checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plumbline.compiler.graph.constant import ArrayConstant, Constant
from plumbline.compiler.graph.derived import DerivedConstant
from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.compiler.graph.text import format_attributes
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.dims import Expr
from plumbline.contracts.tensors import DType, storage_bytes
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import get_operation

__all__ = ["fold_constants"]

GROWTH_LIMIT = 4
SMALL_ELEMENTS = 65_536
READ_LIMIT_BYTES = 4096
"""Operands of at most so many bytes may be read before the budget has been checked."""


def fold_constants(graph: ExecutionGraph, target: TargetDescription, report: PassReport) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    for node in graph.nodes:
        current = next((n for n in [editor.find_producer(node.outputs[0])] if n is not None), None)
        if current is not None and _is_foldable(editor, current):
            _fold(editor, current)
            report.note("fold_constants", "folded", node.name, f"{node.operation} of constants")
    return editor.finish()


def _is_foldable(editor: GraphEditor, node: OperatorNode) -> bool:
    if not node.inputs or any(t is not None and editor.find_constant(t) is None for t in node.inputs):
        return False
    if any(_is_symbolic(v) for v in node.attributes.values()):
        return False
    present = [t for t in (*node.inputs, *node.outputs) if t is not None]
    if any(editor.type_of(t).dtype is DType.BFLOAT16 for t in present):
        return False
    elements = [editor.type_of(t).elements for t in node.outputs]
    if not all(isinstance(e, int) for e in elements):
        return False
    made = sum(e for e in elements if isinstance(e, int))
    given = sum(e for t in node.inputs if t is not None and isinstance(e := editor.type_of(t).elements, int))
    return made <= max(SMALL_ELEMENTS, GROWTH_LIMIT * given)


def _is_symbolic(value: object) -> bool:
    if isinstance(value, tuple):
        return any(_is_symbolic(v) for v in value)
    return isinstance(value, Expr)


def _fold(editor: GraphEditor, node: OperatorNode) -> None:
    constants = [None if t is None else editor.find_constant(t) for t in node.inputs]
    given = [storage_bytes(editor.type_of(t)) for t in node.inputs if t is not None]
    is_small = all(isinstance(size, int) and size <= READ_LIMIT_BYTES for size in given)
    folded = _computed(editor, node, constants) if is_small else _derived(editor, node, constants)
    editor.remove(node)
    for tensor, constant in zip(node.outputs, folded, strict=True):
        type_ = editor.type_of(tensor)
        editor.replace_uses(tensor, editor.add_stored_constant(constant, type_, f"{tensor}/folded"))


def _computed(
    editor: GraphEditor, node: OperatorNode, constants: Sequence[Constant | None]
) -> list[Constant]:
    arrays = [None if c is None else c.read() for c in constants]
    results = get_operation(node.operation).reference(arrays, node.attributes)
    return [ArrayConstant(np.ascontiguousarray(r).reshape(np.shape(r))) for r in results]


def _derived(editor: GraphEditor, node: OperatorNode, constants: Sequence[Constant | None]) -> list[Constant]:
    sources = tuple(c for c in constants if c is not None)
    places = [position for position, c in enumerate(constants) if c is not None]
    text = f"{node.operation} of {places} {{{format_attributes(node.attributes)}}}"
    return [
        DerivedConstant(
            recipe=f"fold {text} output {index} as {editor.type_of(tensor)}",
            sources=sources,
            compute=_Output(node=node, index=index),
            size_bytes=_size_bytes(editor, tensor),
        )
        for index, tensor in enumerate(node.outputs)
    ]


def _size_bytes(editor: GraphEditor, tensor: TensorID) -> int:
    size = storage_bytes(editor.type_of(tensor))
    if not isinstance(size, int):
        raise TypeError("a constant has a static shape")
    return size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """One result of an operator, from the arrays of its present operands."""

    node: OperatorNode
    index: int

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        given = iter(arrays)
        operands = [None if t is None else next(given) for t in self.node.inputs]
        results = get_operation(self.node.operation).reference(operands, self.node.attributes)
        return np.asarray(results[self.index])
