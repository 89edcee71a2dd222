"""`max_roi_pool`: the largest element of each bin of a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    Inference,
    KernelCall,
    OperationContract,
    Work,
)
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.indexing.positions import end_unless_empty, load_index
from plumbline.kernels.movement.operands import array, required_positive
from plumbline.kernels.row_rules.choosing import region_rows as regions_apart
from plumbline.kernels.sampling.points import wide_float
from plumbline.kernels.sampling.region_rows import region_rows, require_floats

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]
FLOATS = frozenset(d for d in DType if d.is_float)


def _infer_pool(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: x `[N, C, H, W]`, regions `[R, 5]` (batch, x1, y1, x2, y2).

    Attributes: `pooled` (height and width of the output), `spatial_scale`.
    """
    x, regions = inference.type(0), inference.type(1)
    inference.require(
        x.rank == 4 and regions.rank == 2 and regions.shape[1] == 5, f"regions {regions} of {x}"
    )
    inference.require(all(e != 0 for e in (x.shape[0], *x.shape[2:])), f"{x} has no elements to pool")
    require_floats(inference, x, regions)
    required_positive(inference, 2, "pooled")
    return (TensorType(x.dtype, (regions.shape[0], x.shape[1], *inference.attributes["pooled"])),)


class _PoolKernel:
    """A unit is a few output rows of one region and channel."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = region_rows(signature)
        return Work(units=split.units, unit_cost=40.0 * split.unit_elements)

    def emit(self, call: KernelCall) -> None:
        b, x, output = call.builder, call.input(0), call.output()
        height, channels = output.shape[2], x.shape[1]
        per_region = b.index(
            call.dim(mul(call.signature.outputs[0].shape[1], call.signature.outputs[0].shape[2]))
        )
        wide = wide_float(x.dtype)
        end = end_unless_empty(call, x.shape)
        with region_rows(call.signature).each(call, call.begin, end) as (
            row,
            _,
            width,
        ):
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
        name="max_roi_pool",
        rows=regions_apart,
        infer=_infer_pool,
        reference=_reference_pool,
        kernel=_PoolKernel(),
        dtypes=FLOATS,
    ),
)
