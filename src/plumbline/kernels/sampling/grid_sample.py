"""`grid_sample`: images read at coordinates that are data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product as every
from typing import Any

import numpy as np

from plumbline.contracts.dims import product
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
from plumbline.kernels.emit.ir import Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.indexing.positions import end_unless_empty
from plumbline.kernels.movement.operands import array, input_type
from plumbline.kernels.movement.runs import RowSplit
from plumbline.kernels.rows import rows_first
from plumbline.kernels.sampling.points import axis_points, cross, weighted_sum, wide_float

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]
_CHOICES = {"mode": ("nearest", "linear", "cubic"), "padding": ("zeros", "border", "reflection")}


def _infer_sample(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: x `[N, C, *D]`, grid `[N, *O, r]` with r = 1, 2 or 3 spatial axes, last axis first.

    Attributes: `mode`, `padding`, `align_corners`.
    """
    x, grid = inference.type(0), inference.type(1)
    for name, allowed in _CHOICES.items():
        if inference.attributes[name] not in allowed:
            raise AttributeRefused(
                operation="grid_sample",
                attribute=name,
                value=str(inference.attributes[name]),
                reason=f"not {allowed}",
            )
    rank = x.rank - 2
    inference.require(1 <= rank <= 3 and grid.rank == x.rank, f"grid {grid} for {x}")
    inference.require(grid.shape[-1] == rank and grid.shape[0] == x.shape[0], f"grid {grid} for {x}")
    inference.require(all(e != 0 for e in x.shape[2:]), f"{x} has no elements to sample")
    if not grid.dtype.is_float or not (x.dtype.is_float or inference.attributes["mode"] == "nearest"):
        raise DTypeRefused(operation="grid_sample", dtype=f"{x.dtype}, {grid.dtype}", needed="floats")
    return (TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1])),)


class _SampleKernel:
    """A unit is a few grid rows; coordinates are computed once for all channels."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split, channels = _grid_rows(signature), input_type(signature).shape[1]
        return Work(
            units=split.units,
            unit_cost=20.0 * split.unit_elements * (channels if isinstance(channels, int) else 16),
        )

    def emit(self, call: KernelCall) -> None:
        b, x, grid, output = call.builder, call.input(0), call.input(1), call.output()
        rank, wide = x.rank - 2, wide_float(x.dtype)
        plane = call.dim(product(input_type(call.signature).shape[2:]))
        points_in_batch = b.index(call.dim(product(call.signature.outputs[0].shape[2:])))
        channels = x.shape[1]
        rows = _grid_rows(call.signature)
        with (
            rows.each(call, call.begin, end_unless_empty(call, x.shape)) as (row, first, count),
            b.range(0, count) as i,
        ):
            flat = b.index(row) * output.shape[-1] + first + i
            axes = [
                self._axis(call, grid.load_flat(flat * rank + (rank - 1 - k)), x.shape[2 + k])
                for k in range(rank)
            ]
            points = cross(b, axes, x.strides[2:])
            n, place = flat // points_in_batch, flat % points_in_batch
            with b.range(0, channels) as c:
                line = n * channels + c
                value = weighted_sum(b, x.pointer, x.dtype, line * plane, points, wide)
                output.store_flat(b.cast(value, x.dtype), line * points_in_batch + place)

    @staticmethod
    def _axis(call: KernelCall, normalised: Value, extent: Any) -> Any:
        b, align = call.builder, bool(call.attributes["align_corners"])
        n = b.cast(normalised, wide_float(normalised.dtype))
        real = b.cast(b.index(extent), n.dtype)
        x = (n + 1.0) / 2.0 * (real - 1.0) if align else ((n + 1.0) * real - 1.0) / 2.0
        return axis_points(b, x, extent, call.attributes["mode"], call.attributes["padding"], centred=align)


def _grid_rows(signature: StepSignature) -> RowSplit:
    shape = input_type(signature, 1).shape[:-1]
    return RowSplit.plan(product(shape[:-1]), shape[-1], elements=64)


def _reference_sample(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    x, grid = array(inputs, 0), array(inputs, 1)
    rank = x.ndim - 2
    result = np.zeros((*x.shape[:2], *grid.shape[1:-1]), np.float64)
    for place in np.ndindex(*grid.shape[:-1]):
        coordinates = [_pixel(grid[place][rank - 1 - k], x.shape[2 + k], attributes) for k in range(rank)]
        axes = [_weights(p, x.shape[2 + k], attributes) for k, p in enumerate(coordinates)]
        for chosen in every(*axes):
            if all(index is not None for index, _ in chosen):
                pixel = x[(place[0], slice(None), *(index for index, _ in chosen))]
                result[(place[0], slice(None), *place[1:])] += pixel * np.prod([w for _, w in chosen])
    return (result.astype(x.dtype),)


def _pixel(n: Any, extent: int, attributes: Attributes) -> float:
    wide = n.dtype.type if n.dtype.itemsize >= 4 else np.float32
    n, extent_ = wide(n), wide(extent)
    if attributes["align_corners"]:
        return float((n + wide(1)) / wide(2) * (extent_ - wide(1)))
    return float(((n + wide(1)) * extent_ - wide(1)) / wide(2))


def _weights(x: float, extent: int, attributes: Attributes) -> list[tuple[int | None, float]]:
    """(element or None for zero padding, weight) along one axis."""
    low, high = (0.0, extent - 1.0) if attributes["align_corners"] else (-0.5, extent - 0.5)
    padding, mode = attributes["padding"], attributes["mode"]
    if mode == "nearest":
        x = float(np.rint(x))
    if not low <= x <= high:
        x = min(max(x, 0.0), extent - 1.0) if padding == "border" else x
        x = _mirror(x, low, high) if padding == "reflection" else x
    base = int(np.floor(x))
    t = x - base
    taps = {"nearest": [(0, 1.0)], "linear": [(0, 1 - t), (1, t)]}.get(mode)
    if taps is None:
        taps = [(k, _keys(abs(k - t))) for k in range(-1, 3)]
    result: list[tuple[int | None, float]] = []
    for step, weight in taps:
        index = base + step
        if padding == "border":
            index = min(max(index, 0), extent - 1)
        elif padding == "reflection" and not low <= index <= high:
            index = int(_mirror(index, low, high))
        result.append((index if 0 <= index < extent else None, weight))
    return result


def _mirror(x: float, low: float, high: float) -> float:
    while not low <= x <= high:
        if high == low:
            return low
        x = 2 * low - x if x < low else 2 * high - x
    return x


def _keys(d: float, a: float = -0.75) -> float:
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a


CONTRACTS = (
    OperationContract(
        name="grid_sample",
        infer=_infer_sample,
        reference=_reference_sample,
        kernel=_SampleKernel(),
        dtypes=frozenset(DType),
        precision=Precision(relative=1e-5, absolute=2e-5),
        rows=rows_first(0, 1),
    ),
)
