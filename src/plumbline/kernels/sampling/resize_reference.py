"""The numpy twin of `resize`: one dense weight matrix for each axis, filled coordinate by coordinate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["reference"]


def reference(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Resize axis after axis in float64."""
    x = np.asarray(inputs[0])
    rank = x.ndim
    roi = attributes["roi"] or (0.0,) * rank + (1.0,) * rank
    result = x.astype(np.float64) if attributes["mode"] != "nearest" else x
    outside = np.zeros(tuple(attributes["shape"]), bool)
    for axis in range(rank):
        extent, length = x.shape[axis], attributes["shape"][axis]
        scale = attributes["scales"][axis]
        window = (roi[axis], roi[axis + rank])
        moved = attributes["coordinates"] == "tf_crop_and_resize" and window != (0.0, 1.0)
        if extent == length and scale in (None, 1.0) and not moved:
            continue
        ratio = length / extent if scale is None else scale
        points = [_source(attributes["coordinates"], i, extent, length, ratio, window) for i in range(length)]
        if attributes["mode"] == "nearest":
            chosen = [min(max(_nearest(attributes["nearest"], p), 0), extent - 1) for p in points]
            result = np.take(result, np.array(chosen, np.int64), axis=axis)
        else:
            matrix = np.array([_row(attributes, p, extent, ratio) for p in points]).reshape(length, extent)
            result = np.moveaxis(np.tensordot(matrix, result, axes=(1, axis)), 0, axis)
        if attributes["coordinates"] == "tf_crop_and_resize":
            beyond = np.array([p < 0 or p > extent - 1 for p in points], bool)
            outside |= beyond.reshape([-1 if i == axis else 1 for i in range(rank)])
    if x.dtype.kind in "iu" and attributes["mode"] != "nearest":
        limits = np.iinfo(x.dtype)
        result = np.clip(np.rint(result), limits.min, limits.max)
    result = result.astype(x.dtype)
    return (np.where(outside, np.asarray(attributes["extrapolation"]).astype(x.dtype), result),)


def _source(
    mode: str, position: int, extent: int, length: int, scale: float, window: tuple[float, float]
) -> float:
    real = scale * extent
    if mode == "align_corners":
        return 0.0 if real == 1 else position * (extent - 1) / (real - 1)
    if mode == "asymmetric":
        return position / scale
    if mode == "tf_crop_and_resize":
        start, end = window
        if real == 1:
            return 0.5 * (start + end) * (extent - 1)
        return start * (extent - 1) + position * (end - start) * (extent - 1) / (real - 1)
    if mode == "pytorch_half_pixel" and real <= 1:
        return 0.0
    centred = (position + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        centred += extent / 2 * (1 - length / real)
    return centred


def _nearest(mode: str, point: float) -> int:
    fraction = point - math.floor(point)
    if mode == "floor" or fraction == 0:
        return math.floor(point)
    if mode == "ceil":
        return math.ceil(point)
    up = fraction > 0.5 or (fraction == 0.5 and mode == "round_prefer_ceil")
    return math.floor(point) + int(up)


def _row(attributes: Mapping[str, Any], point: float, extent: int, scale: float) -> list[float]:
    """Weights of all input elements for one output coordinate."""
    radius = 1.0 if attributes["mode"] == "linear" else 2.0
    squeeze = min(scale, 1.0) if attributes["antialias"] else 1.0
    weights = [0.0] * extent
    total = 0.0
    for index in range(math.floor(point - radius / squeeze) - 1, math.ceil(point + radius / squeeze) + 2):
        weight = _kernel(attributes, abs(index - point) * squeeze)
        if attributes["exclude_outside"] and not 0 <= index < extent:
            continue
        weights[min(max(index, 0), extent - 1)] += weight
        total += weight
    if (attributes["antialias"] and squeeze < 1.0) or attributes["exclude_outside"]:
        weights = [w / total if total else w for w in weights]
    return weights


def _kernel(attributes: Mapping[str, Any], distance: float) -> float:
    if attributes["mode"] == "linear":
        return max(0.0, 1.0 - distance)
    a = float(attributes["cubic_a"])
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    if distance < 2:
        return a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
    return 0.0
