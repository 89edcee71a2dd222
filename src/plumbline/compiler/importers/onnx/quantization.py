"""Converters of quantisation operators."""

from __future__ import annotations

from typing import Any

from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.tensors import DType


def _operands(node: NodeView) -> list[Any]:
    zero = node.optional(2)
    return [node.input(0), node.input(1), *([zero] if zero is not None else [])]


def _placement(node: NodeView) -> dict[str, Any]:
    """Axis and block; scales of one element have neither."""
    return {"axis": node.int("axis", 1), "block_size": node.int("block_size", 0)}


@converts("QuantizeLinear", since=10)
def quantize_linear(node: NodeView) -> Converted:
    """The type of the result is that of the zero point, or named, or uint8."""
    chosen = _placement(node)
    named = node.int("output_dtype", 0)
    if node.optional(2) is not None:
        chosen["to"] = node.type(2).dtype.value
    else:
        chosen["to"] = node.dtype(named).value if named else DType.UINT8.value
    precision = node.int("precision", 0)
    chosen["precision"] = (node.dtype(precision) if precision else node.type(1).dtype).value
    return node.add1("quantize_linear", _operands(node), chosen)


@converts("DequantizeLinear", since=10)
def dequantize_linear(node: NodeView) -> Converted:
    """The type of the result is that of the scale, or named."""
    chosen = _placement(node)
    named = node.int("output_dtype", 0)
    chosen["to"] = (node.dtype(named) if named else node.type(1).dtype).value
    return node.add1("dequantize_linear", _operands(node), chosen)


@converts("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(node: NodeView) -> Converted:
    """Scale and zero point from the range of the values, which always holds 0."""
    kind = node.type(0).dtype
    zero, steps = node.scalar(0.0, kind), node.scalar(255.0, kind)
    low = node.add1("minimum", [_fold(node, "reduce_min"), zero])
    high = node.add1("maximum", [_fold(node, "reduce_max"), zero])
    scale = node.add1("div", [node.add1("sub", [high, low]), steps])
    exact = node.add1("div", [node.add1("sub", [zero, low]), scale])
    held = node.add1("clip", [node.add1("round", [exact])], {"low": 0.0, "high": 255.0})
    point = node.cast(held, DType.UINT8)
    quantised = node.add1("quantize_linear", [node.input(0), scale, point], {"to": DType.UINT8.value})
    return [quantised, scale, point]


def _fold(node: NodeView, operation: str) -> Any:
    return node.add1(operation, [node.input(0)], {"axes": None, "keepdims": False})
