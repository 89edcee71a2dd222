"""`affine_grid`: regular positions under an affine map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    DTypeRefused,
    Inference,
    KernelCall,
    OperationContract,
    Precision,
    Work,
)
from plumbline.kernels.emit.ir import Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.movement.operands import array, required_shape
from plumbline.kernels.movement.runs import RowSplit
from plumbline.kernels.rows import rows_first
from plumbline.kernels.sampling.points import wide_float

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]
FLOATS = frozenset(d for d in DType if d.is_float)


def _infer_affine(inference: Inference) -> tuple[TensorType, ...]:
    """Input: theta `[N, r, r + 1]`. Attributes: `size` (r = 2 or 3 spatial extents), `align_corners`."""
    theta, size = inference.type(0), required_shape(inference, inference.attributes["size"])
    rank = len(size)
    inference.require(rank in (2, 3) and theta.rank == 3, f"theta {theta} for {rank} axes")
    inference.require(theta.shape[1:] == (rank, rank + 1), f"theta {theta} for {rank} axes")
    if not theta.dtype.is_float:
        raise DTypeRefused(operation="affine_grid", dtype=theta.dtype.value, needed="floats")
    return (TensorType(theta.dtype, (theta.shape[0], *size, rank)),)


class _AffineKernel:
    """A unit is a few rows of positions."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = self._split(signature)
        return Work(units=split.units, unit_cost=12.0 * split.unit_elements)

    def emit(self, call: KernelCall) -> None:
        b, theta, output = call.builder, call.input(0), call.output()
        rank, wide = output.rank - 2, wide_float(theta.dtype)
        extents = output.shape[1:-1]
        with self._split(call.signature).each(call, call.begin, call.end) as (row, first, count):
            n, *outer = unflatten(b, row, output.shape[:-2])
            with b.range(0, count) as i:
                place = [*outer, b.index(i) + first]
                axes = [self._coordinate(call, p, e, wide) for p, e in zip(place, extents, strict=True)]
                flat = (b.index(row) * extents[-1] + place[-1]) * rank
                for line in range(rank):
                    start = (b.index(n) * rank + line) * (rank + 1)
                    total = b.cast(theta.load_flat(start + rank), wide)
                    for k, value in enumerate(reversed(axes)):
                        total = b.fma(b.cast(theta.load_flat(start + k), wide), value, total)
                    output.store_flat(b.cast(total, theta.dtype), flat + line)

    @staticmethod
    def _coordinate(call: KernelCall, index: Any, extent: Any, wide: DType) -> Value:
        b = call.builder
        position, real = b.cast(b.index(index), wide), b.cast(b.index(extent), wide)
        if call.attributes["align_corners"]:
            return position * 2.0 / b.maximum(real - 1.0, 1.0) - 1.0
        return (position * 2.0 + 1.0) / real - 1.0

    @staticmethod
    def _split(signature: StepSignature) -> RowSplit:
        shape = signature.outputs[0].shape[:-1]
        return RowSplit.plan(product(shape[:-1]), shape[-1], elements=256)


def _reference_affine(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    theta = array(inputs).astype(np.float64)
    axes = []
    for extent in attributes["size"]:
        if attributes["align_corners"]:
            axes.append(np.linspace(-1.0, 1.0, extent))
        else:
            axes.append((2 * np.arange(extent) + 1) / extent - 1.0)
    grid = np.meshgrid(*axes, indexing="ij")
    homogeneous = np.stack([*reversed(grid), np.ones_like(grid[0])], axis=-1)
    return (np.einsum("nij,...j->n...i", theta, homogeneous).astype(array(inputs).dtype),)


CONTRACTS = (
    OperationContract(
        name="affine_grid",
        infer=_infer_affine,
        reference=_reference_affine,
        kernel=_AffineKernel(),
        dtypes=FLOATS,
        precision=Precision(relative=1e-5, absolute=2e-6),
        rows=rows_first(0),
    ),
)
