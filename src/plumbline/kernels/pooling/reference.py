"""Numpy twins of the pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.kernels.convolution.reference import gather_windows
from plumbline.kernels.convolution.windows import attribute_window
from plumbline.kernels.matrix.reference import widen

__all__ = ["reference_average_pool", "reference_global_pool", "reference_lp_pool", "reference_max_pool"]

Arrays = Sequence[np.ndarray | None]


def _outputs(images: np.ndarray, attributes: Mapping[str, Any]) -> list[int]:
    window = attribute_window("pool", attributes, attributes["kernel"])
    ceil = bool(attributes.get("ceil", False))
    extents = images.shape[2:]
    return [int(str(window.output_extent(i, e, ceil=ceil))) for i, e in enumerate(extents)]


def _windows(images: np.ndarray, attributes: Mapping[str, Any], fill: float) -> np.ndarray:
    return gather_windows(images, attributes, attributes["kernel"], _outputs(images, attributes), fill)


def reference_max_pool(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """The largest of each window, and where it lies."""
    images = inputs[0]
    if images is None:
        raise ValueError("a pool needs an image")
    least = -np.inf if images.dtype.kind == "f" else np.iinfo(images.dtype).min
    windows = _windows(images, attributes, least)
    result = windows.max(axis=-1) if images.size else np.zeros(windows.shape[:-1], images.dtype)
    if not attributes.get("indices"):
        return (result,)
    return result, _positions(images, windows, attributes)


def _positions(images: np.ndarray, windows: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    spatial = images.shape[2:]
    plane = int(np.prod(spatial))
    numbers = np.arange(plane).reshape(spatial)
    if attributes.get("column_major", False):
        numbers = np.arange(plane).reshape(spatial[::-1]).T
    numbers = np.broadcast_to(numbers, images.shape)
    places = gather_windows(
        numbers.astype(np.int64), attributes, attributes["kernel"], _outputs(images, attributes), -1
    )
    best = np.where(places < 0, False, windows == windows.max(axis=-1, keepdims=True))
    if images.dtype.kind == "f":
        best = np.where(np.isnan(windows).any(axis=-1, keepdims=True), np.isnan(windows), best)
    first = best.argmax(axis=-1)[..., None]
    found = np.take_along_axis(places, first, axis=-1)[..., 0]
    planes = np.arange(images.shape[0] * images.shape[1]).reshape(images.shape[:2]) * plane
    absolute = found + planes.reshape(*images.shape[:2], *(1,) * len(spatial))
    return np.where((found < 0) | ~best.any(axis=-1), 0, absolute).astype(np.int64)


def reference_average_pool(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """The mean of each window over positions inside the image or inside the padded image."""
    images = widen(inputs[0])
    windows = _windows(images, attributes, 0.0)
    ones = np.ones((1, 1, *images.shape[2:]))
    if attributes.get("count_padding", False):
        rank = images.ndim - 2
        pads = tuple(int(str(d)) for d in (attributes.get("pads") or (0,) * (2 * rank)))
        widths = [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))]
        ones = np.pad(ones, widths, constant_values=1.0)
        attributes = {**attributes, "pads": (0,) * (2 * rank)}
    counts = gather_windows(ones, attributes, attributes["kernel"], windows.shape[2:-1], 0.0).sum(axis=-1)
    with np.errstate(all="ignore"):
        return ((windows.sum(axis=-1) / counts).astype(_dtype(inputs)),)


def reference_lp_pool(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """The p-norm of each window."""
    p = attributes.get("p", 2)
    windows = _windows(widen(inputs[0]), attributes, 0.0)
    return (((np.abs(windows) ** p).sum(axis=-1) ** (1.0 / p)).astype(_dtype(inputs)),)


def reference_global_pool(
    operation: str, inputs: Arrays, attributes: Mapping[str, Any]
) -> tuple[np.ndarray, ...]:
    """Mean, maximum or p-norm of every plane."""
    images = widen(inputs[0])
    axes = tuple(range(2, images.ndim))
    p = attributes.get("p", 2)
    with np.errstate(all="ignore"):
        match operation:
            case "global_average_pool":
                result = images.sum(axis=axes, keepdims=True) / np.prod(images.shape[2:])
            case "global_max_pool":
                result = images.max(axis=axes, keepdims=True, initial=-np.inf)
            case _:
                result = (np.abs(images) ** p).sum(axis=axes, keepdims=True) ** (1.0 / p)
    return (np.asarray(result).astype(_dtype(inputs)),)


def _dtype(inputs: Arrays) -> np.dtype:
    first = inputs[0]
    return np.dtype(np.float64) if first is None else first.dtype
