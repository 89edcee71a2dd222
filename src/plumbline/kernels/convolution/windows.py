"""Sliding windows over spatial axes: output extents, and loops over the taps that lie inside the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.contracts.dims import Dim, add, floordiv, maximum, minimum, sub
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import AttributeRefused, Inference
from plumbline.kernels.convolution.masks import lane_numbers, within
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.tensor import DimEmitter

__all__ = ["Tap", "Window", "attribute_window", "loop_taps", "window_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window per spatial axis. Only padding may be symbolic (automatic padding of symbolic extents)."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Dim, ...]
    after: tuple[Dim, ...]

    @property
    def taps(self) -> int:
        """Positions of a whole window."""
        total = 1
        for k in self.kernel:
            total *= k
        return total

    def span(self, axis: int) -> int:
        """Input positions from the first tap to the last, both included."""
        return self.dilations[axis] * (self.kernel[axis] - 1) + 1

    def output_extent(self, axis: int, extent: Dim, *, ceil: bool = False) -> Dim:
        """Windows along an axis; with `ceil` a last partial window counts if it starts inside the input or
        the padding before it."""
        room = sub(add(extent, add(self.before[axis], self.after[axis])), self.span(axis))
        stride = self.strides[axis]
        if not ceil:
            return maximum(add(floordiv(room, stride), 1), 0)
        windows = add(floordiv(add(room, stride - 1), stride), 1)
        inside = floordiv(sub(add(extent, self.before[axis]), 1), stride)
        return maximum(minimum(windows, add(inside, 1)), 0)

    def emit_before(self, dim: DimEmitter) -> tuple[Index, ...]:
        """Padding before each axis as indices."""
        return tuple(dim(d) for d in self.before)


def window_of(inference: Inference, kernel: Sequence[Dim]) -> Window:
    """The window of a step: `kernel` with attributes strides, dilations and pads (all begins, then all ends).

    Raises:
        AttributeRefused: a length or a value does not fit.
    """
    rank = len(kernel)
    attributes = inference.attributes
    sizes = _numbers(inference, "kernel", kernel, rank, low=1)
    strides = _numbers(inference, "strides", attributes.get("strides") or (1,) * rank, rank, low=1)
    dilations = _numbers(inference, "dilations", attributes.get("dilations") or (1,) * rank, rank, low=1)
    pads = tuple(attributes.get("pads") or (0,) * (2 * rank))
    if len(pads) != 2 * rank:
        raise _refused(inference, "pads", pads, f"needs {2 * rank} numbers")
    return Window(kernel=sizes, strides=strides, dilations=dilations, before=pads[:rank], after=pads[rank:])


def _numbers(
    inference: Inference, name: str, values: Sequence[Any], rank: int, *, low: int
) -> tuple[int, ...]:
    if len(values) != rank or not all(isinstance(v, int) and v >= low for v in values):
        raise _refused(inference, name, tuple(values), f"needs {rank} integers of at least {low}")
    return tuple(values)


def _refused(inference: Inference, name: str, value: object, reason: str) -> AttributeRefused:
    return AttributeRefused(operation=inference.operation, attribute=name, value=str(value), reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """One tap for a vector of windows.

    Attributes:
        number: position in the window, row-major.
        row: offset of the input row in its image, in elements.
        positions: int32 positions in the row.
        valid: lanes whose position lies inside the image.
        step: distance of neighbouring positions.
    """

    number: Index
    row: Index
    positions: Value
    valid: Value
    step: int


def loop_taps(
    b: FunctionBuilder,
    window: Window,
    before: Sequence[Index],
    extents: Sequence[Index],
    outer: Sequence[Index],
    first: Index,
    lanes: int,
    initial: Sequence[Value],
    body: Callable[[Tap, list[Value]], Sequence[Value]],
) -> list[Value]:
    """Fold `body` over the taps of the windows at output position `(*outer, first .. first + lanes)`.

    Taps outside the image along an outer axis are skipped; along the last axis their lanes are off. The order
    is row-major in the window.

    Args:
        b: function that receives the code.
        window: its shape.
        before: padding before each axis.
        extents: spatial extents of the input.
        outer: output position along all axes but the last.
        first: first output position along the last axis.
        lanes: windows side by side.
        initial: values before the first tap.
        body: values after a tap.
    """
    last = len(extents) - 1

    def along(axis: int, number: Index, row: Index, carried: list[Value]) -> Sequence[Value]:
        if axis == last:
            return _innermost(number, row, carried)
        origin = outer[axis] * window.strides[axis] - before[axis]
        low, high = _inside(b, window, axis, origin, extents[axis])

        def step(k: Index, values: list[Value]) -> Sequence[Value]:
            position = k * window.dilations[axis] + origin
            return along(
                axis + 1, number * window.kernel[axis] + k, (row + position) * extents[axis + 1], values
            )

        return b.reduce(low, high, carried, step)

    def _innermost(number: Index, row: Index, carried: list[Value]) -> Sequence[Value]:
        stride = window.strides[last]
        origin = b.index(first * stride - before[last])
        starts = b.splat(b.cast(origin, DType.INT32), lanes) + lane_numbers(b, lanes, stride)

        def step(k: Index, values: list[Value]) -> Sequence[Value]:
            shift = b.cast(b.index(k * window.dilations[last]), DType.INT32)
            positions = starts + b.splat(shift, lanes)
            valid = within(b, positions, extents[last])
            total = number * window.kernel[last] + k
            return body(Tap(number=total, row=row, positions=positions, valid=valid, step=stride), values)

        return b.reduce(0, window.kernel[last], carried, step)

    return list(along(0, 0, 0, list(initial)))


def _inside(
    b: FunctionBuilder, window: Window, axis: int, origin: Index, extent: Index
) -> tuple[Index, Index]:
    """The taps `[low, high)` along an axis that fall inside the image."""
    dilation, kernel = window.dilations[axis], window.kernel[axis]
    if isinstance(origin, int) and isinstance(extent, int):
        return max(0, -(origin // dilation)), min(kernel, -((origin - extent) // dilation))
    start, room = b.index(origin), b.index(extent - origin)
    low = b.maximum((dilation - 1 - start) // dilation, 0)
    return low, b.minimum((room + (dilation - 1)) // dilation, kernel)


def attribute_window(operation: str, attributes: Mapping[str, Any], kernel: Sequence[Dim]) -> Window:
    """`window_of` for a step whose shapes were checked before."""
    return window_of(Inference(operation=operation, inputs=(), attributes=attributes), kernel)
