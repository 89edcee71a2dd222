"""Fractional coordinates as weighted input elements, one axis at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value

__all__ = ["Point", "axis_points", "cross", "cubic_weights", "weighted_sum", "wide_float"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One input element behind an output element.

    Attributes:
        position: element index, always inside the tensor.
        weight: its weight; None for 1.
        valid: whether it counts; None for always.
    """

    position: Value
    weight: Value | None
    valid: Value | None


def wide_float(dtype: DType) -> DType:
    """Where sums of a float type are taken."""
    return DType.FLOAT64 if dtype is DType.FLOAT64 else DType.FLOAT32


def cubic_weights(t: Value, a: float) -> tuple[Value, Value, Value, Value]:
    """Weights of the elements at -1, 0, 1 and 2 for a fraction `t` in [0, 1]."""

    def near(d: Value) -> Value:
        return (d * (a + 2) - (a + 3)) * d * d + 1.0

    def far(d: Value) -> Value:
        return ((d * a - 5 * a) * d + 8 * a) * d - 4 * a

    return far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)


def axis_points(
    b: FunctionBuilder, x: Value, extent: Index, mode: str, padding: str, *, centred: bool
) -> list[Point]:
    """The elements of one axis behind coordinate `x` (in elements).

    Args:
        b: function that receives the code.
        x: coordinate, float32 or float64.
        extent: elements of the axis.
        mode: "nearest" (ties to even), "linear" or "cubic" (a = -0.75).
        padding: "zeros", "border" or "reflection".
        centred: whether the axis ends at element centres (0 and extent - 1) and not half an element outside.
    """
    real = b.cast(b.index(extent), x.dtype)
    low = b.const(x.dtype, 0.0 if centred else -0.5)
    high = real - (1.0 if centred else 0.5)
    if mode == "nearest":
        x = b.intrinsic("llvm.roundeven", x)
    outside = (x < low) | (x > high)
    if padding == "border":
        x = b.select(outside, b.maximum(b.minimum(x, real - 1.0), 0.0), x)
    elif padding == "reflection":
        x = b.select(outside, _reflect(b, x, low, high), x)
    base = b.intrinsic("llvm.floor", x)
    weights: Sequence[Value | None]
    match mode:
        case "nearest":
            steps, weights = range(1), (None,)
        case "linear":
            steps, weights = range(2), (1.0 - (x - base), x - base)
        case _:
            steps, weights = range(-1, 3), cubic_weights(x - base, -0.75)
    return [
        _padded(b, base + float(step), weight, extent, padding, (low, high))
        for step, weight in zip(steps, weights, strict=True)
    ]


def _reflect(b: FunctionBuilder, x: Value, low: Value, high: Value) -> Value:
    """Fold a coordinate back between the borders."""
    span = high - low
    distance = b.absolute(x - low)
    turns = b.intrinsic("llvm.floor", distance / (span * 2.0))
    rest = distance - turns * span * 2.0
    folded = low + b.select(rest > span, span * 2.0 - rest, rest)
    return b.select(span > 0.0, folded, low)


def _padded(
    b: FunctionBuilder,
    at: Value,
    weight: Value | None,
    extent: Index,
    padding: str,
    borders: tuple[Value, Value],
) -> Point:
    valid = None
    if padding == "reflection":
        outside = (at < borders[0]) | (at > borders[1])
        at = b.select(outside, _reflect(b, at, *borders), at)
    index, last = b.cast(at, DType.INT64), b.index(extent) - 1
    if padding == "zeros":
        valid = (index >= 0) & (index <= last)
    return Point(position=b.maximum(b.minimum(index, last), 0), weight=weight, valid=valid)


def cross(b: FunctionBuilder, axes: Sequence[Sequence[Point]], strides: Sequence[Index]) -> list[Point]:
    """All combinations of the points of several axes: positions add up, weights multiply."""
    combined = [Point(position=b.const(DType.INT64, 0), weight=None, valid=None)]
    for points, stride in zip(axes, strides, strict=True):
        combined = [
            Point(
                position=p.position * stride + c.position,
                weight=_both(c.weight, p.weight, lambda u, v: u * v),
                valid=_both(c.valid, p.valid, lambda u, v: u & v),
            )
            for c in combined
            for p in points
        ]
    return combined


def _both(u: Value | None, v: Value | None, join: Callable[[Value, Value], Value]) -> Value | None:
    if u is None or v is None:
        return v if u is None else u
    return join(u, v)


def weighted_sum(
    b: FunctionBuilder, pointer: Pointer, dtype: DType, base: Value, points: Sequence[Point], wide: DType
) -> Value:
    """The sum of the points of one plane, in their order. One unweighted point keeps its type."""
    total: Value | None = None
    for point in points:
        value = b.load(pointer, dtype, base + point.position)
        value = value if point.weight is None else b.cast(value, wide)
        if point.valid is not None:
            value = b.select(point.valid, value, 0)
        if point.weight is not None:
            weight = b.cast(point.weight, wide)
            value = value * weight if total is None else b.fma(value, weight, total)
        total = value
    if total is None:
        raise ValueError("a sum of no points")
    return total
