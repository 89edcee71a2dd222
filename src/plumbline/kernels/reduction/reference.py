"""numpy twins of the operations along axes. bfloat16 comes and goes as float32 arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.pointwise.conversion_functions import saturated
from plumbline.kernels.reduction.folds import FOLDS

__all__ = ["reference_extreme", "reference_fold", "reference_hardmax", "reference_scan", "reference_softmax",
           "reference_top_k"]  # fmt: skip

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def _first(inputs: Arrays) -> np.ndarray:
    return np.asarray(inputs[0])


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x


def _narrow(result: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A result in the element type of the input."""
    if np.issubdtype(result.dtype, np.floating) and np.issubdtype(like.dtype, np.integer):
        return saturated(result, DType.of(like))
    return result.astype(like.dtype)


def reference_fold(operation: str, inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """A reduction in float64."""
    x = _first(inputs)
    axes = attributes.get("axes")
    chosen = tuple(range(x.ndim)) if axes is None else tuple(a % x.ndim for a in axes)
    with np.errstate(all="ignore"):
        total = FOLDS[operation].reference(_wide(x), chosen)
        if not attributes.get("keepdims", True):
            total = np.squeeze(total, axis=chosen)
        return (_narrow(total, x),)


def reference_softmax(operation: str, inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """Softmax or its logarithm in float64."""
    x = _first(inputs)
    wide, axis = _wide(x), attributes.get("axis", -1)
    with np.errstate(all="ignore"):
        shifted = wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
        total = np.sum(np.exp(shifted), axis=axis, keepdims=True)
        result = shifted - np.log(total) if operation == "log_softmax" else np.exp(shifted) / total
        return (result.astype(x.dtype),)


def reference_extreme(operation: str, inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """Place of the maximum or minimum."""
    x, axis = _first(inputs), attributes.get("axis", 0)
    find = np.argmax if operation == "arg_max" else np.argmin
    if attributes.get("select_last_index", False):
        place = x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis, keepdims=True)
    else:
        place = find(x, axis=axis, keepdims=True)
    result = np.asarray(place, np.int64)
    return (result if attributes.get("keepdims", True) else np.squeeze(result, axis=axis),)


def reference_hardmax(operation: str, inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """One-hot of the first maximum."""
    x, axis = _first(inputs), attributes.get("axis", -1)
    result = np.zeros_like(x)
    if x.size:
        np.put_along_axis(result, np.argmax(x, axis=axis, keepdims=True), 1, axis=axis)
    return (result,)


def reference_scan(operation: str, inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """Running sum or product."""
    x, axis = _first(inputs), attributes.get("axis", -1)
    if len(inputs) > 1 and inputs[1] is not None:
        axis = int(np.asarray(inputs[1]).ravel()[0])
    wide = _wide(x)
    if attributes.get("reverse", False):
        wide = np.flip(wide, axis)
    fold, neutral = (np.cumprod, 1) if operation == "cum_prod" else (np.cumsum, 0)
    with np.errstate(all="ignore"):
        if attributes.get("exclusive", False):
            wide = np.roll(wide, 1, axis)
            wide[(slice(None),) * (axis % x.ndim) + (slice(0, 1),)] = neutral
        total = np.asarray(fold(wide, axis=axis, dtype=wide.dtype))
    if attributes.get("reverse", False):
        total = np.flip(total, axis)
    return (total.astype(x.dtype),)


def reference_top_k(operation: str, inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """Stable sort of each line by value, NaN as the largest."""
    x, axis, k = _first(inputs), attributes.get("axis", -1), int(attributes["k"])
    unique = np.unique(x)
    rank = np.where(np.isnan(x), unique.size, np.searchsorted(unique, x)) if x.size else np.zeros(x.shape)
    rank = rank.astype(np.int64) * (-1 if attributes.get("largest", True) else 1)
    places = np.argsort(rank, axis=axis, kind="stable")
    chosen = np.take(places, np.arange(k), axis=axis)
    return np.take_along_axis(x, chosen, axis=axis), chosen.astype(np.int64)
