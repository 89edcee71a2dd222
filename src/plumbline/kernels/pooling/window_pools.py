"""`max_pool`, `average_pool` and `lp_pool`: rows of windows in vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.convolution.masks import (
    lane_numbers,
    load_lanes,
    power_of_two_lanes,
    store_lanes,
    within,
)
from plumbline.kernels.convolution.windows import Tap, Window, loop_taps
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef, unflatten
from plumbline.kernels.matrix.tile import accumulate
from plumbline.kernels.pooling.geometry import pool_units, pool_work, signature_window

__all__ = ["AveragePoolKernel", "LpPoolKernel", "MaxPoolKernel", "lowest", "power_sum", "root"]

Row = Callable[[Sequence[Index], Index, Index, int], Sequence[Value]]
"""(outer output position, plane offset, first column, lanes) -> the vectors to store."""


def _emit_rows(call: KernelCall, lanes: int, row: Row) -> None:
    """Emit every row of the result; `row` computes one vector of it."""
    b = call.builder
    images = call.input(0)
    outputs = [call.output(i) for i in range(len(call.signature.outputs))]
    units = tuple(call.dim(d) for d in pool_units(call.signature))
    width = outputs[0].shape[-1]
    with b.range(call.begin, call.end) as unit:
        batch, channel, *outer = unflatten(b, unit, units)
        plane = images.offset((batch, channel, *(0,) * (images.rank - 2)))
        with b.range(0, width, lanes) as x:
            values = row(outer, plane, x, lanes)
            inside = within(
                b, b.splat(b.cast(b.index(x), DType.INT32), lanes) + lane_numbers(b, lanes), width
            )
            for value, output in zip(values, outputs, strict=True):
                store_lanes(b, b.cast(value, output.dtype), output.pointer, unit * width + x, inside)


def lowest(b: FunctionBuilder, dtype: DType, lanes: int = 1) -> Value:
    """The identity of the maximum."""
    if dtype.is_float:
        return b.const(dtype, float("-inf"), lanes)
    return b.const(dtype, -(1 << (dtype.size_bytes * 8 - 1)) if dtype.is_signed else 0, lanes)


class MaxPoolKernel:
    """Native code of `max_pool` for every number type. NaN wins; of equal maxima the first has the index.

    A window without a single position inside the image yields the lowest value and index 0.
    Attributes: kernel, strides, dilations, pads, ceil, indices, column_major (order that indices count in).
    """

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of the result."""
        return pool_work(signature, 2.0)

    def emit(self, call: KernelCall) -> None:
        """Running maximum over the taps, with its position where indices are wanted."""
        b = call.builder
        images, window = call.input(0), signature_window(call.signature)
        before = window.emit_before(call.dim)
        dtype = accumulate(images.dtype)
        indexed = len(call.signature.outputs) > 1
        widest = DType.INT64 if indexed else dtype
        lanes = power_of_two_lanes(call.output().shape[-1], call.target.lanes(widest))
        order = _index_strides(images, bool(call.attributes.get("column_major", False)))

        def row(outer: Sequence[Index], plane: Index, x: Index, lanes: int) -> Sequence[Value]:
            def tap(t: Tap, best: list[Value]) -> Sequence[Value]:
                off = lowest(b, images.dtype, lanes)
                value = b.cast(load_lanes(b, images, t.row + plane, t.positions, t.valid, t.step, off), dtype)
                if not indexed:
                    return [b.maximum(best[0], value)]
                wins = value > best[0]
                if dtype.is_float:
                    wins = wins | (b.is_nan(value) & ~b.is_nan(best[0]))
                wins = (wins | (best[1] < 0)) & t.valid
                place = _place(b, images, t, order, lanes)
                return [b.select(wins, value, best[0]), b.select(wins, place, best[1])]

            start = [lowest(b, dtype, lanes)]
            if indexed:
                start.append(b.const(DType.INT64, -1, lanes))
            best = loop_taps(b, window, before, images.shape[2:], outer, x, lanes, start, tap)
            if indexed:
                return [best[0], _from_plane(b, images, plane, best[1])]
            return best

        _emit_rows(call, lanes, row)


def _index_strides(images: TensorRef, column_major: bool) -> tuple[Index, ...]:
    """Elements between neighbours along each spatial axis in the order in which indices count."""
    if not column_major:
        return images.strides[2:]
    strides: list[Index] = []
    running: Index = 1
    for extent in images.shape[2:]:
        strides.append(running)
        running = extent * running
    return tuple(strides)


def _place(b: FunctionBuilder, images: TensorRef, tap: Tap, order: tuple[Index, ...], lanes: int) -> Value:
    """Position of a tap inside its plane, int64 per lane."""
    rest: Index = tap.row
    total: Index = 0
    for axis in range(len(order) - 1):
        stride = images.strides[2 + axis]
        total = total + (b.index(rest) // stride) * order[axis]
        rest = b.index(rest) % stride
    column = b.cast(tap.positions, DType.INT64) * b.splat(b.index(order[-1]), lanes)
    return column + b.splat(b.index(total), lanes)


def _from_plane(b: FunctionBuilder, images: TensorRef, plane: Index, place: Value) -> Value:
    """Positions counted over the whole tensor; windows without any position get 0."""
    absolute = place + b.splat(b.index(plane), place.lanes)
    return b.select(place < 0, 0, absolute)


class AveragePoolKernel:
    """Native code of `average_pool`: the sum of the positions inside the image by their number, or, with
    `count_padding`, by the positions of the window inside the padded image."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of the result."""
        return pool_work(signature, 2.0)

    def emit(self, call: KernelCall) -> None:
        """Sum and count over the taps."""
        b = call.builder
        images, window = call.input(0), signature_window(call.signature)
        before = window.emit_before(call.dim)
        after = tuple(call.dim(d) for d in window.after)
        dtype = accumulate(images.dtype)
        lanes = power_of_two_lanes(call.output().shape[-1], call.target.lanes(dtype))
        padded = bool(call.attributes.get("count_padding", False))

        def row(outer: Sequence[Index], plane: Index, x: Index, lanes: int) -> Sequence[Value]:
            zero = b.const(dtype, 0.0, lanes)

            def tap(t: Tap, carried: list[Value]) -> Sequence[Value]:
                off = b.const(images.dtype, 0.0, lanes)
                value = b.cast(load_lanes(b, images, t.row + plane, t.positions, t.valid, t.step, off), dtype)
                return [carried[0] + value, carried[1] + b.select(t.valid, b.const(dtype, 1.0, lanes), zero)]

            total, count = loop_taps(b, window, before, images.shape[2:], outer, x, lanes, [zero, zero], tap)
            if padded:
                count = _padded_count(b, window, before, after, images.shape[2:], outer, x, lanes, dtype)
            return [total / count]

        _emit_rows(call, lanes, row)


def _padded_count(
    b: FunctionBuilder,
    window: Window,
    before: Sequence[Index],
    after: Sequence[Index],
    extents: Sequence[Index],
    outer: Sequence[Index],
    x: Index,
    lanes: int,
    dtype: DType,
) -> Value:
    """Positions of each window inside the padded image: the product of the counts along the axes."""
    last = len(extents) - 1
    total = b.const(DType.INT32, 1, lanes)
    for axis in range(last + 1):
        start = b.splat(b.cast(b.index(x if axis == last else outer[axis]), DType.INT32), lanes)
        if axis == last:
            start = start + lane_numbers(b, lanes)
        room = b.splat(b.cast(b.index(extents[axis] + before[axis] + after[axis]), DType.INT32), lanes)
        left = room - start * window.strides[axis] + (window.dilations[axis] - 1)
        inside = left / window.dilations[axis] if window.dilations[axis] > 1 else left
        total = total * b.maximum(b.minimum(inside, window.kernel[axis]), 0)
    return b.cast(total, dtype)


class LpPoolKernel:
    """Native code of `lp_pool`: the p-th root of the sum of p-th powers of magnitudes."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of the result."""
        return pool_work(signature, 4.0)

    def emit(self, call: KernelCall) -> None:
        """Sum of powers over the taps, then the root."""
        b = call.builder
        images, window = call.input(0), signature_window(call.signature)
        before = window.emit_before(call.dim)
        dtype, p = accumulate(images.dtype), int(call.attributes.get("p", 2))
        lanes = power_of_two_lanes(call.output().shape[-1], call.target.lanes(dtype))

        def row(outer: Sequence[Index], plane: Index, x: Index, lanes: int) -> Sequence[Value]:
            def tap(t: Tap, carried: list[Value]) -> Sequence[Value]:
                off = b.const(images.dtype, 0.0, lanes)
                value = b.cast(load_lanes(b, images, t.row + plane, t.positions, t.valid, t.step, off), dtype)
                return [power_sum(b, value, p, carried[0])]

            start = [b.const(dtype, 0.0, lanes)]
            total = loop_taps(b, window, before, images.shape[2:], outer, x, lanes, start, tap)[0]
            return [root(b, total, p)]

        _emit_rows(call, lanes, row)


def power_sum(b: FunctionBuilder, value: Value, p: int, total: Value) -> Value:
    """`total + |value| ** p` by repeated multiplication."""
    magnitude = b.absolute(value)
    result = magnitude
    for _ in range(p - 1):
        result = result * magnitude
    return total + result


def root(b: FunctionBuilder, total: Value, p: int) -> Value:
    """The p-th root."""
    if p == 1:
        return total
    if p == 2:
        return b.sqrt(total)
    return math.power(b, total, b.const(total.dtype, 1.0 / p, total.lanes))
