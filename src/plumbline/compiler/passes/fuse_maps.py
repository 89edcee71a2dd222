"""Join pointwise operators into one loop.

A pointwise operator whose only reader is pointwise, with a result of the same shape, is computed inside its
reader.
"""

from __future__ import annotations

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.programs import is_map, join_map, map_program
from plumbline.compiler.passes.report import PassReport
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["fuse_maps"]

MAX_INSTRUCTIONS = 32
MAX_OPERANDS = 8


def fuse_maps(graph: ExecutionGraph, target: TargetDescription, report: PassReport) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    for node in graph.nodes:
        current = editor.find_producer(node.outputs[0])
        while current is not None and is_map(current):
            current = _fuse_into_reader(editor, current, report)
    return editor.finish()


def _fuse_into_reader(editor: GraphEditor, node: OperatorNode, report: PassReport) -> OperatorNode | None:
    """The joined node, or None where the reader does not allow it."""
    tensor = node.outputs[0]
    reader = editor.find_only_reader(tensor)
    if reader is None or not is_map(reader) or not _is_same_walk(editor, node, reader):
        return None
    joined = join_map(editor, map_program(node), node.inputs, reader, tensor)
    if joined is None:
        return None
    program, operands = joined
    if len(program) > MAX_INSTRUCTIONS or len(operands) > MAX_OPERANDS:
        return None
    operation = "map_blocked" if reader.operation == "map_blocked" else "fused_map"
    result = reader.outputs[0]
    layout = editor.type_of(result).layout
    editor.remove(node)
    editor.remove(reader)
    editor.add_node(
        operation, operands, {"program": program}, name=reader.name, outputs=[result], layouts=[layout],
        sources=(*node.sources, *reader.sources),
    )  # fmt: skip
    report.note("fuse_maps", "fused", reader.name, f"{node.name} is computed inside {reader.name}")
    return editor.find_producer(result)


def _is_same_walk(editor: GraphEditor, node: OperatorNode, reader: OperatorNode) -> bool:
    """Both are of one layout and the result of the first has the shape of the result of the second."""
    mine, theirs = editor.type_of(node.outputs[0]), editor.type_of(reader.outputs[0])
    blocked = (node.operation == "map_blocked", reader.operation == "map_blocked")
    return mine.shape == theirs.shape and blocked[0] == blocked[1]
