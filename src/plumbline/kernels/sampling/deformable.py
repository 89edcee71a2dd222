"""`deform_conv`: a 2-D convolution whose window positions are data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, add, floordiv, mul, sub
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, OperationContract, Precision, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.indexing.positions import end_unless_empty
from plumbline.kernels.movement.operands import array, input_type, required_positive, static_extents
from plumbline.kernels.rows import rows_first
from plumbline.kernels.sampling.points import axis_points, cross, weighted_sum, wide_float

__all__ = ["CONTRACTS"]


def _infer(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: x `[N, C, H, W]`, weights `[O, C / group, kh, kw]` (static), offsets
    `[N, G * kh * kw * 2, oh, ow]` (row, then column), optional bias `[O]`
    and mask `[N, G * kh * kw, oh, ow]`.

    Attributes: `strides`, `dilations`, `before`, `after` (two each), `group`, `offset_group` (G).
    """
    x, w, offset, attributes = inference.type(0), inference.type(1), inference.type(2), inference.attributes
    inference.require(x.rank == w.rank == offset.rank == 4, f"only two spatial axes are supported: {x}, {w}")
    inference.require(
        w.is_static and isinstance(x.shape[1], int), f"weights {w} and channels of {x} must be static"
    )
    required_positive(inference, 2, "strides", "dilations")
    for name in ("before", "after"):
        inference.require(len(attributes[name]) == 2, f"{name} needs two pads")
    out_channels, group_channels, kh, kw = static_extents(w.shape)
    (channels,) = static_extents(x.shape[1:2])
    group, offset_group = int(attributes["group"]), int(attributes["offset_group"])
    inference.require(group > 0 and offset_group > 0, "groups are positive")
    inference.require(
        channels == group_channels * group and out_channels % group == 0, f"{w} for {x}, {group} groups"
    )
    inference.require(channels % offset_group == 0, f"{channels} channels in {offset_group} offset groups")
    inference.require(x.shape[2] != 0 and x.shape[3] != 0, f"{x} has no elements to sample")
    size = _output_size(x.shape[2:], (kh, kw), attributes)
    taps = offset_group * kh * kw
    inference.require(
        offset.shape == (x.shape[0], 2 * taps, *size), f"offsets {offset}, needed {2 * taps} x {size}"
    )
    optional = inference.inputs[3:]
    if optional and optional[0] is not None:
        inference.require(optional[0].shape == (out_channels,), f"bias {optional[0]}")
    if len(optional) > 1 and optional[1] is not None:
        inference.require(optional[1].shape == (x.shape[0], taps, *size), f"mask {optional[1]}")
    for type_ in inference.inputs:
        if type_ is not None and (type_.dtype is not x.dtype or not type_.dtype.is_float):
            raise DTypeRefused(operation="deform_conv", dtype=type_.dtype.value, needed="one float type")
    return (TensorType(x.dtype, (x.shape[0], out_channels, *size)),)


def _output_size(
    image: Sequence[Dim], window: Sequence[int], attributes: Mapping[str, Any]
) -> tuple[Dim, ...]:
    keys = (attributes[k] for k in ("strides", "dilations", "before", "after"))
    return tuple(
        add(floordiv(sub(add(extent, low + high), dilation * (k - 1) + 1), stride), 1)
        for extent, k, stride, dilation, low, high in zip(image, window, *keys, strict=True)
    )


class _Kernel:
    """A unit is one output position: its window is sampled once for all output channels, then multiplied."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        n, out_channels, height, width = signature.outputs[0].shape
        samples = _samples(signature)
        wide = wide_float(input_type(signature).dtype)
        cost = 12.0 * samples + 2.0 * samples * static_extents((out_channels,))[0]
        return Work(
            units=mul(n, mul(height, width)), unit_cost=cost, workspace_bytes=samples * wide.size_bytes
        )

    def emit(self, call: KernelCall) -> None:
        b, output = call.builder, call.output()
        n, channels, height, width = output.shape
        position_count = b.index(call.dim(mul(*call.signature.outputs[0].shape[2:])))
        with b.range(call.begin, end_unless_empty(call, call.input(0).shape)) as unit:
            batch, row, column = unflatten(b, unit, (n, height, width))
            position = b.index(unit) % position_count
            self._sample_window(call, batch, (row, column), position, position_count)
            self._multiply(call, b.index(batch) * channels, position, position_count)

    def _sample_window(
        self,
        call: KernelCall,
        batch: Index,
        place: tuple[Index, Index],
        position: Value,
        position_count: Value,
    ) -> None:
        b, x, offset, mask = call.builder, call.input(0), call.input(2), call.optional_input(4)
        wide, attributes = wide_float(x.dtype), call.attributes
        kh, kw = static_extents(input_type(call.signature, 1).shape[2:])
        taps, groups = kh * kw, int(attributes["offset_group"])
        shared = static_extents(input_type(call.signature).shape[1:2])[0] // groups
        with b.range(0, groups) as g, b.range(0, kh) as i, b.range(0, kw) as j:
            tap = b.index(i) * kw + j
            line = (b.index(batch) * groups + g) * taps + tap
            axes = []
            for axis, step in enumerate((i, j)):
                moved = b.cast(offset.load_flat((line * 2 + axis) * position_count + position), wide)
                start = b.index(place[axis]) * int(attributes["strides"][axis]) - int(
                    attributes["before"][axis]
                )
                regular = b.index(step) * int(attributes["dilations"][axis]) + start
                at = b.cast(regular, wide) + moved
                axes.append(axis_points(b, at, x.shape[2 + axis], "linear", "zeros", centred=True))
            points = cross(b, axes, x.strides[2:])
            factor = None if mask is None else b.cast(mask.load_flat(line * position_count + position), wide)
            with b.range(0, shared) as c:
                channel = b.index(g) * shared + c
                plane = (b.index(batch) * x.shape[1] + channel) * x.strides[1]
                value = weighted_sum(b, x.pointer, x.dtype, plane, points, wide)
                b.store(value if factor is None else value * factor, call.workspace, channel * taps + tap)

    def _multiply(self, call: KernelCall, first_line: Value, position: Value, position_count: Value) -> None:
        b, w, bias, output = call.builder, call.input(1), call.optional_input(3), call.output()
        wide, group = wide_float(w.dtype), int(call.attributes["group"])
        out_channels, *window = static_extents(input_type(call.signature, 1).shape)
        length, shared = int(np.prod(window)), out_channels // group
        lanes = call.target.lanes(wide)
        with b.range(0, group) as g, b.range(0, shared) as o:
            channel = b.index(g) * shared + o
            read, samples = channel * length, b.index(g) * length

            def step(i: Index, acc: list[Value], *, width: int) -> list[Value]:
                weight = b.cast(w.load_flat(b.index(i) + read, lanes=width), wide)
                value = b.load(call.workspace, wide, b.index(i) + samples, lanes=width)
                return [b.fma(weight, value, acc[0])]

            whole = length // lanes * lanes
            zero = b.const(wide, 0.0, lanes)
            vector = b.reduce(0, whole, [zero], lambda i, acc: step(i, acc, width=lanes), lanes)[0]
            total = b.reduce_lanes("add", vector)
            total = b.reduce(whole, length, [total], lambda i, acc: step(i, acc, width=1))[0]
            if bias is not None:
                total = total + b.cast(bias.load_flat(channel), wide)
            output.store_flat(b.cast(total, output.dtype), (first_line + channel) * position_count + position)


def _samples(signature: StepSignature) -> int:
    """Values of one window over all input channels."""
    channels = static_extents(input_type(signature).shape[1:2])[0]
    kh, kw = static_extents(input_type(signature, 1).shape[2:])
    return channels * kh * kw


def _reference(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x, w, offset = (array(inputs, i).astype(np.float64) for i in range(3))
    bias = inputs[3] if len(inputs) > 3 else None
    mask = inputs[4] if len(inputs) > 4 else None
    group, groups = attributes["group"], attributes["offset_group"]
    n, channels = x.shape[:2]
    kh, kw = w.shape[2:]
    oh, ow = offset.shape[2:]
    offsets = offset.reshape(n, groups, kh, kw, 2, oh, ow)
    factors = np.ones((n, groups, kh, kw, oh, ow))
    if mask is not None:
        factors = np.asarray(mask).astype(np.float64).reshape(factors.shape)
    windows = np.zeros((n, channels, kh, kw, oh, ow))
    (sh, sw), (dh, dw), (top, left) = (attributes[k] for k in ("strides", "dilations", "before"))
    for item, c, i, j, y, z in np.ndindex(*windows.shape):
        g = c * groups // channels
        row = y * sh - top + i * dh + offsets[item, g, i, j, 0, y, z]
        column = z * sw - left + j * dw + offsets[item, g, i, j, 1, y, z]
        windows[item, c, i, j, y, z] = _at(x[item, c], row, column) * factors[item, g, i, j, y, z]
    parts = windows.reshape(n, group, channels // group, kh, kw, oh, ow)
    kernels = w.reshape(group, w.shape[0] // group, *w.shape[1:])
    result = np.einsum("ngcijyz,gocij->ngoyz", parts, kernels).reshape(n, w.shape[0], oh, ow)
    if bias is not None:
        result = result + np.asarray(bias).astype(np.float64)[:, None, None]
    return (result.astype(array(inputs).dtype),)


def _at(image: np.ndarray, row: float, column: float) -> float:
    """Bilinear value with zeros around the image."""
    total = 0.0
    top, left = int(np.floor(row)), int(np.floor(column))
    for y, u in ((top, 1 - (row - top)), (top + 1, row - top)):
        for x, v in ((left, 1 - (column - left)), (left + 1, column - left)):
            if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                total += float(image[y, x]) * u * v
    return total


CONTRACTS = (
    OperationContract(
        name="deform_conv", infer=_infer, reference=_reference, kernel=_Kernel(), rows=rows_first(0, 2, 4),
        dtypes=frozenset(d for d in DType if d.is_float), precision=Precision(relative=1e-4, absolute=1e-4),
    ),
)  # fmt: skip
