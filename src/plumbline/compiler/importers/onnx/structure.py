"""Converters of operators that exist at build only: constants, shapes and names."""

from __future__ import annotations

import numpy as np

from plumbline.compiler.importers.onnx.constants import add_initializer
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.dims import product
from plumbline.contracts.tensors import DType


@converts("Constant")
def constant(node: NodeView) -> Converted:
    """A constant from whichever attribute holds it."""
    if node.has("value"):
        return add_initializer(node.builder, node.tensor("value"))
    if node.has("value_float"):
        return node.constant(np.array(node.float("value_float"), np.float32))
    if node.has("value_floats"):
        return node.constant(np.array(node.floats("value_floats"), np.float32))
    if node.has("value_int"):
        return node.constant(np.array(node.int("value_int"), np.int64))
    if node.has("value_ints"):
        return node.constant(np.array(node.ints("value_ints"), np.int64))
    node.refuse("strings and sparse tensors are not supported")


@converts("Shape")
def shape(node: NodeView) -> Converted:
    """The dimensions of the operand, as values known at build."""
    dims = node.shape(0)
    return node.builder.symbolic(list(dims[node.int("start", 0) : _end(node)]), node.name)


def _end(node: NodeView) -> int | None:
    return node.int("end") if node.has("end") else None


@converts("Size")
def size(node: NodeView) -> Converted:
    """The number of elements, known at build."""
    return node.builder.symbolic(product(node.shape(0)), node.name)


@converts("Identity")
def identity(node: NodeView) -> Converted:
    """Another name for the same tensor."""
    return node.input(0)


@converts("Dropout")
def dropout(node: NodeView) -> Converted:
    """Inference: the operand itself, and a mask of ones where it is asked for."""
    if node.opset >= 12 and node.optional(2) is not None:
        training = node.builder.find_value(node.input(2))
        if training is None or bool(training.ravel()[0]):
            ratio = node.find_numbers(1)
            if ratio is None or float(ratio) != 0.0:
                node.refuse("training mode draws random numbers")
    if not node.wants(1):
        return node.input(0)
    one = node.scalar(True, DType.BOOL) if node.opset >= 10 else node.scalar(1, node.type(0).dtype)
    return [node.input(0), node.add1("expand", [one], {"shape": node.shape(0)})]


@converts("OptionalHasElement", since=15)
def optional_has_element(node: NodeView) -> Converted:
    """Whether an operand is there; every value of a static graph is a tensor or absent."""
    return node.constant(np.array(node.optional(0) is not None))


@converts("OptionalGetElement", since=15)
def optional_get_element(node: NodeView) -> Converted:
    """The tensor itself."""
    return node.input(0)
