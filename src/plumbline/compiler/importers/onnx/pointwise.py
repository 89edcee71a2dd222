"""Converters of operators that work element by element."""

from __future__ import annotations

import math

import numpy as np

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, Converter, converts
from plumbline.contracts.dims import product
from plumbline.contracts.tensors import DType

_PLAIN = {
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "Add": "add", "And": "and", "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan", "Atanh": "atanh", "BitwiseAnd": "bitwise_and", "BitwiseNot": "bitwise_not",
    "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor", "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh",
    "Div": "div", "Equal": "equal", "Erf": "erf", "Exp": "exp", "Floor": "floor", "Greater": "greater",
    "GreaterOrEqual": "greater_or_equal", "HardSwish": "hard_swish", "IsNaN": "is_nan", "Less": "less",
    "LessOrEqual": "less_or_equal", "Log": "log", "Mish": "mish", "Mul": "mul", "Neg": "neg", "Not": "not",
    "Or": "or", "Reciprocal": "reciprocal", "Relu": "relu", "Round": "round",
    "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin", "Sinh": "sinh", "Softplus": "softplus",
    "Softsign": "softsign", "Sqrt": "sqrt", "Sub": "sub", "Tan": "tan", "Tanh": "tanh", "Where": "where",
    "Xor": "xor",
}  # fmt: skip
"""Operators with the operands of ours and no attributes."""

_FLOAT_ATTRIBUTES: dict[str, tuple[str, dict[str, float]]] = {
    "Celu": ("celu", {"alpha": 1.0}),
    "Elu": ("elu", {"alpha": 1.0}),
    "HardSigmoid": ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}),
    "Selu": ("selu", {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}),
    "Shrink": ("shrink", {"lambd": 0.5, "bias": 0.0}),
    "SwiGLU": ("swiglu", {"alpha": 1.0}),
    "Swish": ("swish", {"alpha": 1.0}),
    "ThresholdedRelu": ("thresholded_relu", {"alpha": 1.0}),
}
"""Operators with float attributes of the same names."""


def _plain(operation: str) -> Converter:
    return lambda node: node.add1(operation, list(node.inputs))


def _with_floats(operation: str, defaults: dict[str, float]) -> Converter:
    def convert(node: NodeView) -> Converted:
        chosen = {name: node.float(name, default) for name, default in defaults.items()}
        return node.add1(operation, list(node.inputs), chosen)

    return convert


for _operator, _operation in _PLAIN.items():
    converts(_operator)(_plain(_operation))
for _operator, (_operation, _defaults) in _FLOAT_ATTRIBUTES.items():
    converts(_operator)(_with_floats(_operation, _defaults))


# -- a slope per channel


@converts("PRelu")
def prelu_by_channel(node: NodeView) -> Converted:
    """One slope for all or one for each channel (axis 1), until opset 6."""
    slope, rank = node.input(1), node.rank(0)
    if node.shape(1) == (1,) or rank < 3:
        return node.add1("prelu", [node.input(0), slope])
    if node.rank(1) == 1:
        slope = node.reshape(slope, (*node.shape(1), *(1,) * (rank - 2)))
    return node.add1("prelu", [node.input(0), slope])


@converts("PRelu", since=7)
def prelu(node: NodeView) -> Converted:
    """Slopes that broadcast to the input."""
    return node.add1("prelu", [node.input(0), node.input(1)])


# -- several operands


def _chain(node: NodeView, operation: str) -> TensorID:
    result = node.input(0)
    for position in range(1, len(node.inputs)):
        result = node.add1(operation, [result, node.input(position)])
    return result


@converts("Max")
def maximum(node: NodeView) -> Converted:
    """The largest of all operands."""
    return _chain(node, "maximum")


@converts("Min")
def minimum(node: NodeView) -> Converted:
    """The smallest of all operands."""
    return _chain(node, "minimum")


@converts("Sum")
def total(node: NodeView) -> Converted:
    """The sum of all operands."""
    return _chain(node, "add")


@converts("Mean")
def mean(node: NodeView) -> Converted:
    """The mean of all operands."""
    count = node.scalar(float(len(node.inputs)), node.type(0).dtype)
    return node.add1("div", [_chain(node, "add"), count])


# -- limits and powers


@converts("Clip")
def clip_by_attributes(node: NodeView) -> Converted:
    """Limits in attributes, until opset 10."""
    low = node.float("min") if node.has("min") else None
    high = node.float("max") if node.has("max") else None
    return node.add1("clip", [node.input(0)], {"low": low, "high": high})


@converts("Clip", since=11)
def clip(node: NodeView) -> Converted:
    """Limits as operands; constant ones become attributes."""
    limits = {"low": _find_limit(node, 1), "high": _find_limit(node, 2)}
    result = node.input(0)
    if any(limit is not None for limit in limits.values()):
        result = node.add1("clip", [result], limits)
    for position, operation, name in ((1, "maximum", "low"), (2, "minimum", "high")):
        operand = node.optional(position)
        if operand is not None and limits[name] is None:
            result = node.add1(operation, [result, operand])
    return result


def _find_limit(node: NodeView, position: int) -> float | int | None:
    """A constant limit that is a plain number. Of two run-time limits the lower is applied first."""
    tensor, dtype = node.optional(position), node.type(0).dtype
    if tensor is None or dtype is DType.BFLOAT16 or (position == 2 and _is_open(node, 1)):
        return None
    array = node.builder.find_constant(tensor)
    if array is None or array.size != 1:
        return None
    return float(array.ravel()[0]) if dtype.is_float else int(array.ravel()[0])


def _is_open(node: NodeView, position: int) -> bool:
    tensor = node.optional(position)
    return tensor is not None and _find_limit(node, position) is None


@converts("Pow")
def power(node: NodeView) -> Converted:
    """The result has the type of the base; constant exponents become an attribute."""
    base, exponent = node.input(0), node.input(1)
    kind, exponent_kind = node.type(0).dtype, node.type(1).dtype
    number = _find_number(node, 1)
    if kind.is_float and number is not None:
        return base if number == 1.0 else node.add1("power_by", [base], {"exponent": number})
    if kind.is_float or not exponent_kind.is_float:
        return node.add1("pow", [base, node.cast(exponent, kind)])
    wide = [node.cast(base, DType.FLOAT64), node.cast(exponent, DType.FLOAT64)]
    return node.cast(node.add1("pow", wide), kind)


def _find_number(node: NodeView, position: int) -> float | None:
    """A constant operand of one element that stretches over operand 0 without adding axes."""
    type_ = node.type(position)
    if product(type_.shape) != 1 or type_.rank > node.rank(0) or type_.dtype is DType.BFLOAT16:
        return None
    array = node.find_numbers(position)
    return None if array is None else float(array.ravel()[0])


# -- attributes of other kinds


@converts("Mod", since=10)
def modulo(node: NodeView) -> Converted:
    """Floor or truncated remainder."""
    return node.add1("mod", list(node.inputs), {"fmod": node.int("fmod", 0)})


@converts("BitShift")
def bit_shift(node: NodeView) -> Converted:
    """Shift by the second operand."""
    direction = node.string("direction").lower()
    if direction not in ("left", "right"):
        node.refuse(f"direction {direction!r} is neither LEFT nor RIGHT")
    return node.add1("bit_shift", list(node.inputs), {"direction": direction})


@converts("Gelu")
def gelu(node: NodeView) -> Converted:
    """Exact, or by the tanh approximation."""
    approximate = node.string("approximate", "none")
    if approximate not in ("none", "tanh"):
        node.refuse(f"approximation {approximate!r} is unknown")
    return node.add1("gelu" if approximate == "none" else "gelu_tanh", [node.input(0)])


@converts("IsInf")
def is_infinite(node: NodeView) -> Converted:
    """Infinities of either sign, or of one."""
    chosen = {name: node.int(name, 1) != 0 for name in ("detect_positive", "detect_negative")}
    return node.add1("is_inf", [node.input(0)], chosen)


@converts("Cast")
def cast(node: NodeView) -> Converted:
    """Conversion to the type of attribute `to`."""
    return node.cast(node.input(0), node.dtype(node.int("to")))


@converts("CastLike")
def cast_like(node: NodeView) -> Converted:
    """Conversion to the type of the second operand."""
    return node.cast(node.input(0), node.type(1).dtype)


@converts("BitCast")
def bit_cast(node: NodeView) -> Converted:
    """The same bits under another type."""
    return node.add1("bit_cast", [node.input(0)], {"to": node.dtype(node.int("to")).value})


# -- ai.onnx.ml


@converts("Binarizer", domain="ai.onnx.ml")
def binarizer(node: NodeView) -> Converted:
    """1 over the threshold, else 0."""
    kind = node.type(0).dtype
    over = node.add1("greater", [node.input(0), node.scalar(node.float("threshold", 0.0), kind)])
    return node.cast(over, kind)


@converts("Scaler", domain="ai.onnx.ml")
def scaler(node: NodeView) -> Converted:
    """(x - offset) * scale in float32."""
    result = node.cast(node.input(0), DType.FLOAT32)
    for attribute, operation in (("offset", "sub"), ("scale", "mul")):
        if node.has(attribute):
            numbers = node.constant(np.array(node.floats(attribute), np.float32))
            result = node.add1(operation, [result, numbers])
    return result


@converts("Imputer", domain="ai.onnx.ml")
def imputer(node: NodeView) -> Converted:
    """Replace one number, or NaN, by others."""
    if not node.has("imputed_value_floats"):
        node.refuse("only float values are supported")
    kind, replaced = node.type(0).dtype, node.float("replaced_value_float", 0.0)
    if not kind.is_float:
        node.refuse(f"float values for elements of type {kind.value}")
    if math.isnan(replaced):
        found = node.add1("is_nan", [node.input(0)])
    else:
        found = node.add1("equal", [node.input(0), node.scalar(replaced, kind)])
    numbers = node.constant(np.array(node.floats("imputed_value_floats"), np.float32))
    return node.add1("where", [found, node.cast(numbers, kind), node.input(0)])
