"""`roi_align` and `max_roi_pool`: fixed-size views of regions whose corners are data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.dims import mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    AttributeRefused,
    DTypeRefused,
    Inference,
    KernelCall,
    OperationContract,
    Precision,
    Work,
)
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.indexing.positions import clamped, load_index, require_indices
from plumbline.kernels.movement.rearrange import array
from plumbline.kernels.movement.runs import RowSplit
from plumbline.kernels.sampling.points import wide_float

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]
FLOATS = frozenset(d for d in DType if d.is_float)


def _require_floats(inference: Inference, *types: TensorType) -> None:
    for type_ in types:
        if not type_.dtype.is_float:
            raise DTypeRefused(operation=inference.operation, dtype=type_.dtype.value, needed="floats")


def _infer_align(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: x `[N, C, H, W]`, regions `[R, 4]` (x1, y1, x2, y2), batch of each region `[R]`.

    Attributes: `height`, `width` of the output, `mode` ("avg" or "max"), `sampling_ratio` (0: adaptive),
    `spatial_scale`, `half_pixel`.
    """
    x, regions, batches = inference.type(0), inference.type(1), require_indices(inference, 2)
    inference.require(
        x.rank == 4 and regions.rank == 2 and regions.shape[1] == 4, f"regions {regions} of {x}"
    )
    inference.require(batches.shape == regions.shape[:1], f"{batches} are not the batches of {regions}")
    inference.require(all(e != 0 for e in (x.shape[0], *x.shape[2:])), f"{x} has no elements to sample")
    _require_floats(inference, x, regions)
    if inference.attributes["mode"] not in ("avg", "max"):
        raise AttributeRefused(
            operation="roi_align",
            attribute="mode",
            value=str(inference.attributes["mode"]),
            reason="not avg or max",
        )
    size = (inference.attributes["height"], inference.attributes["width"])
    return (TensorType(x.dtype, (regions.shape[0], x.shape[1], *size)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bins:
    """One axis of a region: where it starts, the extent of a bin, and samples in a bin."""

    start: Value
    size: Value
    samples: Value


class _AlignKernel:
    """A unit is a few output rows of one region and channel."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = _region_rows(signature)
        return Work(units=split.units, unit_cost=80.0 * split.unit_elements)

    def emit(self, call: KernelCall) -> None:
        b, x, output = call.builder, call.input(0), call.output()
        height, channels, wide = output.shape[2], x.shape[1], wide_float(x.dtype)
        per_region = b.index(
            call.dim(mul(call.signature.outputs[0].shape[1], call.signature.outputs[0].shape[2]))
        )
        with _region_rows(call.signature).each(call, call.begin, call.end) as (row, _, width):
            region = b.index(row) // per_region
            channel, line = (b.index(row) % per_region) // height, b.index(row) % height
            batch = load_index(b, call.input(2).load_flat(region), x.shape[0])
            plane = (batch * channels + channel) * x.strides[1]
            rows, columns = (self._bins(call, region, axis, wide) for axis in (1, 0))
            with b.range(0, width) as i:
                value = self._bin(call, x, plane, rows, columns, b.cast(line, wide), b.cast(b.index(i), wide))
                output.store_flat(b.cast(value, x.dtype), b.index(row) * width + i)

    @staticmethod
    def _bins(call: KernelCall, region: Value, axis: int, wide: DType) -> _Bins:
        b, attributes = call.builder, call.attributes
        scale = float(attributes["spatial_scale"])
        shift = 0.5 if attributes["half_pixel"] else 0.0
        start, end = (
            b.cast(call.input(1).load_flat(region * 4 + axis + 2 * side), wide) * scale - shift
            for side in (0, 1)
        )
        extent = end - start
        if not attributes["half_pixel"]:
            extent = b.maximum(extent, 1.0)
        size = extent / float(attributes["width" if axis == 0 else "height"])
        ratio = int(attributes["sampling_ratio"])
        samples = (
            b.const(DType.INT64, ratio)
            if ratio > 0
            else b.cast(b.cast(b.intrinsic("llvm.ceil", size), DType.INT32), DType.INT64)
        )
        return _Bins(start=start, size=size, samples=samples)

    def _bin(
        self,
        call: KernelCall,
        x: TensorRef,
        plane: Value,
        rows: _Bins,
        columns: _Bins,
        line: Value,
        column: Value,
    ) -> Value:
        b, wide = call.builder, line.dtype
        average = call.attributes["mode"] == "avg"
        total = b.variable(wide, 0.0 if average else float("-inf"))
        with b.range(0, rows.samples) as i:
            y = self._sample(b, rows, line, i)
            with b.range(0, columns.samples) as j:
                corners = self._corners(b, x, plane, y, self._sample(b, columns, column, j), wide)
                if average:
                    total.set(total.get() + ((corners[0] + corners[1]) + (corners[2] + corners[3])))
                else:
                    low = b.maximum(corners[0], corners[1])
                    total.set(b.maximum(total.get(), b.maximum(low, b.maximum(corners[2], corners[3]))))
        count = b.maximum(rows.samples, 0) * b.maximum(columns.samples, 0)
        if average:
            return total.get() / b.cast(b.maximum(count, 1), wide)
        return b.select(count > 0, total.get(), 0.0)

    @staticmethod
    def _sample(b: FunctionBuilder, bins: _Bins, place: Value, number: Index) -> Value:
        wide = place.dtype
        inside = (b.cast(b.index(number), wide) + 0.5) * bins.size / b.cast(bins.samples, wide)
        return bins.start + place * bins.size + inside

    @staticmethod
    def _corners(
        b: FunctionBuilder, x: TensorRef, plane: Value, y: Value, x_at: Value, wide: DType
    ) -> list[Value]:
        """The four weighted neighbours; zeros further than one element outside."""
        outside = b.const(DType.BOOL, False)
        axes = []
        for at, extent in ((y, x.shape[2]), (x_at, x.shape[3])):
            outside = outside | (at < -1.0) | (at > b.cast(b.index(extent), wide)) | b.is_nan(at)
            last = b.index(extent) - 1
            at = b.maximum(at, 0.0)
            low = b.maximum(b.minimum(b.cast(at, DType.INT64), last), 0)
            fraction = b.select(low >= last, 0.0, at - b.cast(low, wide))
            axes.append(((low, 1.0 - fraction), (b.minimum(low + 1, last), fraction)))
        corners = []
        for row, row_weight in axes[0]:
            for column, column_weight in axes[1]:
                value = b.cast(x.load_flat(plane + row * x.shape[3] + column), wide)
                corners.append(b.select(outside, 0.0, value * (row_weight * column_weight)))
        return corners


def _region_rows(signature: StepSignature) -> RowSplit:
    shape = signature.outputs[0].shape
    return RowSplit.plan(product(shape[:-1]), shape[-1], divisible=False, elements=64)


def _reference_align(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    x, regions = array(inputs, 0), array(inputs, 1)
    batches = clamped(array(inputs, 2), x.shape[0])
    result = np.zeros((len(regions), x.shape[1], attributes["height"], attributes["width"]), np.float64)
    shift = 0.5 if attributes["half_pixel"] else 0.0
    for r, region in enumerate(regions):
        x1, y1, x2, y2 = (float(v) * attributes["spatial_scale"] - shift for v in region)
        w, h = x2 - x1, y2 - y1
        if not attributes["half_pixel"]:
            w, h = max(w, 1.0), max(h, 1.0)
        bin_h, bin_w = h / attributes["height"], w / attributes["width"]
        ratio = attributes["sampling_ratio"]
        rows, columns = ratio or int(np.ceil(bin_h)), ratio or int(np.ceil(bin_w))
        for i in range(attributes["height"]):
            for j in range(attributes["width"]):
                samples = [
                    _bilinear(
                        x[batches[r]],
                        y1 + i * bin_h + (p + 0.5) * bin_h / rows,
                        x1 + j * bin_w + (q + 0.5) * bin_w / columns,
                    )
                    for p in range(rows)
                    for q in range(columns)
                ]
                if samples:
                    stacked = np.stack(samples)
                    average = attributes["mode"] == "avg"
                    result[r, :, i, j] = (
                        stacked.sum(axis=1).mean(axis=0) if average else stacked.max(axis=(0, 1))
                    )
    return (result.astype(x.dtype),)


def _bilinear(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """The four weighted neighbours `[4, C]` of a point."""
    height, width = image.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros((4, image.shape[0]))
    parts = []
    for at, extent in ((y, height), (x, width)):
        at = min(max(at, 0.0), extent - 1.0)
        low = int(at)
        parts.append(((low, 1 - (at - low)), (min(low + 1, extent - 1), at - low)))
    return np.stack([image[:, r, c].astype(np.float64) * (u * v) for r, u in parts[0] for c, v in parts[1]])


# -- max_roi_pool


def _infer_pool(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: x `[N, C, H, W]`, regions `[R, 5]` (batch, x1, y1, x2, y2).

    Attributes: `pooled` (height and width of the output), `spatial_scale`.
    """
    x, regions = inference.type(0), inference.type(1)
    inference.require(
        x.rank == 4 and regions.rank == 2 and regions.shape[1] == 5, f"regions {regions} of {x}"
    )
    inference.require(all(e != 0 for e in (x.shape[0], *x.shape[2:])), f"{x} has no elements to pool")
    _require_floats(inference, x, regions)
    return (TensorType(x.dtype, (regions.shape[0], x.shape[1], *inference.attributes["pooled"])),)


class _PoolKernel:
    """A unit is a few output rows of one region and channel."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = _region_rows(signature)
        return Work(units=split.units, unit_cost=40.0 * split.unit_elements)

    def emit(self, call: KernelCall) -> None:
        b, x, output = call.builder, call.input(0), call.output()
        height, channels = output.shape[2], x.shape[1]
        per_region = b.index(
            call.dim(mul(call.signature.outputs[0].shape[1], call.signature.outputs[0].shape[2]))
        )
        wide = wide_float(x.dtype)
        with _region_rows(call.signature).each(call, call.begin, call.end) as (row, _, width):
            region = b.index(row) // per_region
            channel, line = (b.index(row) % per_region) // height, b.index(row) % height
            batch = load_index(b, call.input(1).load_flat(region * 5), x.shape[0])
            plane = (batch * channels + channel) * x.strides[1]
            top, bottom = self._span(call, region, 1, line, x.shape[2])
            with b.range(0, width) as i:
                left, right = self._span(call, region, 0, b.index(i), x.shape[3])
                best = b.variable(wide, float("-inf"))
                with b.range(top, bottom) as y, b.range(left, right) as at:
                    value = b.cast(x.load_flat(plane + b.index(y) * x.shape[3] + at), wide)
                    best.set(b.maximum(best.get(), value))
                empty = (bottom <= top) | (right <= left)
                value = b.select(empty, 0.0, best.get())
                output.store_flat(b.cast(value, x.dtype), b.index(row) * width + i)

    @staticmethod
    def _span(call: KernelCall, region: Value, axis: int, place: Value, extent: Index) -> tuple[Value, Value]:
        """First and last element (exclusive) of a bin along one axis."""
        b = call.builder
        regions = call.input(1)
        wide = wide_float(regions.dtype)
        scale = float(call.attributes["spatial_scale"])
        start, end = (
            b.intrinsic(
                "llvm.round", b.cast(regions.load_flat(region * 5 + 1 + axis + 2 * side), wide) * scale
            )
            for side in (0, 1)
        )
        bins = float(call.attributes["pooled"][1 - axis])
        size = b.maximum(end - start + 1.0, 1.0) / bins
        number = b.cast(place, wide)
        first = b.intrinsic("llvm.floor", number * size) + start
        last = b.intrinsic("llvm.ceil", (number + 1.0) * size) + start
        limit = b.cast(b.index(extent), wide)
        bounded = (b.maximum(b.minimum(v, limit), 0.0) for v in (first, last))
        low, high = (b.minimum(b.cast(v, DType.INT64), extent) for v in bounded)
        return low, high


def _reference_pool(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    x, regions = array(inputs, 0), array(inputs, 1)
    pooled, scale = attributes["pooled"], attributes["spatial_scale"]
    result = np.zeros((len(regions), x.shape[1], *pooled), x.dtype)
    for r, (batch, *corners) in enumerate(regions):
        x1, y1, x2, y2 = (float(np.floor(v * scale + 0.5)) for v in np.asarray(corners, np.float64))
        image = x[int(np.clip(batch, 0, x.shape[0] - 1))]
        sizes = (max(y2 - y1 + 1, 1) / pooled[0], max(x2 - x1 + 1, 1) / pooled[1])
        for i in range(pooled[0]):
            for j in range(pooled[1]):
                spans = []
                for k, start, size, extent in ((i, y1, sizes[0], x.shape[2]), (j, x1, sizes[1], x.shape[3])):
                    ends = (np.floor(k * size) + start, np.ceil((k + 1) * size) + start)
                    spans.append(slice(*(int(np.clip(e, 0, extent)) for e in ends)))
                window = image[:, spans[0], spans[1]]
                if window.size:
                    result[r, :, i, j] = window.max(axis=(1, 2))
    return (result,)


CONTRACTS = (
    OperationContract(
        name="roi_align", infer=_infer_align, reference=_reference_align, kernel=_AlignKernel(),
        dtypes=FLOATS, precision=Precision(relative=2e-5, absolute=2e-5),
    ),
    OperationContract(
        name="max_roi_pool", infer=_infer_pool, reference=_reference_pool, kernel=_PoolKernel(),
        dtypes=FLOATS,
    ),
)  # fmt: skip
