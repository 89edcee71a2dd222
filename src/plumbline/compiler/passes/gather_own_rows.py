"""Read from each row by its own axis instead of by its number.

`gather_nd(data, concat(range(N), places))` with N rows of data reads row i of the data for row i of the
result. With `batch_dims = 1` it is the same read without the numbers, and then no row depends on where it
stands in the batch (see `compiler.rows`). Exporters write it so for `x[arange(len(x)), places]`: the last
token of a text, the chosen class of an example.
"""

from __future__ import annotations

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.dims import Dim
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["gather_own_rows"]


def gather_own_rows(graph: ExecutionGraph, target: TargetDescription, report: PassReport) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    for node in graph.nodes:
        if node.operation == "gather_nd" and editor.is_present(node):
            _rewrite(editor, node, report)
    return editor.finish()


def _rewrite(editor: GraphEditor, node: OperatorNode, report: PassReport) -> None:
    data, indices = node.inputs[:2]
    joined = editor.find_producer(indices)
    if data is None or joined is None or joined.operation != "concat" or node.attributes["batch_dims"] != 0:
        return
    shape, rows = editor.type_of(joined.outputs[0]).shape, editor.type_of(data).shape[0]
    first, *rest = joined.inputs
    if len(shape) != 2 or int(joined.attributes["axis"]) % 2 != 1 or shape[0] != rows or not rest:
        return
    if first is None or not _is_numbered(editor, first, rows):
        return
    places = rest[0]
    if len(rest) > 1:
        (places,) = editor.add_node("concat", rest, {"axis": 1}, name=joined.name, sources=joined.sources)
    editor.remove(node)
    editor.add_node(
        "gather_nd", [data, places], {"batch_dims": 1}, name=node.name, outputs=node.outputs,
        sources=node.sources,
    )  # fmt: skip
    report.note("gather_own_rows", "fused", node.name, "rows are read by their own axis, not by number")


def _is_numbered(editor: GraphEditor, tensor: TensorID, rows: Dim) -> bool:
    """Whether a column holds 0, 1, ... up to the number of rows."""
    if editor.type_of(tensor).shape != (rows, 1):
        return False
    maker = editor.find_producer(tensor)
    while maker is not None and maker.operation == "reshape":
        maker = editor.find_producer(maker.inputs[0])
    if maker is None or maker.operation != "range" or maker.inputs:
        return False
    return (maker.attributes["start"], maker.attributes["step"], maker.attributes["size"]) == (0, 1, rows)
