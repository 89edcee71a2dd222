"""Writing by index: `scatter_elements`, `scatter_nd`, `tensor_scatter`.

Updates apply in row-major order of the indices. A unit owns every update that can meet another on the same
element, so results do not depend on how units are split. The output may share the address of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, ceildiv, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, OperationContract, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef, unflatten
from plumbline.kernels.indexing.combining import combine, combine_at, required_reduction
from plumbline.kernels.indexing.positions import (
    clamped,
    end_unless_empty,
    load_index,
    require_indices,
    resolved_axis,
)
from plumbline.kernels.movement.rearrange import array, input_type
from plumbline.kernels.movement.runs import RowSplit, copy_run, each_lane_group

__all__ = ["CONTRACTS", "copy_unless_shared"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]
_COLUMNS = 256


def copy_unless_shared(
    call: KernelCall, data: TensorRef, output: TensorRef, first: Index, count: Index
) -> None:
    """Copy a run of the data to the output where they are different tensors."""
    b = call.builder
    differ = b.emit(f"icmp ne ptr {data.pointer.text}, {output.pointer.text}", DType.BOOL)
    with b.when(differ):
        copy_run(b, call.target, data.dtype, (data.pointer, first), (output.pointer, first), count)


def _same_dtype(inference: Inference, data: TensorType, updates: TensorType) -> None:
    if data.dtype is not updates.dtype:
        raise DTypeRefused(
            operation=inference.operation, dtype=updates.dtype.value, needed=f"updates of {data.dtype.value}"
        )


# -- scatter_elements


def _infer_elements(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: data, indices, updates like indices. Attributes: `axis`, `reduction` (one of `REDUCTIONS`)."""
    data, indices, updates = inference.type(0), require_indices(inference, 1), inference.type(2)
    axis = resolved_axis(inference, data.rank)
    required_reduction(inference)
    _same_dtype(inference, data, updates)
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
            copy_unless_shared(call, data, output, base + b_index(call, j) * data.strides[axis], count)

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


def b_index(call: KernelCall, index: Index) -> Value:
    """An index as a value of the call's function."""
    return call.builder.index(index)


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


# -- scatter_nd


def _infer_nd(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: data, indices `[..., k]` with k static, updates `[..., *data.shape[k:]]`.

    Attribute: `reduction` (one of `REDUCTIONS`).
    """
    data, indices, updates = inference.type(0), require_indices(inference, 1), inference.type(2)
    required_reduction(inference)
    _same_dtype(inference, data, updates)
    inference.require(
        indices.rank >= 1 and isinstance(indices.shape[-1], int), f"indices {indices} need static k"
    )
    depth = int(str(indices.shape[-1]))
    inference.require(depth <= data.rank, f"{depth} indices into {data}")
    inference.require(
        updates.shape == (*indices.shape[:-1], *data.shape[depth:]), f"updates {updates} for {data}"
    )
    return (TensorType(data.dtype, data.shape),)


class _ScatterNdKernel:
    """A unit is a strip of every slice, which sees all updates of that strip."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        piece, width = _strip(signature)
        count = input_type(signature).elements
        units = 1 if piece is None else ceildiv(width, piece)
        return Work(units=units, unit_cost=count / 4 if isinstance(count, int) else 1e4)

    def emit(self, call: KernelCall) -> None:
        b, data, output = call.builder, call.input(0), call.output()
        piece, width_dim = _strip(call.signature)
        width, total = call.dim(width_dim), data.elements
        rows = call.dim(product(input_type(call.signature).shape[: self._depth(call.signature)]))
        with b.range(call.begin, call.end) as unit:
            if piece is None:
                copy_unless_shared(call, data, output, 0, total)
                self._update(call, 0, width, width)
            else:
                first = b.index(unit) * piece
                count = b.minimum(b.index(width) - first, piece)
                with b.range(0, rows) as row:
                    copy_unless_shared(call, data, output, b.index(row) * width + first, count)
                self._update(call, first, count, width)

    @staticmethod
    def _depth(signature: StepSignature) -> int:
        return int(str(input_type(signature, 1).shape[-1]))

    def _update(self, call: KernelCall, first: Index, count: Index, width: Index) -> None:
        b, data, indices, updates, output = (
            call.builder, call.input(0), call.input(1), call.input(2), call.output(),
        )  # fmt: skip
        depth, reduction = self._depth(call.signature), str(call.attributes.get("reduction", "none"))
        indexed = data.shape[:depth]
        number = call.dim(product(input_type(call.signature, 1).shape[:-1]))
        if not all(isinstance(e, int) and e > 0 for e in indexed):
            empty = b.compare("eq", b.index(_product(indexed)), 0)
            number = b.select(empty, b.index(0), b.index(number))
        with b.range(0, number) as row:
            write = b.index(first)
            for k in range(depth):
                index = load_index(b, indices.load_flat(b.index(row) * depth + k), indexed[k])
                write = index * data.strides[k] + write
            read = b.index(row) * width + first
            self._combine_run(call, reduction, updates, read, output, write, count)

    def _combine_run(
        self,
        call: KernelCall,
        reduction: str,
        updates: TensorRef,
        read: Value,
        output: TensorRef,
        write: Value,
        count: Index,
    ) -> None:
        b = call.builder

        def body(i: Index, lanes: int) -> None:
            new = updates.load_flat(read + i, lanes=lanes)
            old = new if reduction == "none" else output.load_flat(write + i, lanes=lanes)
            output.store_flat(combine(b, reduction, old, new), write + i)

        each_lane_group(b, count, call.target.lanes(output.dtype), body)


def _product(extents: Sequence[Index]) -> Index:
    total: Index = 1
    for extent in extents:
        total = extent * total
    return total


def _strip(signature: StepSignature) -> tuple[int | None, Dim]:
    """Elements of a strip (None: one unit does all) and of a slice."""
    depth = int(str(input_type(signature, 1).shape[-1]))
    width = product(input_type(signature).shape[depth:])
    return (_COLUMNS if isinstance(width, int) and width >= 2 * _COLUMNS else None), width


def _reference_nd(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    data, indices, updates = array(inputs).copy(), array(inputs, 1), array(inputs, 2)
    depth = indices.shape[-1]
    if 0 in data.shape[:depth] or updates.size == 0:
        return (data,)
    if depth == 0:
        place: tuple[np.ndarray, ...] = (np.zeros(indices.shape[:-1], np.int64),)
        target = data[np.newaxis]
    else:
        place = tuple(clamped(indices[..., k], data.shape[k]) for k in range(depth))
        target = data
    combine_at(target, place, updates, str(attributes.get("reduction", "none")))
    return (data,)


# -- tensor_scatter


def _infer_tensor(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: cache, update (shorter along the axis), write positions `[batch]` (optional, 0 where absent).

    Attributes: `axis` (not 0), `mode` ("linear": entries past the end are dropped; "circular": they wrap).
    """
    cache, update = inference.type(0), inference.type(1)
    axis = resolved_axis(inference, cache.rank)
    inference.require(axis > 0, "the axis cannot be the batch axis")
    inference.require(inference.attributes["mode"] in ("linear", "circular"), "mode is linear or circular")
    _same_dtype(inference, cache, update)
    inference.require(
        update.rank == cache.rank
        and all(a == b for i, (a, b) in enumerate(zip(cache.shape, update.shape, strict=True)) if i != axis),
        f"update {update} does not fit {cache}",
    )
    if len(inference.inputs) > 2 and inference.inputs[2] is not None:
        positions = require_indices(inference, 2)
        inference.require(
            positions.shape == cache.shape[:1], f"{positions} are not one position for each batch"
        )
    return (TensorType(cache.dtype, cache.shape),)


class _TensorScatterKernel:
    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        shape = input_type(signature).shape
        axis = signature.attributes["axis"] % len(shape)
        slab = product(shape[axis:])
        return Work(units=product(shape[:axis]), unit_cost=slab / 4 if isinstance(slab, int) else 4096)

    def emit(self, call: KernelCall) -> None:
        b, cache, update, output = call.builder, call.input(0), call.input(1), call.output()
        positions = call.optional_input(2)
        shape = input_type(call.signature).shape
        axis = call.attributes["axis"] % len(shape)
        in_batch, width = b.index(call.dim(product(shape[1:axis]))), call.dim(product(shape[axis + 1 :]))
        extent, count = b.index(cache.shape[axis]), update.shape[axis]
        end = end_unless_empty(call, (cache.shape[axis],))
        with b.range(call.begin, end) as unit:
            base = b.index(unit) * extent
            copy_unless_shared(call, cache, output, base * width, extent * width)
            start = b.index(0)
            if positions is not None:
                start = b.cast(positions.load_flat(b.index(unit) // in_batch), DType.INT64)
            with b.range(0, count) as i:
                place = start + i
                if call.attributes["mode"] == "circular":
                    place = b.rem(place, extent)
                    place = b.select(place < 0, place + extent, place)
                read = (b.index(unit) * count + i) * width
                with b.when((place >= 0) & (place < extent)):
                    written = (base + place) * width
                    copy_run(
                        b, call.target, cache.dtype, (update.pointer, read), (output.pointer, written), width
                    )


def _reference_tensor(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    cache, update = array(inputs).copy(), array(inputs, 1)
    axis = attributes["axis"] % cache.ndim
    positions = np.zeros(cache.shape[0], np.int64)
    if len(inputs) > 2 and inputs[2] is not None:
        positions = array(inputs, 2).astype(np.int64)
    moved, source = np.moveaxis(cache, axis, 1), np.moveaxis(update, axis, 1)
    for item, start in enumerate(positions):
        for i in range(source.shape[1]):
            place = int(start) + i
            if attributes["mode"] == "circular":
                place %= moved.shape[1]
            if 0 <= place < moved.shape[1]:
                moved[item, place] = source[item, i]
    return (cache,)


ALL = frozenset(DType)
IN_PLACE = ((0, 0),)

CONTRACTS = (
    OperationContract(
        name="scatter_elements", infer=_infer_elements, reference=_reference_elements,
        kernel=_ScatterElementsKernel(), inplace=IN_PLACE, dtypes=ALL,
    ),
    OperationContract(
        name="scatter_nd", infer=_infer_nd, reference=_reference_nd, kernel=_ScatterNdKernel(),
        inplace=IN_PLACE, dtypes=ALL,
    ),
    OperationContract(
        name="tensor_scatter", infer=_infer_tensor, reference=_reference_tensor,
        kernel=_TensorScatterKernel(), inplace=IN_PLACE, dtypes=ALL, mixes_rows=False,
    ),
)  # fmt: skip
