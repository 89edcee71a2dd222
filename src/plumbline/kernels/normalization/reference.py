"""numpy twins of normalisation, in float64. bfloat16 comes and goes as float32 arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["reference_batch", "reference_group", "reference_local_response", "reference_rows"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def _wide(array: np.ndarray | None) -> np.ndarray:
    return np.asarray(array, np.float64)


def reference_rows(operation: str, inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """Layer or root-mean-square normalisation from `axis` on."""
    x, scale = np.asarray(inputs[0]), np.asarray(inputs[1])
    axis = int(attributes.get("axis", -1)) % x.ndim
    axes = tuple(range(axis, x.ndim))
    wide, epsilon = _wide(x), float(attributes.get("epsilon", 1e-5))
    with np.errstate(all="ignore"):
        centred = operation == "layer_normalization"
        mean = np.mean(wide, axis=axes, keepdims=True) if centred else np.zeros_like(wide)
        inverse = 1.0 / np.sqrt(np.mean((wide - mean) ** 2, axis=axes, keepdims=True) + epsilon)
        result = (wide - mean) * inverse * _wide(scale)
        if len(inputs) > 2 and inputs[2] is not None:
            result = result + _wide(inputs[2])
    outputs = [result.astype(x.dtype if centred else scale.dtype)]
    if attributes.get("statistics", False):
        kind = np.float64 if x.dtype == np.float64 else np.float32
        outputs += [mean.astype(kind), inverse.astype(kind)]
    return tuple(outputs)


def reference_group(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """Group normalisation with scale and bias by channel."""
    x = np.asarray(inputs[0])
    groups = int(attributes["groups"])
    channel = (1, x.shape[1], *[1] * (x.ndim - 2))
    with np.errstate(all="ignore"):
        grouped = _wide(x).reshape(x.shape[0], groups, -1)
        count = np.float64(grouped.shape[2])
        mean = grouped.sum(axis=2, keepdims=True) / count
        variance = ((grouped - mean) ** 2).sum(axis=2, keepdims=True) / count
        inverse = 1.0 / np.sqrt(variance + float(attributes.get("epsilon", 1e-5)))
        plain = ((grouped - mean) * inverse).reshape(x.shape)
        result = plain * _wide(inputs[1]).reshape(channel) + _wide(inputs[2]).reshape(channel)
    return (result.astype(x.dtype),)


def reference_batch(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """Batch normalisation with given statistics."""
    x = np.asarray(inputs[0])
    channel = (1, x.shape[1], *[1] * (x.ndim - 2))
    scale, bias, mean, variance = (_wide(a).reshape(channel) for a in inputs[1:5])
    with np.errstate(all="ignore"):
        inverse = 1.0 / np.sqrt(variance + float(attributes.get("epsilon", 1e-5)))
        return (((_wide(x) - mean) * inverse * scale + bias).astype(x.dtype),)


def reference_local_response(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """Local response normalisation across channels."""
    x = np.asarray(inputs[0])
    size = int(attributes["size"])
    squares, total = _wide(x) ** 2, np.zeros(x.shape)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    for channel in range(x.shape[1]):
        window = squares[:, max(channel - before, 0) : channel + after + 1]
        total[:, channel] = window.sum(axis=1)
    base = float(attributes.get("bias", 1.0)) + float(attributes.get("alpha", 1e-4)) / size * total
    return ((_wide(x) / base ** float(attributes.get("beta", 0.75))).astype(x.dtype),)
