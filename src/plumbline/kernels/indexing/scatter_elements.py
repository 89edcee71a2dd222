"""`scatter_elements`: one element for each index.

Updates apply in row-major order of the indices. A unit owns every update that can meet another on the same
element, so results do not depend on how units are split. The output may share the address of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference, KernelCall, OperationContract, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef, unflatten
from plumbline.kernels.indexing.combining import (
    combine,
    combine_at,
    copy_unless_shared,
    require_same_dtype,
    required_reduction,
)
from plumbline.kernels.indexing.positions import (
    clamped,
    load_index,
    require_indices,
)
from plumbline.kernels.movement.operands import array, input_type, required_axis
from plumbline.kernels.movement.runs import RowSplit
from plumbline.kernels.row_rules.choosing import scattered_elements

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


_COLUMNS = 256


def _infer_elements(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: data, indices, updates like indices. Attributes: `axis`, `reduction` (one of `REDUCTIONS`)."""
    data, indices, updates = inference.type(0), require_indices(inference, 1), inference.type(2)
    axis = required_axis(inference, data.rank)
    required_reduction(inference)
    require_same_dtype(inference, data, updates)
    inference.require(data.rank == indices.rank, f"indices {indices} for {data}")
    inference.require(indices.shape == updates.shape, f"indices {indices} beside updates {updates}")
    for i, (short, long) in enumerate(zip(indices.shape, data.shape, strict=True)):
        beyond = i != axis and isinstance(short, int) and isinstance(long, int) and short > long
        inference.require(not beyond, f"indices {indices} are longer than {data} on axis {i}")
    return (TensorType(data.dtype, data.shape),)


class _ScatterElementsKernel:
    """A unit is a line along the axis, or a strip of lines that lie side by side in memory."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = _lines(signature)
        shape = input_type(signature).shape
        extent = shape[signature.attributes["axis"] % len(shape)]
        return Work(
            units=split.units,
            unit_cost=2.0 * split.unit_elements * (extent if isinstance(extent, int) else 64),
        )

    def emit(self, call: KernelCall) -> None:
        b, data, indices, output = call.builder, call.input(0), call.input(1), call.output()
        axis = call.attributes["axis"] % data.rank
        others = [i for i in range(data.rank) if i not in (axis, data.rank - 1)]
        if axis == data.rank - 1:
            others = list(range(axis))
        outer_shape = [data.shape[i] for i in others]
        with _lines(call.signature).each(call, call.begin, call.end) as (line, first, count):
            place = unflatten(b, line, outer_shape)
            base, index_base = b.index(first), b.index(first)
            inside = b.const(DType.BOOL, True)
            for i, index in zip(others, place, strict=True):
                base = b.index(index) * data.strides[i] + base
                index_base = b.index(index) * indices.strides[i] + index_base
                inside = inside & (b.index(index) < indices.shape[i])
            self._copy(call, data, output, axis, base, count)
            with b.when(inside):
                columns = b.minimum(b.index(count), b.index(indices.shape[-1]) - first)
                self._update(call, axis, base, index_base, 1 if axis == data.rank - 1 else columns)

    def _copy(
        self, call: KernelCall, data: TensorRef, output: TensorRef, axis: int, base: Value, count: Index
    ) -> None:
        if axis == data.rank - 1:
            copy_unless_shared(call, data, output, base, data.shape[axis])
            return
        with call.builder.range(0, data.shape[axis]) as j:
            copy_unless_shared(call, data, output, base + call.builder.index(j) * data.strides[axis], count)

    def _update(self, call: KernelCall, axis: int, base: Value, index_base: Value, columns: Index) -> None:
        b, data, indices, updates, output = (
            call.builder, call.input(0), call.input(1), call.input(2), call.output(),
        )  # fmt: skip
        reduction = str(call.attributes.get("reduction", "none"))
        usable = b.select(b.index(data.shape[axis]) > 0, b.index(indices.shape[axis]), b.index(0))
        with b.range(0, usable) as j, b.range(0, columns) as i:
            read = b.index(j) * indices.strides[axis] + index_base + i
            chosen = load_index(b, indices.load_flat(read), data.shape[axis])
            write = chosen * data.strides[axis] + base + i
            new = updates.load_flat(read)
            output.store_flat(combine(b, reduction, output.load_flat(write), new), write)


def _lines(signature: StepSignature) -> RowSplit:
    shape = input_type(signature).shape
    axis = signature.attributes["axis"] % len(shape)
    if axis == len(shape) - 1:
        extent = shape[-1]
        grain = max(1, 2048 // max(extent, 1)) if isinstance(extent, int) else 1
        return RowSplit.plan(product(shape[:-1]), 1, divisible=False, elements=grain)
    rows = product(e for i, e in enumerate(shape[:-1]) if i != axis)
    return RowSplit.plan(rows, shape[-1], elements=_COLUMNS)


def _reference_elements(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    data, indices, updates = array(inputs).copy(), array(inputs, 1), array(inputs, 2)
    axis = attributes["axis"] % data.ndim
    if data.shape[axis] == 0 or indices.size == 0:
        return (data,)
    place = [np.asarray(p) for p in np.indices(indices.shape)]
    place[axis] = clamped(indices, data.shape[axis])
    combine_at(data, tuple(place), updates, str(attributes.get("reduction", "none")))
    return (data,)


ALL = frozenset(DType)
IN_PLACE = ((0, 0),)

CONTRACTS = (
    OperationContract(
        name="scatter_elements",
        rows=scattered_elements,
        infer=_infer_elements,
        reference=_reference_elements,
        kernel=_ScatterElementsKernel(),
        inplace=IN_PLACE,
        dtypes=ALL,
    ),
)
