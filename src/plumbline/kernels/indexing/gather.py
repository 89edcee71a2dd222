"""Reading by index: `gather`, `gather_elements`, `gather_nd`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, evaluate, mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference, KernelCall, OperationContract, Work
from plumbline.kernels.emit.ir import Index
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.indexing.positions import (
    clamped,
    end_unless_empty,
    load_index,
    require_indices,
)
from plumbline.kernels.movement.operands import array, input_type, required_axis
from plumbline.kernels.movement.runs import RowSplit, bits_of, copy_run
from plumbline.kernels.row_rules.choosing import gathered, gathered_elements, gathered_slices

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def _infer_gather(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: data, indices. Attribute `axis`; the indices replace that axis."""
    data, indices = inference.type(0), require_indices(inference, 1)
    axis = required_axis(inference, data.rank)
    return (TensorType(data.dtype, (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])),)


class _GatherKernel:
    """Rows are (outer, index) pairs; each copies the elements behind the axis.

    Where nothing lies behind the axis, a row is an outer line and all indices are walked inside it.
    """

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = _gather_split(signature)
        return Work(
            units=split.units, unit_cost=split.unit_elements / (1 if _picks_elements(signature) else 4)
        )

    def emit(self, call: KernelCall) -> None:
        data, axis = call.input(0), call.attributes["axis"] % call.input(0).rank
        end = end_unless_empty(call, (data.shape[axis],))
        if _picks_elements(call.signature):
            self._emit_elements(call, axis, end)
        else:
            self._emit_rows(call, axis, end)

    @staticmethod
    def _emit_elements(call: KernelCall, axis: int, end: Index) -> None:
        b, data, indices, output = call.builder, call.input(0), call.input(1), call.output()
        bits, extent, count = bits_of(data.dtype), data.shape[axis], indices.elements
        split = _gather_split(call.signature)
        with split.each(call, call.begin, end) as (row, first, elements), b.range(0, elements) as i:
            place = b.index(i) + first
            index = load_index(b, indices.load_flat(place), extent)
            value = b.load(data.pointer, bits, b.index(row) * extent + index)
            b.store(value, output.pointer, b.index(row) * count + place)

    @staticmethod
    def _emit_rows(call: KernelCall, axis: int, end: Index) -> None:
        b, data, indices, output = call.builder, call.input(0), call.input(1), call.output()
        count, extent = b.index(indices.elements), data.shape[axis]
        outer_count = product(call.signature.outputs[0].shape[:axis])
        width = call.dim(product(input_type(call.signature).shape[axis + 1 :]))
        with _gather_split(call.signature).each(call, call.begin, end) as (row, first, elements):
            outer: Index = 0 if outer_count == 1 else b.index(row) // count
            place = row if outer_count == 1 else b.index(row) % count
            index = load_index(b, indices.load_flat(place), extent)
            read = (b.index(outer) * extent + index) * width + first
            write = b.index(row) * width + first
            copy_run(b, call.target, data.dtype, (data.pointer, read), (output.pointer, write), elements)


def _picks_elements(signature: StepSignature) -> bool:
    """Whether nothing lies behind the axis."""
    data = input_type(signature)
    return product(data.shape[signature.attributes["axis"] % data.rank + 1 :]) == 1


def _gather_split(signature: StepSignature) -> RowSplit:
    data, indices = input_type(signature), input_type(signature, 1)
    axis = signature.attributes["axis"] % data.rank
    outer = product(data.shape[:axis])
    if _picks_elements(signature):
        return RowSplit.plan(outer, indices.elements)
    return RowSplit.plan(mul(outer, indices.elements), product(data.shape[axis + 1 :]))


def _reference_gather(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    data, axis = array(inputs), attributes["axis"]
    return (np.take(data, clamped(array(inputs, 1), data.shape[axis]), axis=axis),)


def _infer_elements(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: data, indices of the same rank, not longer than data on other axes. Attribute `axis`."""
    data, indices = inference.type(0), require_indices(inference, 1)
    axis = required_axis(inference, data.rank)
    inference.require(data.rank == indices.rank, f"indices {indices} for {data}")
    for i, (short, long) in enumerate(zip(indices.shape, data.shape, strict=True)):
        beyond = i != axis and isinstance(short, int) and isinstance(long, int) and short > long
        inference.require(not beyond, f"indices {indices} are longer than {data} on axis {i}")
    return (TensorType(data.dtype, indices.shape),)


class _GatherElementsKernel:
    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = _row_split(signature.outputs[0].shape)
        return Work(units=split.units, unit_cost=2.0 * split.unit_elements)

    def emit(self, call: KernelCall) -> None:
        b, data, indices, output = call.builder, call.input(0), call.input(1), call.output()
        bits, rank = bits_of(data.dtype), data.rank
        axis = call.attributes["axis"] % rank
        split = _row_split(call.signature.outputs[0].shape)
        with split.each(call, call.begin, end_unless_empty(call, data.shape)) as (row, _, width):
            outer = unflatten(b, row, output.shape[:-1])
            base: Index = 0
            for k, index in enumerate(outer):
                if k != axis:
                    limited = b.minimum(b.index(index), b.index(data.shape[k]) - 1)
                    base = limited * data.strides[k] + base
            start = b.index(row) * width
            with b.range(0, width) as i:
                chosen = load_index(b, indices.load_flat(start + i), data.shape[axis])
                read = chosen * data.strides[axis] + base
                if axis != rank - 1:
                    read = read + b.minimum(b.index(i), b.index(data.shape[-1]) - 1)
                b.store(b.load(data.pointer, bits, read), output.pointer, start + i)


def _row_split(shape: tuple[Dim, ...]) -> RowSplit:
    return RowSplit.plan(product(shape[:-1]), shape[-1], divisible=False)


def _reference_elements(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    data, indices, axis = array(inputs), array(inputs, 1), attributes["axis"] % array(inputs).ndim
    box = tuple(slice(None) if i == axis else slice(0, e) for i, e in enumerate(indices.shape))
    return (np.take_along_axis(data[box], clamped(indices, data.shape[axis]), axis=axis),)


def _infer_nd(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: data, indices `[..., k]` with k static. Attribute `batch_dims`: leading axes both share."""
    data, indices = inference.type(0), require_indices(inference, 1)
    batch = int(inference.attributes["batch_dims"])
    inference.require(
        indices.rank > batch and data.rank > batch >= 0, f"batch_dims {batch} of {indices}, {data}"
    )
    depth = indices.shape[-1]
    inference.require(isinstance(depth, int), f"the last axis of {indices} is not static")
    inference.require(isinstance(depth, int) and depth <= data.rank - batch, f"{depth} indices into {data}")
    inference.require(
        data.shape[:batch] == indices.shape[:batch], f"batch axes of {data} and {indices} differ"
    )
    tail = data.shape[batch + evaluate(depth, {}) :]
    return (TensorType(data.dtype, (*indices.shape[:-1], *tail)),)


class _GatherNdKernel:
    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = self._split(signature)
        return Work(units=split.units, unit_cost=split.unit_elements / 4)

    def emit(self, call: KernelCall) -> None:
        b, data, indices, output = call.builder, call.input(0), call.input(1), call.output()
        batch = int(call.attributes["batch_dims"])
        depth = evaluate(input_type(call.signature, 1).shape[-1], {})
        in_batch = b.index(call.dim(product(input_type(call.signature, 1).shape[batch:-1])))
        batch_elements = call.dim(product(input_type(call.signature).shape[batch:]))
        width = call.dim(product(input_type(call.signature).shape[batch + depth :]))
        end = end_unless_empty(call, data.shape[batch : batch + depth])
        with self._split(call.signature).each(call, call.begin, end) as (row, first, elements):
            read = b.index(first)
            if batch:
                read = (b.index(row) // in_batch) * batch_elements + read
            for k in range(depth):
                index = load_index(b, indices.load_flat(b.index(row) * depth + k), data.shape[batch + k])
                read = index * data.strides[batch + k] + read
            write = b.index(row) * width + first
            copy_run(b, call.target, data.dtype, (data.pointer, read), (output.pointer, write), elements)

    def _split(self, signature: StepSignature) -> RowSplit:
        data, indices = input_type(signature), input_type(signature, 1)
        skipped = int(signature.attributes["batch_dims"]) + evaluate(indices.shape[-1], {})
        return RowSplit.plan(product(indices.shape[:-1]), product(data.shape[skipped:]))


def _reference_nd(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    data, indices, batch = array(inputs), array(inputs, 1), attributes["batch_dims"]
    depth = indices.shape[-1]
    lead = int(np.prod(indices.shape[:batch], dtype=np.int64))
    rows = data.reshape(lead, *data.shape[batch:])
    picks = indices.reshape(lead, -1, depth)
    tail = data.shape[batch + depth :]
    result = np.empty((lead, picks.shape[1], *tail), data.dtype)
    for item in range(lead):
        for position in range(picks.shape[1]):
            place = tuple(int(clamped(picks[item, position, k], data.shape[batch + k])) for k in range(depth))
            result[item, position] = rows[item][place]
    return (result.reshape(*indices.shape[:-1], *tail),)


ALL = frozenset(DType)

CONTRACTS = (
    OperationContract(
        name="gather",
        infer=_infer_gather,
        reference=_reference_gather,
        kernel=_GatherKernel(),
        dtypes=ALL,
        rows=gathered,
    ),
    OperationContract(
        name="gather_elements",
        rows=gathered_elements,
        infer=_infer_elements,
        reference=_reference_elements,
        kernel=_GatherElementsKernel(),
        dtypes=ALL,
    ),
    OperationContract(
        name="gather_nd",
        infer=_infer_nd,
        reference=_reference_nd,
        kernel=_GatherNdKernel(),
        dtypes=ALL,
        rows=gathered_slices,
    ),
)
