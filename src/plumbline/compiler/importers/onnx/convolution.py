"""Converters of convolution operators."""

from __future__ import annotations

from typing import Any

from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.compiler.importers.onnx.windows import (
    automatic,
    split_padding,
    static_kernel,
    window_attributes,
)
from plumbline.contracts.dims import Dim, add, mul, sub

__all__: list[str] = []


def _attributes(node: NodeView, weights: int) -> dict[str, Any]:
    return {**window_attributes(node, static_kernel(node, weights)), "group": node.int("group", 1)}


@converts("Conv")
def conv(node: NodeView) -> Converted:
    """Convolution of floats."""
    operands = [node.input(0), node.input(1), node.optional(2)]
    return node.add1("conv", operands, _attributes(node, 1))


@converts("ConvInteger")
def conv_integer(node: NodeView) -> Converted:
    """8-bit convolution with int32 sums."""
    operands = [node.input(0), node.input(1), node.optional(2), node.optional(3)]
    return node.add1("conv_integer", operands, _attributes(node, 1))


@converts("QLinearConv")
def qlinear_conv(node: NodeView) -> Converted:
    """8-bit convolution, scaled back to 8 bits."""
    operands = [*(node.input(i) for i in range(8)), node.optional(8)]
    return node.add1("qlinear_conv", operands, _attributes(node, 3))


@converts("ConvTranspose")
def conv_transpose(node: NodeView) -> Converted:
    """Transposed convolution; `output_shape` and automatic padding become padding."""
    kernel = static_kernel(node, 1)
    rank = len(kernel)
    strides, dilations = node.ints("strides", (1,) * rank), node.ints("dilations", (1,) * rank)
    extra = node.ints("output_padding", (0,) * rank)
    if not len(strides) == len(dilations) == len(extra) == rank:
        node.refuse(f"strides, dilations or output_padding do not fit a kernel of rank {rank}")
    attributes = {
        "strides": strides, "dilations": dilations, "output_padding": extra, "group": node.int("group", 1),
        "pads": _transposed_pads(node, kernel, strides, dilations, extra),
    }  # fmt: skip
    return node.add1("conv_transpose", [node.input(0), node.input(1), node.optional(2)], attributes)


def _transposed_pads(
    node: NodeView, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...],
    extra: tuple[int, ...],
) -> tuple[Dim, ...]:  # fmt: skip
    rank, rule, extents = len(kernel), automatic(node), node.shape(0)[2:]
    if len(extents) != rank:
        node.refuse(f"a kernel of rank {rank} over {len(extents)} spatial axes")
    if node.has("output_shape"):
        wanted: tuple[Dim, ...] = node.ints("output_shape")[-rank:]
    elif rule.startswith("SAME"):
        wanted = tuple(mul(e, s) for e, s in zip(extents, strides, strict=True))
    elif rule == "VALID":
        return (0,) * (2 * rank)
    else:
        return node.ints("pads", (0,) * (2 * rank))
    full = [
        add(mul(s, sub(e, 1)), x + (k - 1) * d + 1)
        for s, e, x, k, d in zip(strides, extents, extra, kernel, dilations, strict=True)
    ]
    return split_padding([sub(f, w) for f, w in zip(full, wanted, strict=True)], upper=rule == "SAME_UPPER")
