"""Why a node of an ONNX model cannot be compiled. All are permanent and name node, operator and opset."""

from __future__ import annotations

import re
from dataclasses import dataclass

from plumbline.errors import ValidationError

__all__ = [
    "BindingRefused",
    "DataDependentShape",
    "InputShapeUnknown",
    "InputTypeUnsupported",
    "NodeRefused",
    "OperatorUnsupported",
    "OpsetTooNew",
    "SymbolUnbounded",
    "needed_for",
]


@dataclass(eq=False, kw_only=True)
class OperatorUnsupported(ValidationError):
    """There is no converter and no function body for an operator."""

    code = "validation.onnx.operator"
    owner = "compiler.importers"
    template = (
        "node {node!r}: operator {operator} (domain {domain!r}, opset {opset}) is not supported; {needed}"
    )

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
        "bind the value with `constants` of plumbline.load if it never changes. For a server, make the input "
        "an initializer of the model file: version.toml has no line for it"
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
    template = (
        "input {input!r}, axis {axis}: symbol {symbol!r} needs a bound, for example --symbol {symbol}=8, or "
        "below the line [symbols] of version.toml the line {symbol} = 8"
    )

    input: str
    axis: int
    symbol: str


@dataclass(eq=False, kw_only=True)
class InputShapeUnknown(ValidationError):
    """An input has an axis or a rank that the model does not state."""

    code = "validation.input_shape_unknown"
    owner = "compiler.importers"
    template = (
        "input {input!r}: {reason}; give its shape, for example --shape {input}=1x3x224x224. For a server, "
        "state the shape in the model file: version.toml has no line for it"
    )

    input: str
    reason: str


@dataclass(eq=False, kw_only=True)
class InputTypeUnsupported(ValidationError):
    """An input is no dense tensor, or its elements are of a type that nothing computes with."""

    code = "validation.onnx.input_type"
    owner = "compiler.importers"
    template = "input {input!r} is {found}; inputs of a model are dense tensors of {supported}"

    input: str
    found: str
    supported: str


@dataclass(eq=False, kw_only=True)
class OpsetTooNew(ValidationError):
    """A model is written in a version of the operators that came after this importer."""

    code = "validation.onnx.opset"
    owner = "compiler.importers"
    template = (
        "the model uses opset {opset} of the ONNX operators; the newest known here is {newest}: "
        "export it with that one, or an older one"
    )

    opset: int
    newest: int


@dataclass(eq=False, kw_only=True)
class BindingRefused(ValidationError):
    """A shape, constant or symbol that the caller gives does not fit the model."""

    code = "validation.binding"
    owner = "compiler.importers"
    template = "{kind} {name!r}: {reason}"

    kind: str
    name: str
    reason: str


_FAMILIES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r".*Sequence.*"),
        "values that are sequences of tensors; give the tensors as inputs and outputs of their own",
    ),
    (
        re.compile(r"Optional.*"),
        "values that may be absent; give the tensor, or leave the optional input out",
    ),
    (
        re.compile(r"String.*|RegexFullMatch|LabelEncoder|CategoryMapper|DictVectorizer|CastMap|ZipMap"),
        "values that are strings or maps; prepare text outside of the model",
    ),
    (
        re.compile(r"Random.*|Bernoulli|Multinomial"),
        "random numbers inside a graph; draw them outside and give them as an input",
    ),
)
"""What operators that no static graph of dense tensors can hold would need."""


def needed_for(operator: str, domain: str) -> str:
    """What would be needed to support an operator."""
    for pattern, needed in _FAMILIES:
        if domain in ("", "ai.onnx", "ai.onnx.ml") and pattern.fullmatch(operator):
            return f"it needs {needed}"
    return "register an operation with native code and a converter for it"
