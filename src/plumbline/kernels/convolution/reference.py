"""Numpy twins of the convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from plumbline.kernels.convolution.windows import attribute_window
from plumbline.kernels.matrix.reference import saturate, widen

__all__ = ["gather_windows", "reference_conv", "reference_conv_integer", "reference_conv_transpose",
           "reference_quantised_conv"]  # fmt: skip

Arrays = Sequence[np.ndarray | None]


def gather_windows(
    images: np.ndarray,
    attributes: Mapping[str, Any],
    kernel: Sequence[int],
    outputs: Sequence[int],
    fill: float | int,
) -> np.ndarray:
    """All windows of `[N, C, *spatial]` as `[N, C, *outputs, taps]`; taps outside the image hold `fill`."""
    window = attribute_window("window", attributes, tuple(kernel))
    result, valid = images, np.ones((), bool)
    for axis, (k, count) in enumerate(zip(kernel, outputs, strict=True)):
        place = 2 + 2 * axis
        starts = np.arange(count)[:, None] * window.strides[axis] - int(str(window.before[axis]))
        positions = starts + np.arange(k) * window.dilations[axis]
        extent = images.shape[2 + axis]
        inside = (positions >= 0) & (positions < extent)
        if extent == 0:
            result = np.zeros(
                (*result.shape[:place], *positions.shape, *result.shape[place + 1 :]), images.dtype
            )
        else:
            result = np.take(result, positions.clip(0, extent - 1), axis=place)
        valid = valid[..., None, None] & inside
    result = np.where(valid, result, np.asarray(fill, images.dtype))
    rank = len(kernel)
    order = (0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2))
    turned = result.transpose(order)
    return turned.reshape(*turned.shape[: 2 + rank], int(np.prod(kernel)))


def _convolve(images: np.ndarray, weights: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    kernel = weights.shape[2:]
    window = attribute_window("conv", attributes, kernel)
    outputs = [int(str(window.output_extent(i, e))) for i, e in enumerate(images.shape[2:])]
    groups = int(attributes.get("group", 1))
    columns = gather_windows(images, attributes, kernel, outputs, 0)
    columns = columns.reshape(images.shape[0], groups, weights.shape[1], *outputs, columns.shape[-1])
    filters = weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], columns.shape[-1])
    result = np.einsum("ngc...t,gmct->ngm...", columns, filters)
    return np.asarray(result.reshape(images.shape[0], weights.shape[0], *outputs))


def _per_channel(numbers: np.ndarray, rank: int) -> np.ndarray:
    return numbers.reshape(-1, *(1,) * (rank - 2)) if numbers.size > 1 else numbers.reshape(())


def reference_conv(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Cross-correlation of images with filters plus bias, in float64."""
    images, weights = widen(inputs[0]), widen(inputs[1])
    result = _convolve(images, weights, attributes)
    if len(inputs) > 2 and inputs[2] is not None:
        result = result + widen(inputs[2]).reshape(-1, *(1,) * (images.ndim - 2))
    return (result.astype(_dtype(inputs)),)


def _shifted(inputs: Arrays, value: int, zero: int, *, weights: bool) -> np.ndarray:
    array = widen(inputs[value]).astype(np.int64)
    shift = inputs[zero] if zero < len(inputs) else None
    if shift is None:
        return array
    numbers = shift.astype(np.int64)
    return array - (numbers.reshape(-1, *(1,) * (array.ndim - 1)) if weights else numbers.reshape(()))


def reference_conv_integer(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Exact integer convolution; padding counts as the zero point."""
    images = _shifted(inputs, 0, 2, weights=False)
    weights = _shifted(inputs, 1, 3, weights=True)
    return (_convolve(images, weights, attributes).astype(np.int32),)


def reference_quantised_conv(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Exact integer convolution, scaled in float32 and saturated."""
    images = _shifted(inputs, 0, 2, weights=False)
    total = _convolve(images, _shifted(inputs, 3, 5, weights=True), attributes)
    if len(inputs) > 8 and inputs[8] is not None:
        total = total + inputs[8].astype(np.int64).reshape(-1, *(1,) * (images.ndim - 2))
    image_scale, scale = (widen(inputs[i]).astype(np.float32).reshape(()) for i in (1, 6))
    factor = image_scale * _per_channel(widen(inputs[4]).astype(np.float32), images.ndim) / scale
    return (saturate(np.rint(total.astype(np.float32) * factor), widen(inputs[7]).reshape(())),)


def reference_conv_transpose(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Every input times every filter, scattered and summed."""
    images, weights = widen(inputs[0]), widen(inputs[1])
    kernel, rank, groups = weights.shape[2:], images.ndim - 2, int(attributes.get("group", 1))
    window = attribute_window("conv_transpose", attributes, kernel)
    extra = attributes.get("output_padding") or (0,) * rank
    before, after = ([int(str(d)) for d in pads] for pads in (window.before, window.after))
    full = [window.strides[i] * (images.shape[2 + i] - 1) + extra[i] + window.span(i) for i in range(rank)]
    channels = weights.shape[1] * groups
    result = np.zeros((images.shape[0], channels, *full))
    split = images.reshape(images.shape[0], groups, -1, *images.shape[2:])
    filters = weights.reshape(groups, -1, *weights.shape[1:])
    for tap in product(*(range(k) for k in kernel)):
        index: tuple[Any, ...] = (..., *tap)
        term = np.einsum("ngc...,gcm->ngm...", split, filters[index])
        places = tuple(
            slice(k * d, k * d + s * (e - 1) + 1, s)
            for k, d, s, e in zip(tap, window.dilations, window.strides, images.shape[2:], strict=True)
        )
        result[(slice(None), slice(None), *places)] += term.reshape(
            images.shape[0], channels, *images.shape[2:]
        )
    pads = [(max(0, -low), max(0, -high)) for low, high in zip(before, after, strict=True)]
    result = np.pad(result, [(0, 0), (0, 0), *pads])
    crop = tuple(
        slice(max(0, low), e - max(0, high))
        for low, high, e in zip(before, after, result.shape[2:], strict=True)
    )
    result = result[(slice(None), slice(None), *crop)]
    if len(inputs) > 2 and inputs[2] is not None:
        result = result + widen(inputs[2]).reshape(-1, *(1,) * rank)
    return (result.astype(_dtype(inputs)),)


def _dtype(inputs: Arrays) -> np.dtype:
    first = inputs[0]
    return np.dtype(np.float64) if first is None else first.dtype
