"""Native code of softmax, log-softmax and hardmax along one axis.

Softmax takes three passes over a line that stays in cache: the maximum, the exponentials of the differences
with their sum, and the scaling. A unit is a contiguous row folded in vector lanes, or a strip of
neighbouring lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import DTypeRefused, KernelCall, Work
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.pointwise.expression import compute_dtype
from plumbline.kernels.reduction.axes import Line, for_each_line, for_each_strip, normal_axis, split_at
from plumbline.kernels.reduction.extreme_kernel import find_extreme, find_extreme_of_row
from plumbline.kernels.reduction.rows import RowFold, fold_row
from plumbline.kernels.reduction.windows import Window, each_window, has_masks

__all__ = ["HardmaxKernel", "SoftmaxKernel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """A line of the input and of the output, `lanes` neighbouring ones at a time (1: the contiguous row)."""

    builder: FunctionBuilder
    source: TensorRef
    output: TensorRef
    dtype: DType
    extent: Index
    masks: bool


class SoftmaxKernel:
    """`softmax` and `log_softmax`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row, or a strip of neighbouring lines."""
        return line_work(signature, 8.0)

    def emit(self, call: KernelCall) -> None:
        """Three passes a line."""
        b, line = call.builder, line_of(call.signature)
        source, output = call.input(0), call.output()
        dtype = compute_dtype(source.dtype)
        lanes = call.target.vector_bytes // dtype.size_bytes
        extent = call.dim(line.extent)
        frame = _Pass(
            builder=b, source=source, output=output, dtype=dtype, extent=extent,
            masks=has_masks(call.target, source.dtype),
        )  # fmt: skip
        logarithm = call.signature.operation == "log_softmax"
        if line.is_row:
            for_each_line(call, line, 1, lambda start, stride, _: _row(frame, start, lanes, logarithm))
        else:
            stride = call.dim(line.inner)
            for_each_strip(
                call, line, lanes, frame.masks,
                lambda start, window: _lines(frame, start, stride, window, logarithm),
            )  # fmt: skip


class HardmaxKernel:
    """1 at the first maximum of each line, 0 elsewhere."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row, or a strip of neighbouring lines."""
        return line_work(signature, 2.0)

    def emit(self, call: KernelCall) -> None:
        """The place of the maximum, then the line of zeros and ones."""
        b, line = call.builder, line_of(call.signature)
        source, output = call.input(0), call.output()
        extent, lanes = call.dim(line.extent), call.target.lanes(DType.INT64)

        def body(start: Index, stride: Index, width: int) -> None:
            if line.is_row:
                best = find_extreme_of_row(source, start, extent, lanes, largest=True, last=False)
            else:
                best = find_extreme(source, start, stride, extent, width, largest=True, last=False)
            zero = b.const(compute_dtype(output.dtype), 0, width)
            with b.range(0, extent) as i:
                chosen = b.compare("eq", best, b.splat(b.index(i), width))
                output.store_flat(b.cast(b.select(chosen, 1, zero), output.dtype), start + i * stride)

        if isinstance(line.extent, int):
            if line.extent > 0:
                for_each_line(call, line, lanes, body)
            return
        with b.when(b.compare("gt", b.index(extent), 0)):
            for_each_line(call, line, lanes, body)


def line_of(signature: StepSignature) -> Line:
    """The input around the axis of the operation."""
    source = signature.inputs[0]
    if source is None:
        raise DTypeRefused(operation=signature.operation, dtype="none", needed="input 0")
    axis = normal_axis(signature.operation, int(signature.attributes.get("axis", -1)), source.rank)
    return split_at(source.shape, axis)


def line_work(signature: StepSignature, element_cost: float) -> Work:
    """Units of an operation that takes lines one by one or in strips."""
    line = line_of(signature)
    extent = line.extent if isinstance(line.extent, int) else 256
    return Work(units=line.units, unit_cost=element_cost * line.lines_per_unit * max(extent, 8))


def _row(frame: _Pass, start: Index, lanes: int, logarithm: bool) -> None:
    b, count = frame.builder, frame.extent
    top = _row_maximum(frame, start, lanes)

    def difference(window: Window) -> Value:
        return b.cast(window.load(frame.source, start), frame.dtype) - top

    keeps = not logarithm and frame.output.dtype is frame.dtype

    def exponential(window: Window) -> Value:
        value = math.exp(b, difference(window))
        if keeps:
            window.store(frame.output, value, start)
        return value

    adds = RowFold(
        builder=b, dtype=frame.dtype, lanes=lanes, neutral=0, combine=lambda x, y: x + y, masks=frame.masks
    )
    total = fold_row(adds, count, exponential)
    finish = _finisher(b, total, logarithm)

    def write(window: Window) -> None:
        if keeps:
            value = window.load(frame.output, start)
        else:
            value = difference(window) if logarithm else math.exp(b, difference(window))
        window.store(frame.output, finish(value), start)

    each_window(b, count, lanes, frame.masks, write)


def _row_maximum(frame: _Pass, start: Index, lanes: int) -> Value:
    """The maximum apart from NaN; a NaN of the line reaches every result through the sum."""
    b = frame.builder
    larger = RowFold(
        builder=b, dtype=frame.dtype, lanes=lanes, neutral=float("-inf"), masks=frame.masks,
        combine=lambda held, x: math.at_least(b, held, x),
    )  # fmt: skip
    return fold_row(larger, frame.extent, lambda w: b.cast(w.load(frame.source, start), frame.dtype))


def _lines(frame: _Pass, start: Index, stride: Index, window: Window, logarithm: bool) -> None:
    b, count, width = frame.builder, frame.extent, window.lanes

    def load(i: Index) -> Value:
        return b.cast(window.load(frame.source, i * stride + start), frame.dtype)

    lowest = b.const(frame.dtype, float("-inf"), width)
    (top,) = b.reduce(0, count, [lowest], lambda i, held: [math.at_least(b, held[0], load(i))])
    keeps = not logarithm and frame.output.dtype is frame.dtype

    def exponential(i: Index) -> Value:
        value = math.exp(b, load(i) - top)
        if keeps:
            window.store(frame.output, value, i * stride + start)
        return value

    zero = b.const(frame.dtype, 0, width)
    (total,) = b.reduce(0, count, [zero], lambda i, held: [held[0] + exponential(i)])
    finish = _finisher(b, total, logarithm)
    with b.range(0, count) as i:
        place = i * stride + start
        if keeps:
            value = window.load(frame.output, place)
        else:
            value = load(i) - top if logarithm else math.exp(b, load(i) - top)
        window.store(frame.output, finish(value), place)


def _finisher(b: FunctionBuilder, total: Value, logarithm: bool) -> Callable[[Value], Value]:
    """What turns an exponential (or a difference) into the result."""
    if logarithm:
        reference = math.log(b, total)
        return lambda value: value - reference
    scale = 1.0 / total
    return lambda value: value * scale
