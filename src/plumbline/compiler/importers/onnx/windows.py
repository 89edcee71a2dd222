"""Window attributes of ONNX nodes: kernel, strides, dilations, and padding with `auto_pad` resolved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.contracts.dims import Dim, add, ceildiv, floordiv, maximum, mul, sub

__all__ = ["automatic", "split_padding", "static_kernel", "window_attributes"]


def automatic(node: NodeView) -> str:
    """The padding rule of a node: NOTSET, SAME_UPPER, SAME_LOWER or VALID.

    Raises:
        NodeRefused: another word.
    """
    rule = node.string("auto_pad", "NOTSET")
    if rule not in ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"):
        node.refuse(f"auto_pad {rule} is not known")
    return rule


def static_kernel(node: NodeView, weights: int) -> tuple[int, ...]:
    """Kernel extents from a weight operand, held against attribute `kernel_shape`.

    Raises:
        NodeRefused: they differ or are symbolic.
    """
    extents = node.shape(weights)[2:]
    kernel = tuple(e for e in extents if isinstance(e, int))
    if len(kernel) != len(extents):
        node.refuse("the extents of a kernel must be static")
    if node.has("kernel_shape") and node.ints("kernel_shape") != kernel:
        node.refuse(f"kernel_shape {node.ints('kernel_shape')} is not that of the weights, {kernel}")
    return kernel


def window_attributes(node: NodeView, kernel: Sequence[int]) -> dict[str, Any]:
    """strides, dilations and pads of a window that slides over input 0."""
    rank = len(kernel)
    extents = node.shape(0)[2:]
    if len(extents) != rank:
        node.refuse(f"a kernel of rank {rank} over {len(extents)} spatial axes")
    strides = node.ints("strides", (1,) * rank)
    dilations = node.ints("dilations", (1,) * rank)
    if len(strides) != rank or len(dilations) != rank or min((*strides, *dilations), default=1) < 1:
        node.refuse(f"strides {strides} or dilations {dilations} do not fit a kernel of rank {rank}")
    return {
        "strides": strides,
        "dilations": dilations,
        "pads": _pads(node, kernel, strides, dilations, extents),
    }


def _pads(
    node: NodeView,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    extents: Sequence[Dim],
) -> tuple[Dim, ...]:
    rule = automatic(node)
    if rule == "NOTSET":
        return node.ints("pads", (0,) * (2 * len(kernel)))
    if rule == "VALID":
        return (0,) * (2 * len(kernel))
    totals = [
        maximum(sub(add(mul(sub(ceildiv(e, s), 1), s), (k - 1) * d + 1), e), 0)
        for e, s, k, d in zip(extents, strides, kernel, dilations, strict=True)
    ]
    return split_padding(totals, upper=rule == "SAME_UPPER")


def split_padding(totals: Sequence[Dim], *, upper: bool) -> tuple[Dim, ...]:
    """All begins, then all ends; the odd element goes to the end where `upper`, else to the begin."""
    small = [floordiv(t, 2) for t in totals]
    large = [sub(t, s) for t, s in zip(totals, small, strict=True)]
    return (*small, *large) if upper else (*large, *small)
