"""Native code of arg-max and arg-min: the place of the extreme of each line.

Ties give the first place, or the last on request. NaN counts as more extreme than any number, as in numpy.
"""

from __future__ import annotations

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.pointwise.expression import compute_dtype
from plumbline.kernels.reduction.axes import Line, for_each_line, normal_axis, split_at

__all__ = ["ExtremeKernel", "find_extreme", "find_extreme_of_row"]


class ExtremeKernel:
    """`arg_max` and `arg_min`; the result is int64."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row, or a strip of neighbouring lines."""
        line = _line(signature)
        extent = line.extent if isinstance(line.extent, int) else 256
        return Work(units=line.units, unit_cost=2.0 * line.lines_per_unit * max(extent, 8))

    def emit(self, call: KernelCall) -> None:
        """A scan of each line that carries the best value and its place."""
        b, line = call.builder, _line(call.signature)
        source, output = call.input(0), call.output()
        extent = call.dim(line.extent)
        largest = call.signature.operation == "arg_max"
        last = bool(call.attributes.get("select_last_index", False))
        inner = b.index(call.dim(line.inner))
        lanes = call.target.lanes(DType.INT64)

        def body(start: Index, stride: Index, width: int) -> None:
            if line.is_row:
                best = find_extreme_of_row(source, start, extent, lanes, largest=largest, last=last)
            else:
                best = find_extreme(source, start, stride, extent, width, largest=largest, last=last)
            place = b.index(start)
            outer = place / (inner * extent)
            output.store_flat(best, outer * inner + place % inner)

        if not isinstance(line.extent, int):
            with b.when(b.compare("gt", b.index(extent), 0)):
                for_each_line(call, line, lanes, body)
        else:
            for_each_line(call, line, lanes, body)


def find_extreme(
    source: TensorRef, start: Index, stride: Index, extent: Index, width: int, *, largest: bool, last: bool
) -> Value:
    """Places (int64) of the extremes of `width` neighbouring lines of at least one element."""
    b = source.builder
    dtype = compute_dtype(source.dtype)

    def load(i: Index) -> Value:
        return b.cast(source.load_flat(i * stride + start, lanes=width), dtype)

    def step(i: Index, held: list[Value]) -> list[Value]:
        value = load(i)
        better = _better(b, value, held[0], largest, last)
        return [b.select(better, value, held[0]), b.select(better, b.splat(b.index(i), width), held[1])]

    initial = [load(0), b.const(DType.INT64, 0, width)]
    return b.reduce(1, extent, initial, step)[1]


def find_extreme_of_row(
    source: TensorRef, start: Index, extent: Index, lanes: int, *, largest: bool, last: bool
) -> Value:
    """Place (int64) of the extreme of one contiguous row: each lane keeps its own, then they compete."""
    b = source.builder
    dtype = compute_dtype(source.dtype)
    numbers = b.module.table(f"lane_numbers_{lanes}", DType.INT64, range(lanes))
    offsets = b.load(numbers, DType.INT64, 0, lanes=lanes)

    def load(i: Index, width: int) -> Value:
        return b.cast(source.load_flat(start + i, lanes=width), dtype)

    def step(i: Index, held: list[Value]) -> list[Value]:
        value = load(i, lanes)
        better = _better(b, value, held[0], largest, last)
        return [b.select(better, value, held[0]), b.select(better, offsets + b.index(i), held[1])]

    first = load(0, 1)
    initial = [b.splat(first, lanes), b.const(DType.INT64, 0, lanes)]
    whole = extent // lanes * lanes if isinstance(extent, int) else extent - extent % lanes
    values, places = b.reduce(0, whole, initial, step, lanes)
    best, place = b.extract(values, 0), b.extract(places, 0)
    for lane in range(1, lanes):
        value, other = b.extract(values, lane), b.extract(places, lane)
        wins = _wins(b, (value, other), (best, place), largest, last)
        best, place = b.select(wins, value, best), b.select(wins, other, place)

    def rest(i: Index, held: list[Value]) -> list[Value]:
        value = load(i, 1)
        better = _better(b, value, held[0], largest, last)
        return [b.select(better, value, held[0]), b.select(better, b.index(i), held[1])]

    return b.reduce(whole, extent, [best, place], rest)[1]


def _wins(
    b: FunctionBuilder, a: tuple[Value, Value], c: tuple[Value, Value], largest: bool, last: bool
) -> Value:
    """Whether (value, place) `a` beats `c`: by value, among equals by place."""
    ahead = _better(b, a[0], c[0], largest, last=False)
    behind = _better(b, c[0], a[0], largest, last=False)
    nearer = b.compare("gt" if last else "lt", a[1], c[1])
    return ahead | (~behind & nearer)


def _better(b: FunctionBuilder, value: Value, held: Value, largest: bool, last: bool) -> Value:
    """Whether a later value takes the place of the one held."""
    if value.dtype is DType.BOOL:
        value, held = b.cast(value, DType.UINT8), b.cast(held, DType.UINT8)
    predicate = ("ge" if last else "gt") if largest else ("le" if last else "lt")
    better = b.compare(predicate, value, held)
    if not value.dtype.is_float:
        return better
    if last:
        return (better & ~b.is_nan(held)) | b.is_nan(value)
    return better | (b.is_nan(value) & ~b.is_nan(held))


def _line(signature: StepSignature) -> Line:
    source = signature.inputs[0]
    if source is None:
        raise ShapeRefused(operation=signature.operation, reason="input 0 is missing")
    axis = normal_axis(signature.operation, int(signature.attributes.get("axis", 0)), source.rank)
    return split_at(source.shape, axis)
