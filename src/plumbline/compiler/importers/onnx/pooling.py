"""Converters of pooling operators."""

from __future__ import annotations

from typing import Any

from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.compiler.importers.onnx.windows import automatic, window_attributes

__all__: list[str] = []


def _attributes(node: NodeView) -> dict[str, Any]:
    """Kernel, window and rounding; automatic padding fixes the extents, so rounding up has no say."""
    kernel = node.ints("kernel_shape")
    ceil = node.int("ceil_mode", 0) != 0 and automatic(node) == "NOTSET"
    return {"kernel": kernel, "ceil": ceil, **window_attributes(node, kernel)}


@converts("MaxPool")
def max_pool(node: NodeView) -> Converted:
    """Largest of each window, with positions where somebody reads them."""
    indices = node.wants(1)
    attributes = {
        **_attributes(node),
        "indices": indices,
        "column_major": indices and node.int("storage_order", 0) != 0,
    }
    return node.add("max_pool", [node.input(0)], attributes)


@converts("AveragePool")
def average_pool(node: NodeView) -> Converted:
    """Mean of each window."""
    attributes = {**_attributes(node), "count_padding": node.int("count_include_pad", 0) != 0}
    return node.add1("average_pool", [node.input(0)], attributes)


@converts("LpPool", since=2)
def lp_pool(node: NodeView) -> Converted:
    """p-norm of each window."""
    return node.add1("lp_pool", [node.input(0)], {**_attributes(node), "p": node.int("p", 2)})


@converts("GlobalAveragePool")
def global_average_pool(node: NodeView) -> Converted:
    """Mean of each plane."""
    return node.add1("global_average_pool", [node.input(0)])


@converts("GlobalMaxPool")
def global_max_pool(node: NodeView) -> Converted:
    """Largest of each plane."""
    return node.add1("global_max_pool", [node.input(0)])


@converts("GlobalLpPool", since=2)
def global_lp_pool(node: NodeView) -> Converted:
    """p-norm of each plane."""
    return node.add1("global_lp_pool", [node.input(0)], {"p": node.int("p", 2)})
