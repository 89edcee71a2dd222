"""`conv_transpose`: every output element gathers the inputs that reach it, so units never share an output."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plumbline.contracts.dims import Dim, add, maximum, mul, sub
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.convolution.direct import Plan, convolution_work
from plumbline.kernels.convolution.masks import (
    lane_numbers,
    load_lanes,
    power_of_two_lanes,
    store_lanes,
    within,
)
from plumbline.kernels.convolution.windows import Window, window_of
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.matrix.tile import accumulate, multiply_add

__all__ = ["ConvTransposeKernel", "infer_conv_transpose"]


def infer_conv_transpose(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `conv_transpose(x [N, C, ...], w [C, M / group, ...], bias?)`.

    Attributes: strides, dilations, pads, group, output_padding. An extent is
    `stride * (input - 1) + output_padding + span - pads`.
    """
    images, weights = inference.type(0), inference.type(1)
    if images.dtype is not weights.dtype or not images.dtype.is_float:
        raise DTypeRefused(
            operation="conv_transpose",
            dtype=f"{images.dtype}, {weights.dtype}",
            needed="one float type for both",
        )
    inference.require(
        images.rank >= 3 and weights.rank == images.rank, "images and weights have the same rank >= 3"
    )
    group = inference.attributes.get("group", 1)
    outputs = weights.shape[1]
    inference.require(weights.shape[0] == images.shape[1], "weights and images have the same channels")
    inference.require(isinstance(outputs, int) and isinstance(weights.shape[0], int), "channels are static")
    inference.require(
        int(str(weights.shape[0])) % group == 0, f"{weights.shape[0]} channels in {group} groups"
    )
    channels = mul(outputs, group)
    if len(inference.inputs) > 2 and inference.inputs[2] is not None:
        bias = inference.inputs[2]
        inference.require(
            bias.shape == (channels,) and bias.dtype is images.dtype, f"bias {bias} does not fit"
        )
    window = window_of(inference, weights.shape[2:])
    extra = inference.attributes.get("output_padding") or (0,) * len(window.kernel)
    spatial = tuple(
        _output_extent(window, axis, extent, extra[axis]) for axis, extent in enumerate(images.shape[2:])
    )
    return (TensorType(images.dtype, (images.shape[0], channels, *spatial)),)


def _output_extent(window: Window, axis: int, extent: Dim, extra: Dim) -> Dim:
    reach = add(mul(window.strides[axis], sub(extent, 1)), add(extra, window.span(axis)))
    return maximum(sub(reach, add(window.before[axis], window.after[axis])), 0)


class ConvTransposeKernel:
    """Native code of `conv_transpose` for every float type."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of outputs for a block of channels."""
        return convolution_work(_plan(signature))

    def emit(self, call: KernelCall) -> None:
        """Rows of outputs; sums run over input channels, then taps in row-major order."""
        b, plan = call.builder, _plan(call.signature)
        images, weights, bias, output = call.input(0), call.input(1), call.optional_input(2), call.output()
        dtype = accumulate(images.dtype)
        units = tuple(call.dim(d) for d in plan.units)
        before = plan.window.emit_before(call.dim)
        extents, width = images.shape[2:], output.shape[-1]
        lanes = power_of_two_lanes(width, call.target.lanes(dtype))
        taps = plan.window.taps
        with b.range(call.begin, call.end) as unit:
            batch, group, block, *outer = unflatten(b, unit, units)
            channels = [_channel(b, plan, block, c) for c in range(plan.block)]
            image = batch * images.strides[0]
            firsts = [
                b.const(dtype, 0) if bias is None
                else b.cast(bias.load_flat(group * plan.channels_out + c), dtype) for c in channels
            ]  # fmt: skip
            with b.range(0, width, lanes) as x:

                def channel(c: Index, sums: list[Value], x: Index = x) -> Sequence[Value]:
                    source = group * plan.channels_in + c
                    plane = source * images.strides[1] + image

                    def tap(
                        number: Index, row: Index, positions: Value, valid: Value, values: list[Value]
                    ) -> list[Value]:
                        zero = b.const(images.dtype, 0, lanes)
                        step = 1 if plan.window.strides[-1] == 1 else 2
                        loaded = load_lanes(b, images, row + plane, positions, valid, step, zero)
                        pixel = b.cast(loaded, dtype)
                        results = []
                        for o, total in zip(channels, values, strict=True):
                            position = (source * plan.channels_out + o) * taps + number
                            weight = b.cast(weights.load_flat(position), dtype)
                            results.append(b.select(valid, multiply_add(b, pixel, weight, total), total))
                        return results

                    return _loop_sources(b, plan.window, before, extents, outer, x, lanes, sums, tap)

                start = [b.splat(first, lanes) for first in firsts]
                sums = b.reduce(0, plan.channels_in, start, channel)
                place = b.splat(b.cast(b.index(x), DType.INT32), lanes) + lane_numbers(b, lanes)
                inside = within(b, place, width)
                for o, total in zip(channels, sums, strict=True):
                    row = output.offset((batch, group * plan.channels_out + o, *outer, x))
                    store_lanes(b, b.cast(total, output.dtype), output.pointer, row, inside)


def _channel(b: FunctionBuilder, plan: Plan, block: Index, number: int) -> Index:
    local: Index = block * plan.block + number
    if number == 0 or plan.channels_out % plan.block == 0:
        return local
    return b.minimum(b.index(local), plan.channels_out - 1)


def _plan(signature: StepSignature) -> Plan:
    inference = Inference(
        operation=signature.operation, inputs=signature.inputs, attributes=signature.attributes
    )
    weights, output = inference.type(1), signature.outputs[0].shape
    groups = int(signature.attributes.get("group", 1))
    channels_in, channels_out = weights.shape[:2]
    if not isinstance(channels_in, int) or not isinstance(channels_out, int):
        raise TypeError("channels are checked by the shape rule")
    return Plan(
        batch=output[0], groups=groups, channels_in=channels_in // groups, channels_out=channels_out,
        output=output[2:], window=window_of(inference, weights.shape[2:]),
    )  # fmt: skip


Source = Callable[[Index, Index, Value, Value, list[Value]], list[Value]]
"""(tap number, row offset, positions, valid lanes, sums) -> sums."""


def _loop_sources(
    b: FunctionBuilder,
    window: Window,
    before: Sequence[Index],
    extents: Sequence[Index],
    outer: Sequence[Index],
    first: Index,
    lanes: int,
    initial: Sequence[Value],
    body: Source,
) -> list[Value]:
    """Fold `body` over the taps that reach outputs `(*outer, first .. first + lanes)`.

    An output o meets tap k at input (o + before - k * dilation) / stride where that is whole and inside.
    """
    last = len(extents) - 1
    stride, dilation = window.strides[last], window.dilations[last]
    origin = b.cast(b.index(first + before[last]), DType.INT32)
    starts = b.splat(origin, lanes) + lane_numbers(b, lanes)

    def along(
        axis: int, number: Index, row: Index, on: Value | None, carried: list[Value]
    ) -> Sequence[Value]:
        if axis == last:
            return innermost(number, row, on, carried)

        def step(k: Index, values: list[Value]) -> Sequence[Value]:
            reach = b.index(outer[axis] + before[axis]) - k * window.dilations[axis]
            source = reach // window.strides[axis]
            whole = b.compare("eq", source * window.strides[axis], reach)
            fits = whole & (reach >= 0) & b.compare("lt", source, b.index(extents[axis]))
            valid = fits if on is None else on & fits
            safe = b.select(valid, source, 0)
            following = (row + safe) * extents[axis + 1]
            return along(axis + 1, number * window.kernel[axis] + k, following, valid, values)

        return b.reduce(0, window.kernel[axis], carried, step)

    def innermost(number: Index, row: Index, on: Value | None, carried: list[Value]) -> Sequence[Value]:
        def step(k: Index, values: list[Value]) -> Sequence[Value]:
            reach = starts - b.splat(b.cast(b.index(k * dilation), DType.INT32), lanes)
            source = reach / stride if stride > 1 else reach
            valid = within(b, source, extents[last])
            if stride > 1:
                valid = valid & b.compare("eq", source * stride, reach) & (reach >= 0)
            if on is not None:
                valid = valid & b.splat(on, lanes)
            return body(number * window.kernel[last] + k, row, source, valid, values)

        return b.reduce(0, window.kernel[last], carried, step)

    return list(along(0, 0, 0, None, list(initial)))
