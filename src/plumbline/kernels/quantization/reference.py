"""numpy twins of quantisation. bfloat16 comes and goes as float32 arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.pointwise.conversion_functions import round_to_bfloat16, saturated

__all__ = ["reference_dequantize", "reference_quantize"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def _spread(parameter: np.ndarray, x: np.ndarray, attributes: Attributes) -> np.ndarray:
    """A scale or zero point in the shape of the tensor."""
    block = int(attributes.get("block_size", 0))
    if parameter.size == 1 and parameter.ndim <= 1 and not block:
        return parameter.reshape((1,) * x.ndim)
    axis = int(attributes.get("axis", 1)) % x.ndim
    if block:
        repeated = np.repeat(parameter, block, axis=axis)
        return np.take(repeated, np.arange(x.shape[axis]), axis=axis)
    return parameter.reshape(tuple(-1 if a == axis else 1 for a in range(x.ndim)))


def _rounded(values: np.ndarray, division: str) -> np.ndarray:
    """Values rounded to a half-width type of division."""
    if division == "bfloat16":
        return round_to_bfloat16(values).astype(values.dtype)
    return values.astype(np.float16).astype(values.dtype) if division == "float16" else values


def reference_quantize(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """Divide in the type of the division, round half to even, add, saturate."""
    x, scale = np.asarray(inputs[0]), np.asarray(inputs[1])
    to = DType(attributes["to"])
    wide = {"float64", "int32"} & {x.dtype.name, scale.dtype.name}
    kind = np.dtype(np.float64 if wide else np.float32)
    division = str(attributes.get("precision") or scale.dtype.name)
    with np.errstate(all="ignore"):
        divisor = _rounded(_spread(scale, x, attributes).astype(kind), division)
        quotient = _rounded(_rounded(x.astype(kind), division) / divisor, division)
        steps = np.rint(quotient.astype(np.float64))
        zero = inputs[2] if len(inputs) > 2 else None
        if zero is not None:
            steps = steps + _spread(np.asarray(zero), x, attributes)
    return (saturated(steps, to),)


def reference_dequantize(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """(x - zero point) * scale."""
    x, scale = np.asarray(inputs[0]), np.asarray(inputs[1])
    zero = inputs[2] if len(inputs) > 2 else None
    steps = x.astype(np.int64)
    if zero is not None:
        steps = steps - _spread(np.asarray(zero), x, attributes)
    result = steps * _spread(scale, x, attributes).astype(np.float64)
    to = attributes.get("to")
    kind = scale.dtype if to is None else np.dtype(np.float32 if to == "bfloat16" else to)
    with np.errstate(all="ignore"):
        return (result.astype(kind),)
