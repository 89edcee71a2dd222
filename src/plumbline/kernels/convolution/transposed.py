"""`conv_transpose`: every output element gathers the inputs that reach it, so units never share an output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd

from plumbline.contracts.dims import Dim, add, ceildiv, maximum, mul, sub
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.convolution.direct import Plan, convolution_work
from plumbline.kernels.convolution.masks import (
    lane_numbers,
    load_lanes,
    power_of_two_lanes,
    scatter_lanes,
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


Source = Callable[[Index, Index, Value, Value, list[Value]], list[Value]]
"""(tap number, row offset, positions, valid lanes, sums) -> sums."""


class ConvTransposeKernel:
    """Native code of `conv_transpose` for every float type."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of outputs for a block of channels."""
        return convolution_work(_plan(signature))

    def emit(self, call: KernelCall) -> None:
        """Rows of outputs, one phase of the stride after the other, so that inputs are read side by side."""
        b, plan = call.builder, _plan(call.signature)
        units = tuple(call.dim(d) for d in plan.units)
        rows = _Rows(call, plan)
        stride = plan.window.strides[-1]
        with b.range(call.begin, call.end) as unit:
            batch, group, block, *outer = unflatten(b, unit, units)
            channels = [_channel(b, plan, block, c) for c in range(plan.block)]
            with b.range(0, stride) as phase:
                steps = (rows.width - phase + (stride - 1)) // stride
                with b.range(0, steps, rows.lanes) as i:
                    sums = rows.emit_sums(batch, group, channels, outer, phase, i)
                    rows.emit_store(batch, group, channels, outer, phase, i, sums)


class _Rows:
    """The code of one vector of outputs of one phase: outputs `phase + stride * (i + lane)`."""

    def __init__(self, call: KernelCall, plan: Plan) -> None:
        self.b, self.plan, self.window = call.builder, plan, plan.window
        self.images, self.weights, self.bias = call.input(0), call.input(1), call.optional_input(2)
        self.output = call.output()
        self.dtype = accumulate(self.images.dtype)
        self.before = plan.window.emit_before(call.dim)
        self.extents, self.width = self.images.shape[2:], self.output.shape[-1]
        stride = plan.window.strides[-1]
        extent = plan.output[-1]
        narrow = ceildiv(extent, stride) if isinstance(extent, int) else extent
        self.lanes = power_of_two_lanes(narrow, call.target.lanes(self.dtype))

    def emit_sums(
        self,
        batch: Index,
        group: Index,
        channels: Sequence[Index],
        outer: Sequence[Index],
        phase: Index,
        i: Index,
    ) -> list[Value]:
        """Sums over input channels, then taps in row-major order, for every output channel of the block."""
        b, plan = self.b, self.plan
        image = batch * self.images.strides[0]

        def channel(c: Index, sums: list[Value]) -> Sequence[Value]:
            source = group * plan.channels_in + c
            plane = source * self.images.strides[1] + image

            def tap(
                number: Index, row: Index, positions: Value, valid: Value, values: list[Value]
            ) -> list[Value]:
                zero = b.const(self.images.dtype, 0, self.lanes)
                pixel = b.cast(load_lanes(b, self.images, row + plane, positions, valid, 1, zero), self.dtype)
                results = []
                for o, total in zip(channels, values, strict=True):
                    position = (source * plan.channels_out + o) * self.window.taps + number
                    weight = b.cast(self.weights.load_flat(position), self.dtype)
                    results.append(b.select(valid, multiply_add(b, pixel, weight, total), total))
                return results

            return self._loop_taps(outer, phase, i, sums, tap)

        return b.reduce(0, plan.channels_in, [self._first(group, c) for c in channels], channel)

    def _first(self, group: Index, channel: Index) -> Value:
        if self.bias is None:
            return self.b.const(self.dtype, 0, self.lanes)
        value = self.bias.load_flat(group * self.plan.channels_out + channel)
        return self.b.splat(self.b.cast(value, self.dtype), self.lanes)

    def emit_store(
        self, batch: Index, group: Index, channels: Sequence[Index], outer: Sequence[Index], phase: Index,
        i: Index, sums: Sequence[Value],
    ) -> None:  # fmt: skip
        """Write the lanes that lie inside the row."""
        b, stride = self.b, self.window.strides[-1]
        place = b.splat(b.cast(b.index(phase + i * stride), DType.INT32), self.lanes)
        place = place + lane_numbers(b, self.lanes, stride)
        inside = within(b, place, self.width)
        for o, total in zip(channels, sums, strict=True):
            row = self.output.offset((batch, group * self.plan.channels_out + o, *outer, 0))
            value = b.cast(total, self.output.dtype)
            if stride == 1:
                store_lanes(b, value, self.output.pointer, row + i, inside)
            else:
                scatter_lanes(b, value, self.output.pointer, row, place, inside)

    def _loop_taps(
        self, outer: Sequence[Index], phase: Index, i: Index, initial: Sequence[Value], body: Source
    ) -> list[Value]:
        """Fold `body` over the taps that reach the outputs of a vector.

        Output o meets tap k at input (o + before - k * dilation) / stride where that is whole and inside.
        """
        b, window, last = self.b, self.window, len(self.extents) - 1
        lanes = b.splat(b.cast(b.index(i), DType.INT32), self.lanes) + lane_numbers(b, self.lanes)

        def along(
            axis: int, number: Index, row: Index, on: Value | None, carried: list[Value]
        ) -> Sequence[Value]:
            output = phase if axis == last else outer[axis]
            origin = b.index(output + self.before[axis])
            low, high, stride = _phase_taps(b, window, axis, origin)

            def step(k: Index, values: list[Value]) -> Sequence[Value]:
                source = (origin - k * window.dilations[axis]) // window.strides[axis]
                total = number * window.kernel[axis] + k
                if axis == last:
                    positions = lanes + b.splat(b.cast(source, DType.INT32), self.lanes)
                    valid = within(b, positions, self.extents[axis])
                    valid = valid if on is None else valid & b.splat(on, self.lanes)
                    return body(total, row, positions, valid, values)
                fits = (source >= 0) & b.compare("lt", source, b.index(self.extents[axis]))
                valid_row = fits if on is None else on & fits
                following = (row + b.select(valid_row, source, 0)) * self.extents[axis + 1]
                return along(axis + 1, total, following, valid_row, values)

            return b.reduce(low, high, carried, step, step=stride)

        return list(along(0, 0, 0, None, list(initial)))


def _phase_taps(b: FunctionBuilder, window: Window, axis: int, origin: Value) -> tuple[Index, Index, int]:
    """(first, end, step) of the taps k for which `origin - k * dilation` is a multiple of the stride."""
    stride, dilation, kernel = window.strides[axis], window.dilations[axis], window.kernel[axis]
    if stride == 1:
        return 0, kernel, 1
    common = gcd(stride, dilation)
    step = stride // common
    inverse = pow(dilation // common, -1, step) if step > 1 else 0
    rest = (origin % stride + stride) % stride
    low = (rest // common * inverse) % step
    met = b.compare("eq", rest % common, 0)
    return low, b.select(met, b.index(kernel), 0), step


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
