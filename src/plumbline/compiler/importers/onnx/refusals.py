"""Why a node of an ONNX model cannot be compiled. All are permanent and name node, operator and opset."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import ValidationError

__all__ = ["DataDependentShape", "InputShapeUnknown", "NodeRefused", "OperatorUnsupported", "SymbolUnbounded"]


@dataclass(eq=False, kw_only=True)
class OperatorUnsupported(ValidationError):
    """There is no converter and no function body for an operator."""

    code = "validation.onnx.operator"
    owner = "compiler.importers"
    template = "node {node!r}: operator {operator} (domain {domain!r}, opset {opset}) is not supported; {needed}"

    node: str
    operator: str
    domain: str
    opset: int
    needed: str


@dataclass(eq=False, kw_only=True)
class NodeRefused(ValidationError):
    """An operator is known, but not with these types, shapes or attributes."""

    code = "validation.onnx.node"
    owner = "compiler.importers"
    template = "node {node!r}: {operator} (domain {domain!r}, opset {opset}): {reason}"

    node: str
    operator: str
    domain: str
    opset: int
    reason: str


@dataclass(eq=False, kw_only=True)
class DataDependentShape(ValidationError):
    """A shape or a branch depends on values that are known only at run time."""

    code = "validation.onnx.data_dependent"
    owner = "compiler.importers"
    template = (
        "node {node!r}: {operator} (opset {opset}) depends on run-time values: {reason}; graphs are static, "
        "bind the value with `constants` if it never changes"
    )

    node: str
    operator: str
    opset: int
    reason: str


@dataclass(eq=False, kw_only=True)
class SymbolUnbounded(ValidationError):
    """A symbolic dimension of an input has no bound."""

    code = "validation.symbol_unbounded"
    owner = "compiler.importers"
    template = "input {input!r}, axis {axis}: symbol {symbol!r} needs a bound, for example --symbol {symbol}=8"

    input: str
    axis: int
    symbol: str


@dataclass(eq=False, kw_only=True)
class InputShapeUnknown(ValidationError):
    """An input has an axis or a rank that the model does not state."""

    code = "validation.input_shape_unknown"
    owner = "compiler.importers"
    template = "input {input!r}: {reason}; give its shape, for example --shape {input}=1x3x224x224"

    input: str
    reason: str
