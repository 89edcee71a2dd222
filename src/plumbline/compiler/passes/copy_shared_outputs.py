"""Give every graph output bytes of its own.

An output that is an input, a constant, a view of another tensor or returned twice gets an `identity`
operator, so that the caller may read and overwrite outputs independently.
"""

from __future__ import annotations

from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.tensors import ROW_MAJOR
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import get_operation

__all__ = ["copy_shared_outputs"]


def copy_shared_outputs(
    graph: ExecutionGraph, target: TargetDescription, report: PassReport
) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    taken: set[TensorID] = set()
    for name, tensor in list(graph.outputs.items()):
        root = _root(editor, tensor)
        owned = editor.find_producer(root) is not None and root == tensor and root not in taken
        if owned and editor.type_of(tensor).layout == ROW_MAJOR:
            taken.add(root)
            continue
        if root != tensor and root not in taken and _is_private_view(editor, tensor, root):
            taken.add(root)
            continue
        (copy,) = editor.add_node("identity", [tensor], name=f"output/{name}")
        editor.set_output(name, copy)
        report.note("copy_shared_outputs", "partitioned", name, "the output shares bytes, so it is copied")
    return editor.finish()


def _root(editor: GraphEditor, tensor: TensorID) -> TensorID:
    """The tensor whose bytes a chain of views shows."""
    node = editor.find_producer(tensor)
    while node is not None and get_operation(node.operation).is_view and node.inputs[0] is not None:
        tensor = node.inputs[0]
        node = editor.find_producer(tensor)
    return tensor


def _is_private_view(editor: GraphEditor, tensor: TensorID, root: TensorID) -> bool:
    """Whether the root is made by an operator and is no output itself: the view may stand for it."""
    return editor.find_producer(root) is not None and root not in editor.outputs.values()
