"""`resize`: every mode of ONNX Resize and Upsample, over any axes."""

from __future__ import annotations

from collections.abc import Mapping

from plumbline.contracts.dims import Dim, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    AttributeRefused,
    DTypeRefused,
    Inference,
    KernelCall,
    OperationContract,
    Precision,
    ShapeRefused,
    Work,
)
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.indexing.positions import end_unless_empty
from plumbline.kernels.movement.operands import input_type, required_shape
from plumbline.kernels.movement.runs import RowSplit, bits_of, each_lane_group
from plumbline.kernels.row_rules.layers import resized
from plumbline.kernels.sampling.axis_taps import AxisRule, ComputedTaps, TableTaps, Tap, Taps, tap_table
from plumbline.kernels.sampling.resize_reference import reference

__all__ = ["CHOICES", "CONTRACTS"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "mode": ("nearest", "linear", "cubic"),
    "coordinates": (
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
        "tf_crop_and_resize",
    ),
    "nearest": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
}  # fmt: skip
"""Attributes with closed choices; the names of the values are those of ONNX."""

_LARGEST_TABLE = 1 << 18
_LARGEST_FILTER = 1 << 21
_UNROLLED_TAPS = 4


def _infer(inference: Inference) -> tuple[TensorType, ...]:
    """Attributes.

    `shape` (the whole output), `scales` (for each axis a float, or None for the quotient of the extents),
    `mode`, `coordinates`, `nearest`, `cubic_a`, `exclude_outside`, `antialias`, `extrapolation`, and `roi`
    (starts, then ends, for each axis; () where unused).
    """
    source, attributes = inference.type(0), inference.attributes
    for name, allowed in CHOICES.items():
        if attributes[name] not in allowed:
            raise AttributeRefused(
                operation="resize",
                attribute=name,
                value=str(attributes[name]),
                reason=f"not one of {allowed}",
            )
    shape, scales = required_shape(inference, attributes["shape"]), attributes["scales"]
    inference.require(
        len(shape) == len(scales) == source.rank, "shape and scales need one entry for each axis"
    )
    for scale in scales:
        if scale is not None and not 0 < scale < float("inf"):
            raise AttributeRefused(
                operation="resize", attribute="scales", value=str(scales), reason="not positive"
            )
    for extent, length in zip(source.shape, shape, strict=True):
        inference.require(extent != 0 or length == 0, f"{source} has no elements to resize")
    if source.dtype is DType.BOOL and attributes["mode"] != "nearest":
        raise DTypeRefused(operation="resize", dtype="bool", needed="numbers to interpolate")
    return (TensorType(source.dtype, shape),)


def resized_axes(signature: StepSignature) -> dict[int, AxisRule]:
    """The axes that change, outermost first."""
    source, attributes = input_type(signature), signature.attributes
    rules = {}
    for axis, (extent, length, scale) in enumerate(
        zip(source.shape, attributes["shape"], attributes["scales"], strict=True)
    ):
        roi = attributes["roi"]
        window = (float(roi[axis]), float(roi[axis + source.rank])) if roi else (0.0, 1.0)
        cropped = attributes["coordinates"] == "tf_crop_and_resize" and window != (0.0, 1.0)
        if extent == length and scale in (None, 1.0) and not cropped:
            continue
        if scale is None and isinstance(extent, int) and isinstance(length, int):
            scale = length / extent if extent and length else 1.0
        rules[axis] = AxisRule(
            mode=attributes["mode"], coordinates=attributes["coordinates"], nearest=attributes["nearest"],
            cubic_a=float(attributes["cubic_a"]), exclude_outside=bool(attributes["exclude_outside"]),
            antialias=bool(attributes["antialias"]) and scale is not None and scale < 1.0,
            scale=scale, roi=window,
        )  # fmt: skip
    return rules


def _wide(dtype: DType) -> DType:
    """Where sums are taken: float32 holds values of up to 16 bits exactly."""
    return (
        DType.FLOAT64
        if dtype is DType.FLOAT64 or (dtype.is_integer and dtype.size_bytes > 2)
        else DType.FLOAT32
    )


class _ResizeKernel:
    """A unit is a piece of a row along the last resized axis; what lies behind that axis is contiguous."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """Rows, or parts of long ones."""
        shape = input_type(signature).shape
        for axis, rule in resized_axes(signature).items():
            length = signature.outputs[0].shape[axis]
            static = isinstance(shape[axis], int) and isinstance(length, int)
            if signature.attributes["antialias"] and rule.mode != "nearest" and not static:
                raise ShapeRefused(
                    operation="resize", reason=f"antialias needs static extents, axis {axis} is {shape[axis]}"
                )
            if rule.antialias and isinstance(length, int) and length * rule.taps > _LARGEST_FILTER:
                raise ShapeRefused(
                    operation="resize", reason=f"a filter of {rule.taps} elements on axis {axis}"
                )
        split, inner = _split(signature)
        taps = 1
        for rule in resized_axes(signature).values():
            taps *= rule.taps
        width = inner if isinstance(inner, int) else 64
        return Work(units=split.units, unit_cost=2.0 * taps * split.unit_elements * width)

    def emit(self, call: KernelCall) -> None:
        """Element by element, or vectors of what lies behind the last resized axis."""
        _Emitter(call).emit()


def _split(signature: StepSignature) -> tuple[RowSplit, Dim]:
    """Rows along the last resized axis, and the elements behind it."""
    shape = signature.outputs[0].shape
    last = max(resized_axes(signature), default=len(shape) - 1)
    inner = product(shape[last + 1 :])
    grain = max(16, 1024 // max(inner, 1)) if isinstance(inner, int) else 16
    length = shape[last] if shape else 1
    return RowSplit.plan(product(shape[: max(last, 0)]), length, elements=grain), inner


class _Emitter:
    """Emits one resize step."""

    def __init__(self, call: KernelCall) -> None:
        self.call, self.b = call, call.builder
        self.source, self.output = call.input(0), call.output()
        self.rules = resized_axes(call.signature)
        self.wide = _wide(self.source.dtype)
        self.nearest = call.attributes["mode"] == "nearest"
        self.hoisted: dict[int, list[Tap]] = {}
        self.taps = {axis: self._taps(axis, rule) for axis, rule in self.rules.items()}

    def _taps(self, axis: int, rule: AxisRule) -> Taps:
        extent, length = self.source.shape[axis], self.output.shape[axis]
        if isinstance(extent, int) and isinstance(length, int):
            if not rule.antialias and length * rule.taps > _LARGEST_TABLE:
                return ComputedTaps(self.b, rule, extent, length, self.wide)
            indices, weights = tap_table(rule, extent, length)
            return TableTaps(self.b, indices, weights, self.wide)
        return ComputedTaps(self.b, rule, extent, length, self.wide)

    def emit(self) -> None:
        """The whole step."""
        b, shape = self.b, self.output.shape
        last = max(self.rules, default=len(shape) - 1)
        split, inner_dim = _split(self.call.signature)
        inner = self.call.dim(inner_dim)
        end = end_unless_empty(self.call, self.source.shape)
        with split.each(self.call, self.call.begin, end) as (
            row,
            first,
            count,
        ):
            outer = unflatten(b, row, shape[: max(last, 0)])
            self.hoisted = {a: self._all_taps(a, outer[a]) for a in self.rules if a < last}
            with b.range(0, count) as i:
                position = b.index(i) + first
                place = (*outer, position) if shape else ()
                write = (b.index(row) * (shape[last] if shape else 1) + position) * inner
                self._element(place, write, inner)

    def _all_taps(self, axis: int, index: Index) -> list[Tap]:
        """The taps of an outer axis, which a whole row shares; none where there are many."""
        taps = self.taps[axis]
        return [taps.tap(index, k) for k in range(taps.count)] if taps.count <= _UNROLLED_TAPS else []

    def _element(self, place: tuple[Index, ...], write: Value, inner: Index) -> None:
        """All elements behind one position of the last resized axis."""
        b = self.b
        base: Index = 0
        outside: Value | None = None
        for axis, index in enumerate(place):
            if axis not in self.rules:
                base = b.index(index) * self.source.strides[axis] + base
                continue
            here = self.taps[axis].outside(index)
            outside = here if outside is None else outside if here is None else outside | here
        points = {axis: place[axis] for axis in self.rules}
        dtype = bits_of(self.source.dtype) if self.nearest and outside is None else self.source.dtype

        def body(i: Index, lanes: int) -> None:
            value = self._sum(list(self.rules), points, b.index(base) + i, lanes, dtype)
            stored = value if self.nearest else self._rounded(value)
            if outside is not None:
                fill = b.const(dtype, self._extrapolation(), lanes)
                stored = b.select(outside, fill, stored)
            b.store(stored, self.output.pointer, write + i)

        each_lane_group(b, inner, 1 if inner == 1 else self.call.target.lanes(self.wide), body)

    def _extrapolation(self) -> float | int:
        value = float(self.call.attributes["extrapolation"])
        return value if self.source.dtype.is_float else round(value)

    def _rounded(self, value: Value) -> Value:
        if not self.source.dtype.is_float:
            value = self.b.intrinsic("llvm.roundeven", value)
        return self.b.cast(value, self.source.dtype)

    def _sum(self, axes: list[int], points: dict[int, Index], base: Index, lanes: int, dtype: DType) -> Value:
        """The weighted sum over the taps of the axes, inner axes first."""
        b = self.b
        if not axes:
            value = b.load(self.source.pointer, dtype, base, lanes=lanes)
            return value if self.nearest else b.cast(value, self.wide)
        axis, rest = axes[0], axes[1:]
        taps = self.taps[axis]

        def one(number: Index) -> tuple[Value, Value | None]:
            ready = self.hoisted.get(axis)
            if ready and isinstance(number, int):
                index, weight = ready[number]
            else:
                index, weight = taps.tap(points[axis], number)
            return self._sum(rest, points, index * self.source.strides[axis] + base, lanes, dtype), weight

        if taps.count > _UNROLLED_TAPS:
            zero = b.const(self.wide, 0.0, lanes)
            return b.reduce(0, taps.count, [zero], lambda k, acc: [self._step(acc[0], *one(k))])[0]
        total, weight = one(0)
        if weight is None:
            return total
        total = total * weight
        for number in range(1, taps.count):
            total = self._step(total, *one(number))
        return total

    def _step(self, total: Value, value: Value, weight: Value | None) -> Value:
        return total + value if weight is None else self.b.fma(value, weight, total)


CONTRACTS = (
    OperationContract(
        name="resize", infer=_infer, reference=reference, kernel=_ResizeKernel(), dtypes=frozenset(DType),
        rows=resized,
        precision=Precision(relative=1e-5, absolute=1e-5),
    ),
)  # fmt: skip
