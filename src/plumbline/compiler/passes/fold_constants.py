"""Compute operators whose operands are all constant, at build, by their references.

Symbolic attributes keep an operator; so does a result that is much larger than its operands (a constant that
is expanded is cheaper to make than to store).
"""

from __future__ import annotations

import numpy as np

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.dims import Expr
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import get_operation

__all__ = ["fold_constants"]

GROWTH_LIMIT = 4
SMALL_ELEMENTS = 65_536


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
    arrays = [None if c is None else c.read() for c in constants]
    results = get_operation(node.operation).reference(arrays, node.attributes)
    editor.remove(node)
    for tensor, result in zip(node.outputs, results, strict=True):
        folded = editor.add_constant(np.asarray(result), f"{tensor}/folded")
        editor.replace_uses(tensor, folded)
