"""`conv` for every float type, `conv_integer` and `qlinear_conv`."""

from __future__ import annotations

from collections.abc import Callable

from plumbline.contracts.dims import Dim
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.convolution.direct import (
    Convolution,
    Plan,
    convolution_work,
    emit_convolution,
    plan_of,
)
from plumbline.kernels.convolution.windows import Window, window_of
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.matrix.quantised import per_line, requantise, require_bytes
from plumbline.kernels.matrix.tile import accumulate

__all__ = ["ConvIntegerKernel", "ConvKernel", "QuantisedConvKernel", "infer_conv", "infer_conv_integer",
           "infer_quantised_conv"]  # fmt: skip


def convolve_shapes(inference: Inference, images: TensorType, weights: TensorType) -> tuple[Dim, ...]:
    """Result shape `[N, M, *spatial]` of images `[N, C, *spatial]` with weights `[M, C / group, *kernel]`.

    Raises:
        ShapeRefused: ranks, channels or groups do not fit.
    """
    inference.require(
        images.rank >= 3 and weights.rank == images.rank, "images and weights have the same rank >= 3"
    )
    group = inference.attributes.get("group", 1)
    channels, inputs, outputs = images.shape[1], weights.shape[1], weights.shape[0]
    inference.require(isinstance(inputs, int) and isinstance(outputs, int), "channels are static")
    inference.require(
        isinstance(inputs, int) and channels == inputs * group, f"{channels} channels for {group} x {inputs}"
    )
    inference.require(
        isinstance(outputs, int) and outputs % group == 0, f"{outputs} outputs in {group} groups"
    )
    window = window_of(inference, weights.shape[2:])
    spatial = [window.output_extent(i, extent) for i, extent in enumerate(images.shape[2:])]
    return (images.shape[0], outputs, *spatial)


def infer_conv(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `conv(x, w, bias?)`: attributes strides, dilations, pads, group."""
    images, weights = inference.type(0), inference.type(1)
    if images.dtype is not weights.dtype or not images.dtype.is_float:
        raise DTypeRefused(
            operation="conv", dtype=f"{images.dtype}, {weights.dtype}", needed="one float type for both"
        )
    _require_bias(inference, 2, weights.shape[0], images.dtype)
    return (TensorType(images.dtype, convolve_shapes(inference, images, weights)),)


def _require_bias(inference: Inference, position: int, channels: Dim, dtype: DType) -> None:
    bias = inference.inputs[position] if position < len(inference.inputs) else None
    if bias is not None:
        fits = bias.shape == (channels,) and bias.dtype is dtype
        inference.require(fits, f"bias {bias} is not {dtype}[{channels}]")


def infer_conv_integer(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `conv_integer(x, w, x_zero?, w_zero?) -> int32`; one `w_zero` per channel is allowed."""
    images, weights = inference.type(0), inference.type(1)
    require_bytes(inference, images, weights)
    _require_lines(inference, ((2, 1), (3, weights.shape[0])))
    return (TensorType(DType.INT32, convolve_shapes(inference, images, weights)),)


def infer_quantised_conv(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `qlinear_conv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias?)`."""
    images, weights, zero = inference.type(0), inference.type(3), inference.type(7)
    require_bytes(inference, images, weights, zero)
    channels = weights.shape[0]
    _require_lines(inference, ((1, 1), (2, 1), (4, channels), (5, channels), (6, 1), (7, 1)))
    _require_bias(inference, 8, channels, DType.INT32)
    return (TensorType(zero.dtype, convolve_shapes(inference, images, weights)),)


def _require_lines(inference: Inference, lines: tuple[tuple[int, Dim], ...]) -> None:
    for position, extent in lines:
        found = inference.inputs[position] if position < len(inference.inputs) else None
        if found is not None:
            fits = found.shape in ((), (1,), (extent,))
            inference.require(fits, f"input {position} {found} is neither one number nor {extent}")


def _plan(signature: StepSignature, images: int, weights: int) -> Plan:
    weight = signature.inputs[weights]
    inference = Inference(
        operation=signature.operation, inputs=signature.inputs, attributes=signature.attributes
    )
    window: Window = window_of(inference, weight.shape[2:] if weight else ())
    return plan_of(signature, images, weights, window)


class ConvKernel:
    """Native code of `conv`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of outputs for a block of channels."""
        return convolution_work(_plan(signature, 0, 1))

    def emit(self, call: KernelCall) -> None:
        """Direct convolution with sums that start at the bias."""
        b = call.builder
        images, weights, bias, output = call.input(0), call.input(1), call.optional_input(2), call.output()
        dtype = accumulate(images.dtype)

        def first(channel: Index) -> Value:
            return b.const(dtype, 0.0) if bias is None else b.cast(bias.load_flat(channel), dtype)

        kind = Convolution(
            dtype=dtype, pixel=lambda value: b.cast(value, dtype),
            weight=lambda channel, position: b.cast(weights.load_flat(position), dtype), first=first,
            finish=lambda total, channel: b.cast(total, output.dtype),
        )  # fmt: skip
        emit_convolution(call, _plan(call.signature, 0, 1), images, kind)


def _integer(
    b: FunctionBuilder,
    weights: TensorRef,
    image_zero: TensorRef | None,
    weight_zero: TensorRef | None,
    first: Callable[[Index], Value],
    finish: Callable[[Value, Index], Value],
) -> Convolution:
    """Sums in int32 of operands less their zero points."""
    shift = b.const(DType.INT32, 0) if image_zero is None else b.cast(image_zero.load_flat(0), DType.INT32)
    zeros = None if weight_zero is None else per_line(b, weight_zero, DType.INT32)

    def weight(channel: Index, position: Index) -> Value:
        value = b.cast(weights.load_flat(position), DType.INT32)
        return value if zeros is None else value - zeros(channel, 1)

    return Convolution(
        dtype=DType.INT32, pixel=lambda value: b.cast(value, DType.INT32) - b.splat(shift, value.lanes),
        weight=weight, first=first, finish=finish,
    )  # fmt: skip


class ConvIntegerKernel:
    """Native code of `conv_integer`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of outputs for a block of channels."""
        return convolution_work(_plan(signature, 0, 1))

    def emit(self, call: KernelCall) -> None:
        """Direct convolution with exact sums."""
        b = call.builder
        kind = _integer(
            b, call.input(1), call.optional_input(2), call.optional_input(3),
            lambda channel: b.const(DType.INT32, 0), lambda total, channel: total,
        )  # fmt: skip
        emit_convolution(call, _plan(call.signature, 0, 1), call.input(0), kind)


class QuantisedConvKernel:
    """Native code of `qlinear_conv`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of outputs for a block of channels."""
        return convolution_work(_plan(signature, 0, 3))

    def emit(self, call: KernelCall) -> None:
        """Direct convolution with exact sums, scaled back to 8 bits."""
        b = call.builder
        output, bias = call.output(), call.optional_input(8)
        image_scale, scale = (b.cast(call.input(i).load_flat(0), DType.FLOAT32) for i in (1, 6))
        weight_scale = per_line(b, call.input(4), DType.FLOAT32)
        zero = b.cast(call.input(7).load_flat(0), DType.INT32)

        def finish(total: Value, channel: Index) -> Value:
            factor = image_scale * weight_scale(channel, 1) / scale
            return requantise(b, total, factor, zero, output.dtype)

        def first(channel: Index) -> Value:
            return b.const(DType.INT32, 0) if bias is None else bias.load_flat(channel)

        kind = _integer(b, call.input(3), call.input(2), call.input(5), first, finish)
        emit_convolution(call, _plan(call.signature, 0, 3), call.input(0), kind)
