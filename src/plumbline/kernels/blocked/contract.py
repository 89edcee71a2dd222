"""Contracts of blocked image operations: logically convolutions, pools, maps on [N, C, H, W] float32.

References work on logical tensors: layouts change addresses, never values. Weights reach a reference
unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, floordiv
from plumbline.contracts.tensors import ROW_MAJOR, DType, TensorType
from plumbline.kernels.blocked.convolution import ConvBlockedKernel
from plumbline.kernels.blocked.grouped import GroupedConvKernel
from plumbline.kernels.blocked.map import (
    BlockKernel,
    ConcatBlockedKernel,
    GlobalMeanKernel,
    MapBlockedKernel,
    UnblockKernel,
)
from plumbline.kernels.blocked.response import LocalResponseBlockedKernel
from plumbline.kernels.blocked.shuffle import ShuffleKernel
from plumbline.kernels.blocked.window import DepthwiseKernel, PoolBlockedKernel
from plumbline.kernels.contract import EXACT, Inference, OperationContract, Precision
from plumbline.kernels.normalization.reference import reference_local_response
from plumbline.kernels.pointwise.compose import reference_epilogue
from plumbline.kernels.rows import images

__all__ = ["CONTRACTS"]

FLOATS = frozenset({DType.FLOAT32})
SUMMED = Precision(relative=1e-4, absolute=2e-4)
AVERAGED = Precision(relative=1e-5, absolute=1e-6)
MAPPED = Precision(relative=1e-4, absolute=1e-6)
NORMALISED = Precision(relative=2e-5, absolute=2e-5)


def window_extent(extent: Dim, before: int, after: int, taps: int, stride: int, dilation: int) -> Dim:
    """Output extent of a sliding window (floor mode; ceil mode is in the pads)."""
    return floordiv(extent + (before + after - dilation * (taps - 1) - 1), stride) + 1


def _window_shape(inference: Inference, channels: Dim) -> tuple[TensorType, ...]:
    x, a = inference.type(0), inference.attributes
    inference.require(x.rank == 4 and x.dtype is DType.FLOAT32, "expected a float32 [N, C, H, W]")
    (kh, kw), (sh, sw), (dh, dw) = a["kernel"], a["strides"], a["dilations"]
    top, left, bottom, right = a["pads"]
    h = window_extent(x.shape[2], top, bottom, kh, sh, dh)
    w = window_extent(x.shape[3], left, right, kw, sw, dw)
    return (TensorType(DType.FLOAT32, (x.shape[0], channels, h, w)),)


def _infer_conv(inference: Inference) -> tuple[TensorType, ...]:
    w = inference.type(1)
    inference.require(w.rank == 4 and w.shape[1] == inference.type(0).shape[1], "channels differ")
    return _window_shape(inference, w.shape[0])


def _infer_grouped(inference: Inference) -> tuple[TensorType, ...]:
    x, w, group = inference.type(0), inference.type(1), inference.attributes["group"]
    order = inference.attributes.get("order")
    inference.require(w.rank == 4 and x.shape[1] == w.shape[1] * group, "channels differ")
    inference.require(
        order is None or sorted(order) == list(range(int(str(x.shape[1])))), "order is no permutation"
    )
    return _window_shape(inference, w.shape[0])


def _grouped(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Input 2, the table of channels, is for native code only; `order` says the same."""
    x, w = (np.asarray(i, np.float64) for i in inputs[:2] if i is not None)
    operands = [np.asarray(i, np.float64) for i in inputs[3:] if i is not None]
    order, group = attributes.get("order"), attributes["group"]
    x = x if order is None else x[:, list(order)]
    parts = [
        np.einsum("nchwyx,ocyx->nohw", _windows(part, attributes, 0.0), kernel, optimize=True)
        for part, kernel in zip(np.split(x, group, axis=1), np.split(w, group, axis=0), strict=True)
    ]
    y = reference_epilogue(np.concatenate(parts, axis=1), _operands(operands), attributes.get("epilogue", ()))
    return (y.astype(np.float32),)


def _infer_shuffle(inference: Inference) -> tuple[TensorType, ...]:
    x, groups = inference.type(0), inference.attributes["groups"]
    channels = x.shape[1] if x.rank == 4 else 0
    inference.require(
        isinstance(channels, int) and groups > 0 and channels % groups == 0, "groups must divide channels"
    )
    return (TensorType(x.dtype, x.shape),)


def _shuffle(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x = np.asarray(inputs[0])
    n, c, h, w = x.shape
    groups = attributes["groups"]
    return (x.reshape(n, groups, c // groups, h, w).transpose(0, 2, 1, 3, 4).reshape(n, c, h, w),)


def _infer_depthwise(inference: Inference) -> tuple[TensorType, ...]:
    x, w = inference.type(0), inference.type(1)
    inference.require(w.rank == 4 and w.shape[0] == x.shape[1] and w.shape[1] == 1, "one kernel per channel")
    return _window_shape(inference, x.shape[1])


def _infer_pool(inference: Inference) -> tuple[TensorType, ...]:
    return _window_shape(inference, inference.type(0).shape[1])


def _infer_map(inference: Inference) -> tuple[TensorType, ...]:
    images = [t for t in inference.inputs if t is not None and t.rank == 4 and t.layout != ROW_MAJOR]
    inference.require(bool(images), "no operand is a blocked image")
    full = next((t.shape for t in images if t.shape[2:] != (1, 1)), images[0].shape)
    fits = all(t.shape in (full, (*full[:2], 1, 1)) for t in images)
    inference.require(fits, "image operands differ in shape")
    return (TensorType(DType.FLOAT32, full),)


def _infer_concat(inference: Inference) -> tuple[TensorType, ...]:
    types = [inference.type(i) for i in range(len(inference.inputs))]
    first = types[0].shape
    inference.require(
        all(t.rank == 4 and (t.shape[0], *t.shape[2:]) == (first[0], *first[2:]) for t in types),
        "images differ",
    )
    channels: Dim = 0
    for type_ in types:
        channels = channels + type_.shape[1]
    return (TensorType(DType.FLOAT32, (first[0], channels, *first[2:])),)


def _concat(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    return (np.concatenate([np.asarray(i) for i in inputs if i is not None], axis=1),)


def _infer_same(inference: Inference) -> tuple[TensorType, ...]:
    x = inference.type(0)
    inference.require(x.rank == 4 and x.dtype is DType.FLOAT32, "expected a float32 [N, C, H, W]")
    return (TensorType(DType.FLOAT32, x.shape),)


def _infer_mean(inference: Inference) -> tuple[TensorType, ...]:
    x = inference.type(0)
    inference.require(x.rank == 4 and x.dtype is DType.FLOAT32, "expected a float32 [N, C, H, W]")
    return (TensorType(DType.FLOAT32, (*x.shape[:2], 1, 1)),)


def _operands(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Per-channel vectors as [C, 1, 1], so that they broadcast over pixels."""
    return [a.reshape(-1, 1, 1) if a.ndim == 1 and a.size > 1 else a for a in arrays]


def _windows(x: np.ndarray, a: Mapping[str, Any], fill: float) -> np.ndarray:
    """[N, C, OH, OW, KH, KW] view of a padded image."""
    top, left, bottom, right = a["pads"]
    (kh, kw), (sh, sw), (dh, dw) = a["kernel"], a["strides"], a["dilations"]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(
        padded, (dh * (kh - 1) + 1, dw * (kw - 1) + 1), axis=(2, 3)
    )
    return view[:, :, ::sh, ::sw, ::dh, ::dw]


def _conv(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x, w, *operands = (np.asarray(i, np.float64) for i in inputs if i is not None)
    y = np.einsum("nchwyx,ocyx->nohw", _windows(x, attributes, 0.0), w, optimize=True)
    return (reference_epilogue(y, _operands(operands), attributes.get("epilogue", ())).astype(np.float32),)


def _depthwise(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x, w, *operands = (np.asarray(i, np.float64) for i in inputs if i is not None)
    y = np.einsum("nchwyx,cyx->nchw", _windows(x, attributes, 0.0), w[:, 0], optimize=True)
    return (reference_epilogue(y, _operands(operands), attributes.get("epilogue", ())).astype(np.float32),)


def _pool(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x, *operands = (np.asarray(i, np.float64) for i in inputs if i is not None)
    if attributes["mode"] == "max":
        y = _windows(x, attributes, -np.inf).max(axis=(4, 5))
    elif attributes.get("include_pad"):
        y = _windows(x, attributes, 0.0).mean(axis=(4, 5))
    else:
        inside = _windows(np.ones_like(x), attributes, 0.0).sum(axis=(4, 5))
        y = _windows(x, attributes, 0.0).sum(axis=(4, 5)) / np.maximum(inside, 1)
    return (reference_epilogue(y, _operands(operands), attributes.get("epilogue", ())).astype(np.float32),)


def _map(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    first, *rest = _operands([np.asarray(i, np.float64) for i in inputs if i is not None])
    shape = np.broadcast_shapes(*(i.shape for i in (first, *rest)))
    value = reference_epilogue(np.broadcast_to(first, shape), rest, attributes["program"])
    return (np.broadcast_to(value, shape).astype(np.float32),)


def _copy(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    return (np.asarray(inputs[0]).copy(),)


def _mean(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    return (np.asarray(inputs[0], np.float64).mean(axis=(2, 3), keepdims=True).astype(np.float32),)


def _contract(
    name: str, infer: Any, reference: Any, kernel: Any, precision: Precision = EXACT
) -> OperationContract:
    return OperationContract(
        name=name, infer=infer, reference=reference, kernel=kernel, precision=precision, dtypes=FLOATS,
        rows=images, inplace=((0, 0),) if name == "map_blocked" else (),
    )  # fmt: skip


CONTRACTS = (
    _contract("conv_blocked", _infer_conv, _conv, ConvBlockedKernel(), SUMMED),
    _contract("conv_grouped_blocked", _infer_grouped, _grouped, GroupedConvKernel(), SUMMED),
    _contract("channel_shuffle", _infer_shuffle, _shuffle, ShuffleKernel()),
    _contract("depthwise_blocked", _infer_depthwise, _depthwise, DepthwiseKernel(), SUMMED),
    _contract("pool_blocked", _infer_pool, _pool, PoolBlockedKernel(), AVERAGED),
    _contract("map_blocked", _infer_map, _map, MapBlockedKernel(), MAPPED),
    _contract("concat_blocked", _infer_concat, _concat, ConcatBlockedKernel()),
    _contract("block_image", _infer_same, _copy, BlockKernel()),
    _contract("unblock_image", _infer_same, _copy, UnblockKernel()),
    _contract(
        "local_response_blocked", _infer_same, reference_local_response, LocalResponseBlockedKernel(),
        NORMALISED,
    ),
    _contract("global_mean_blocked", _infer_mean, _mean, GlobalMeanKernel(), SUMMED),
    OperationContract(
        name="unblock_view", infer=_infer_same, reference=_copy, kernel=None, is_view=True, dtypes=FLOATS,
        rows=images,
    ),
)  # fmt: skip
