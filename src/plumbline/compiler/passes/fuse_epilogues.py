"""Compute pointwise operators at the end of the structured operator that feeds them, in registers.

Of several structured operands the one made last takes the program; the others are read as operands.
"""

from __future__ import annotations

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.programs import EPILOGUE_OPERANDS, is_map, join_map
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.tensors import ROW_MAJOR, DType
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["fuse_epilogues"]

MAX_OPERANDS = 6


def fuse_epilogues(graph: ExecutionGraph, target: TargetDescription, report: PassReport) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    position = {t: i for i, node in enumerate(graph.nodes) for t in node.outputs}
    for node in graph.nodes:
        reader = editor.find_producer(node.outputs[0])
        if reader is None or not is_map(reader):
            continue
        operands = sorted({t for t in reader.inputs if t is not None}, key=lambda t: -position.get(t, -1))
        for tensor in operands:
            if _fuse(editor, tensor, reader, report):
                break
    return editor.finish()


def _fuse(editor: GraphEditor, tensor: TensorID, reader: OperatorNode, report: PassReport) -> bool:
    producer = editor.find_producer(tensor)
    if producer is None or producer.operation not in EPILOGUE_OPERANDS:
        return False
    if editor.find_only_reader(tensor) is not reader:
        return False
    fixed = EPILOGUE_OPERANDS[producer.operation]
    before = tuple(producer.attributes.get("epilogue", ()))
    extra = producer.inputs[fixed:]
    joined = join_map(editor, before, (tensor, *extra), reader, tensor)
    if joined is None:
        return False
    program, operands = joined
    if len(operands) > MAX_OPERANDS or not all(_is_readable(editor, t, reader) for t in operands[1:]):
        return False
    result = reader.outputs[0]
    made, wanted = editor.type_of(tensor), editor.type_of(result)
    if (
        made.shape != wanted.shape
        or wanted.dtype is not DType.FLOAT32
        or (made.layout == ROW_MAJOR) != (wanted.layout == ROW_MAJOR)
    ):
        return False
    editor.remove(producer)
    editor.remove(reader)
    editor.add_node(
        producer.operation, (*producer.inputs[:fixed], *operands[1:]),
        {**producer.attributes, "epilogue": program}, name=producer.name, outputs=[result],
        layouts=[wanted.layout], sources=(*producer.sources, *reader.sources),
    )  # fmt: skip
    report.note("fuse_epilogues", "fused", producer.name, f"{reader.name} is computed at its end")
    return True


def _is_readable(editor: GraphEditor, operand: TensorID | None, reader: OperatorNode) -> bool:
    """A float32 tensor like the result, or a constant vector along its columns, or a constant number."""
    if operand is None:
        return False
    type_, result = editor.type_of(operand), editor.type_of(reader.outputs[0])
    if type_.dtype is not DType.FLOAT32:
        return False
    if type_.shape == result.shape and (type_.layout == ROW_MAJOR) == (result.layout == ROW_MAJOR):
        return True
    if editor.find_constant(operand) is None:
        return False
    if type_.elements == 1:
        return True
    column = result.shape[-1] if result.layout == ROW_MAJOR else result.shape[1]
    if result.layout == ROW_MAJOR:
        return type_.elements == column and type_.shape[-1] == column
    return type_.elements == column and type_.rank == 1
