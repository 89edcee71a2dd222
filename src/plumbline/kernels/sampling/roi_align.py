"""`roi_align`: regions sampled between pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.dims import mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    AttributeRefused,
    Inference,
    KernelCall,
    OperationContract,
    Precision,
    Work,
)
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.indexing.positions import clamped, end_unless_empty, load_index, require_indices
from plumbline.kernels.movement.operands import array
from plumbline.kernels.row_rules.choosing import region_rows as regions_apart
from plumbline.kernels.sampling.points import wide_float
from plumbline.kernels.sampling.region_rows import region_rows, require_floats

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]
FLOATS = frozenset(d for d in DType if d.is_float)


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
    require_floats(inference, x, regions)
    if inference.attributes["mode"] not in ("avg", "max"):
        raise AttributeRefused(
            operation="roi_align",
            attribute="mode",
            value=str(inference.attributes["mode"]),
            reason="not avg or max",
        )
    size = (inference.attributes["height"], inference.attributes["width"])
    inference.require(size[0] > 0 and size[1] > 0, f"an output of {size}")
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
        split = region_rows(signature)
        return Work(units=split.units, unit_cost=80.0 * split.unit_elements)

    def emit(self, call: KernelCall) -> None:
        b, x, output = call.builder, call.input(0), call.output()
        height, channels, wide = output.shape[2], x.shape[1], wide_float(x.dtype)
        per_region = b.index(
            call.dim(mul(call.signature.outputs[0].shape[1], call.signature.outputs[0].shape[2]))
        )
        end = end_unless_empty(call, x.shape)
        with region_rows(call.signature).each(call, call.begin, end) as (
            row,
            _,
            width,
        ):
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


CONTRACTS = (
    OperationContract(
        name="roi_align",
        rows=regions_apart,
        infer=_infer_align,
        reference=_reference_align,
        kernel=_AlignKernel(),
        dtypes=FLOATS,
        precision=Precision(relative=2e-5, absolute=2e-5),
    ),
)
