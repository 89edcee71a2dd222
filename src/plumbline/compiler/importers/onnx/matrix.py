"""Converters of matrix operators."""

from __future__ import annotations

from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts

__all__: list[str] = []


@converts("MatMul")
def matmul(node: NodeView) -> Converted:
    """numpy's batched product."""
    return node.add1("matmul", [node.input(0), node.input(1)])


@converts("Gemm")
def gemm(node: NodeView) -> Converted:
    """alpha * A' B' + beta * C; the broadcast that old opsets state follows from shapes."""
    attributes = {
        "transpose_a": node.int("transA", 0) != 0,
        "transpose_b": node.int("transB", 0) != 0,
        "alpha": node.float("alpha", 1.0),
        "beta": node.float("beta", 1.0),
    }
    return node.add1("gemm", [node.input(0), node.input(1), node.optional(2)], attributes)


@converts("MatMulInteger")
def matmul_integer(node: NodeView) -> Converted:
    """8-bit product with int32 sums."""
    return node.add1("matmul_integer", [node.input(0), node.input(1), node.optional(2), node.optional(3)])


@converts("QLinearMatMul")
def qlinear_matmul(node: NodeView) -> Converted:
    """8-bit product, scaled back to 8 bits."""
    return node.add1("qlinear_matmul", [node.input(i) for i in range(8)])


@converts("Einsum")
def einsum(node: NodeView) -> Converted:
    """A sum of products by equation."""
    operands = [node.input(i) for i in range(len(node.inputs))]
    return node.add1("einsum", operands, {"equation": node.string("equation")})


@converts("Det")
def det(node: NodeView) -> Converted:
    """Determinants of square matrices."""
    return node.add1("det", [node.input(0)])
