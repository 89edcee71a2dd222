"""Where each output coordinate of a resized axis looks in the input, and with which weights.

Static axes become tables of the compiled module; axes with symbolic extents compute the same numbers at run
time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value

__all__ = ["AxisRule", "ComputedTaps", "TableTaps", "Tap", "Taps", "tap_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRule:
    """How one axis is resized.

    Attributes:
        mode: "nearest", "linear" or "cubic".
        coordinates: ONNX coordinate_transformation_mode.
        nearest: ONNX nearest_mode.
        cubic_a: coefficient of cubic interpolation.
        exclude_outside: whether weights outside the input become 0 and the rest is normalised.
        antialias: whether the filter widens when shrinking.
        scale: output per input extent, or None for the quotient of the extents.
        roi: start and end of the region that tf_crop_and_resize reads, in parts of the axis.
    """

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float
    exclude_outside: bool
    antialias: bool
    scale: float | None
    roi: tuple[float, float]

    @property
    def reach(self) -> int:
        """Taps before the base position (counted down from it), so that 2 + 2 * reach taps are read."""
        if self.mode == "nearest":
            return 0
        radius = 1 if self.mode == "linear" else 2
        if not self.antialias or self.scale is None:
            return radius - 1
        return -(math.floor(-radius / min(self.scale, 1.0)) + 1)

    @property
    def taps(self) -> int:
        """Input elements behind one output element."""
        return 1 if self.mode == "nearest" else 2 + 2 * self.reach


def source_coordinates(rule: AxisRule, extent: int, length: int) -> np.ndarray:
    """Input coordinate of each output position, float64."""
    scale = length / extent if rule.scale is None else rule.scale
    real_length = scale * extent
    x: np.ndarray = np.arange(length, dtype=np.float64)
    match rule.coordinates:
        case "align_corners":
            return x * 0.0 if real_length == 1 else x * (extent - 1) / (real_length - 1)
        case "asymmetric":
            return x / scale
        case "tf_crop_and_resize":
            start, end = rule.roi
            if real_length == 1:
                return x * 0.0 + (start + end) * (extent - 1) / 2
            return x * (end - start) * (extent - 1) / (real_length - 1) + start * (extent - 1)
        case "pytorch_half_pixel" if real_length <= 1:
            return x * 0.0
        case "half_pixel_symmetric":
            offset = extent / 2 * (1 - length / real_length)
            return offset + (x + 0.5) / scale - 0.5
        case _:
            return (x + 0.5) / scale - 0.5


def tap_table(rule: AxisRule, extent: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights `[length, taps]`; index -1 in the first tap marks a coordinate to extrapolate."""
    x = source_coordinates(rule, extent, length)
    if rule.mode == "nearest":
        rounding: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "floor": np.floor, "ceil": np.ceil, "round_prefer_floor": lambda v: np.ceil(v - 0.5),
            "round_prefer_ceil": lambda v: np.floor(v + 0.5),
        }  # fmt: skip
        indices = rounding[rule.nearest](x)[:, None]
        weights = np.ones_like(indices)
    else:
        base = np.ceil(x) - 1
        steps = np.arange(-rule.reach, rule.reach + 2)
        indices = base[:, None] + steps
        weights = _filter(rule, (steps - (x - base)[:, None]) * _filter_scale(rule))
        if rule.exclude_outside:
            weights = np.where((indices < 0) | (indices >= extent), 0.0, weights)
        if rule.antialias or rule.exclude_outside:
            total = weights.sum(axis=1, keepdims=True)
            weights = weights / np.where(total == 0, 1.0, total)
    indices = np.clip(indices, 0, max(extent - 1, 0)).astype(np.int64)
    if rule.coordinates == "tf_crop_and_resize":
        indices[(x < 0) | (x > extent - 1), 0] = -1
    return indices, weights


def _filter_scale(rule: AxisRule) -> float:
    return min(rule.scale, 1.0) if rule.antialias and rule.scale is not None else 1.0


def _filter(rule: AxisRule, distance: np.ndarray) -> np.ndarray:
    d = np.abs(distance)
    if rule.mode == "linear":
        return np.asarray(np.clip(1.0 - d, 0.0, 1.0))
    a = rule.cubic_a
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


Tap = tuple[Value, Value | None]
"""An input index, and its weight (None: 1)."""


class TableTaps:
    """Taps read from tables."""

    def __init__(self, b: FunctionBuilder, indices: np.ndarray, weights: np.ndarray, wide: DType) -> None:
        self._b, self._wide, self.count = b, wide, indices.shape[1]
        self._unweighted = self.count == 1
        self._outside = bool((indices[:, 0] < 0).any())
        self._indices = _table(b, DType.INT32, indices.ravel().tolist())
        self._weights = _table(b, wide, weights.ravel().tolist())

    def tap(self, position: Index, number: Index) -> Tap:
        """Tap `number` of an output position."""
        place = self._b.index(position) * self.count + number
        index = self._b.cast(self._b.load(self._indices, DType.INT32, place), DType.INT64)
        if self._outside:
            index = self._b.maximum(index, 0)
        return index, None if self._unweighted else self._b.load(self._weights, self._wide, place)

    def outside(self, position: Index) -> Value | None:
        """Whether the position is extrapolated; None where none is."""
        if not self._outside:
            return None
        return self._b.load(self._indices, DType.INT32, self._b.index(position) * self.count) < 0


def _table(b: FunctionBuilder, dtype: DType, numbers: Sequence[int | float]) -> Pointer:
    digest = hashlib.sha256(repr((dtype.value, numbers)).encode()).hexdigest()[:16]
    return b.module.table(f"taps_{digest}", dtype, numbers)


class ComputedTaps:
    """Taps computed in float64 from run-time extents."""

    def __init__(self, b: FunctionBuilder, rule: AxisRule, extent: Index, length: Index, wide: DType) -> None:
        self._b, self._rule, self._wide, self.count = b, rule, wide, rule.taps
        self._extent = b.index(extent)
        self._real_extent = b.cast(self._extent, DType.FLOAT64)
        length_value = b.cast(b.index(length), DType.FLOAT64)
        scale = length_value / self._real_extent
        self._scale = scale if rule.scale is None else b.const(DType.FLOAT64, rule.scale)
        self._length, self._real_length = length_value, self._scale * self._real_extent

    def tap(self, position: Index, number: Index) -> Tap:
        """Tap `number` of an output position."""
        if not isinstance(number, int):
            raise TypeError("taps computed at run time are unrolled")
        b, rule = self._b, self._rule
        x = self._coordinate(position)
        last = self._extent - 1
        if rule.mode == "nearest":
            return b.maximum(b.minimum(b.cast(self._nearest(x), DType.INT64), last), 0), None
        base = b.intrinsic("llvm.ceil", x) - 1.0
        steps = range(-rule.reach, rule.reach + 2)
        whole = b.cast(base, DType.INT64)
        weights = [self._weight(x, base, whole, step) for step in steps]
        chosen = weights[number]
        if rule.exclude_outside:
            total = weights[0]
            for weight in weights[1:]:
                total = total + weight
            chosen = chosen / b.select(b.compare("eq", total, 0.0), 1.0, total)
        index = whole + steps[number]
        return b.maximum(b.minimum(index, last), 0), b.cast(chosen, self._wide)

    def _weight(self, x: Value, base: Value, whole: Value, step: int) -> Value:
        b, rule = self._b, self._rule
        d = b.absolute(float(step) - (x - base))
        if rule.mode == "linear":
            weight = b.maximum(1.0 - d, 0.0)
        else:
            a = rule.cubic_a
            near = (d * (a + 2) - (a + 3)) * d * d + 1.0
            far = ((d * a - 5 * a) * d + 8 * a) * d - 4 * a
            weight = b.select(d <= 1.0, near, b.select(d < 2.0, far, 0.0))
        if rule.exclude_outside:
            index = whole + step
            weight = b.select((index >= 0) & (index < self._extent), weight, 0.0)
        return weight

    def outside(self, position: Index) -> Value | None:
        """Whether the position is extrapolated; None where none is."""
        if self._rule.coordinates != "tf_crop_and_resize":
            return None
        x = self._coordinate(position)
        return (x < 0.0) | (x > self._real_extent - 1.0)

    def _nearest(self, x: Value) -> Value:
        b = self._b
        match self._rule.nearest:
            case "floor":
                return b.intrinsic("llvm.floor", x)
            case "ceil":
                return b.intrinsic("llvm.ceil", x)
            case "round_prefer_floor":
                return b.intrinsic("llvm.ceil", x - 0.5)
            case _:
                return b.intrinsic("llvm.floor", x + 0.5)

    def _coordinate(self, position: Index) -> Value:
        b, rule = self._b, self._rule
        x = b.cast(b.index(position), DType.FLOAT64)
        half = (x + 0.5) / self._scale - 0.5
        single = b.compare("eq", self._real_length, 1.0)
        spread = self._real_length - 1.0
        match rule.coordinates:
            case "align_corners":
                return b.select(single, 0.0, x * (self._real_extent - 1.0) / spread)
            case "asymmetric":
                return x / self._scale
            case "tf_crop_and_resize":
                start, end = rule.roi
                reach = self._real_extent - 1.0
                middle = reach * ((start + end) / 2)
                return b.select(single, middle, x * (end - start) * reach / spread + reach * start)
            case "pytorch_half_pixel":
                return b.select(self._real_length <= 1.0, 0.0, half)
            case "half_pixel_symmetric":
                return self._real_extent / 2.0 * (1.0 - self._length / self._real_length) + half
            case _:
                return half


Taps = TableTaps | ComputedTaps
