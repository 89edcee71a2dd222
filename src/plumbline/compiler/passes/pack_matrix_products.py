"""Give float32 matrix products with constant right operands their packed form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plumbline.compiler.graph.constant import Constant
from plumbline.compiler.graph.derived import DerivedConstant
from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.dims import product
from plumbline.contracts.tensors import ROW_MAJOR, DType, TensorType
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.gemm.kernel import choose_vectors
from plumbline.kernels.gemm.packing import PanelLayout, pack_gemm

__all__ = ["add_packed_weights", "pack_matrix_products"]


def pack_matrix_products(
    graph: ExecutionGraph, target: TargetDescription, report: PassReport
) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    for node in graph.nodes:
        done = False
        if node.operation == "matmul":
            done = _pack_matmul(editor, node, target)
        elif node.operation == "gemm":
            done = _pack_gemm(editor, node, target)
        if done:
            report.note("pack_matrix_products", "packed", node.name, "weights are stored in reading order")
    return editor.finish()


def add_packed_weights(
    editor: GraphEditor, weights: TensorID, rows: object, target: TargetDescription, *, transpose: bool,
    scale: float = 1.0,
) -> TensorID:  # fmt: skip
    """A constant with the packed stream of a constant [K, N] (or [N, K]) matrix, made when it is written."""
    constant = _constant(editor, weights)
    shape = editor.type_of(weights).shape
    k, n = (int(str(d)) for d in (reversed(shape) if transpose else shape))
    layout = PanelLayout(k=k, n=n, vectors=choose_vectors(rows, n, target), lanes=target.float_lanes)  # type: ignore[arg-type]

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        matrix = np.asarray(arrays[0], np.float32)
        matrix = matrix.T if transpose else matrix
        return pack_gemm(matrix * np.float32(scale) if scale != 1.0 else matrix, layout)

    packed = DerivedConstant(
        recipe=f"pack_gemm {layout} transpose={transpose} scale={scale.hex()}", sources=(constant,),
        compute=compute, size_bytes=4 * layout.elements,
    )  # fmt: skip
    type_ = TensorType(DType.FLOAT32, (k, n), layout.packed)
    return editor.add_stored_constant(packed, type_, f"{weights}/packed")


def _constant(editor: GraphEditor, tensor: TensorID) -> Constant:
    constant = editor.find_constant(tensor)
    if constant is None:
        raise TypeError(f"{tensor} is not constant")
    return constant


def _is_matrix(editor: GraphEditor, tensor: TensorID | None) -> bool:
    if tensor is None or editor.find_constant(tensor) is None:
        return False
    type_ = editor.type_of(tensor)
    plain = type_.rank == 2 and type_.dtype is DType.FLOAT32 and type_.layout == ROW_MAJOR
    return plain and all(isinstance(d, int) and d > 0 for d in type_.shape)


def _pack_matmul(editor: GraphEditor, node: OperatorNode, target: TargetDescription) -> bool:
    a, w = node.inputs
    if a is None or not _is_matrix(editor, w) or w is None or editor.type_of(a).rank < 2:
        return False
    rows = product(editor.type_of(a).shape[:-1])
    packed = add_packed_weights(editor, w, rows, target, transpose=False)
    _replace(editor, node, [a, packed], {})
    return True


def _pack_gemm(editor: GraphEditor, node: OperatorNode, target: TargetDescription) -> bool:
    a, w = node.inputs[0], node.inputs[1]
    c = node.inputs[2] if len(node.inputs) > 2 else None
    attributes = node.attributes
    alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    if a is None or w is None or not _is_matrix(editor, w) or attributes.get("transpose_a", False):
        return False
    transpose = bool(attributes.get("transpose_b", False))
    n = editor.type_of(node.outputs[0]).shape[1]
    if c is not None and not (beta == 1.0 and _is_row(editor, c, n)):
        return False
    packed = add_packed_weights(
        editor, w, editor.type_of(a).shape[0], target, transpose=transpose, scale=alpha
    )
    if c is None:
        _replace(editor, node, [a, packed], {})
    else:
        _replace(editor, node, [a, packed, c], {"epilogue": (("add", (0, 1), ()),)})
    return True


def _is_row(editor: GraphEditor, tensor: TensorID, n: object) -> bool:
    type_ = editor.type_of(tensor)
    if editor.find_constant(tensor) is None or type_.dtype is not DType.FLOAT32:
        return False
    return type_.elements == 1 or (type_.elements == n and type_.shape[-1] == n)


def _replace(
    editor: GraphEditor, node: OperatorNode, inputs: list[TensorID | None], attributes: dict[str, object]
) -> None:
    editor.remove(node)
    editor.add_node(
        "packed_gemm", inputs, attributes, name=node.name, outputs=node.outputs, sources=node.sources
    )
