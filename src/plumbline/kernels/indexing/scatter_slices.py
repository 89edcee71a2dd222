"""`scatter_nd` and `tensor_scatter`: whole slices written by index.

Updates apply in row-major order of the indices. A unit owns every update that can meet another on the same
element, so results do not depend on how units are split. The output may share the address of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, ceildiv, evaluate, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference, KernelCall, OperationContract, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.emit.tensor import product as product_of
from plumbline.kernels.indexing.combining import (
    combine,
    combine_at,
    copy_unless_shared,
    require_same_dtype,
    required_reduction,
)
from plumbline.kernels.indexing.positions import (
    clamped,
    end_unless_empty,
    load_index,
    require_indices,
)
from plumbline.kernels.movement.operands import array, input_type, required_axis
from plumbline.kernels.movement.runs import copy_run, each_lane_group
from plumbline.kernels.row_rules.choosing import scattered_slices
from plumbline.kernels.rows import rows_first

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


_COLUMNS = 256


def _infer_nd(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: data, indices `[..., k]` with k static, updates `[..., *data.shape[k:]]`.

    Attribute: `reduction` (one of `REDUCTIONS`).
    """
    data, indices, updates = inference.type(0), require_indices(inference, 1), inference.type(2)
    required_reduction(inference)
    require_same_dtype(inference, data, updates)
    inference.require(
        indices.rank >= 1 and isinstance(indices.shape[-1], int), f"indices {indices} need static k"
    )
    depth = evaluate(indices.shape[-1], {})
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
        return evaluate(input_type(signature, 1).shape[-1], {})

    def _update(self, call: KernelCall, first: Index, count: Index, width: Index) -> None:
        b, data, indices, updates, output = (
            call.builder, call.input(0), call.input(1), call.input(2), call.output(),
        )  # fmt: skip
        depth, reduction = self._depth(call.signature), str(call.attributes.get("reduction", "none"))
        indexed = data.shape[:depth]
        number = call.dim(product(input_type(call.signature, 1).shape[:-1]))
        if not all(isinstance(e, int) and e > 0 for e in indexed):
            empty = b.compare("eq", b.index(product_of(indexed)), 0)
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


def _strip(signature: StepSignature) -> tuple[int | None, Dim]:
    """Elements of a strip (None: one unit does all) and of a slice."""
    depth = evaluate(input_type(signature, 1).shape[-1], {})
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


def _infer_tensor(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: cache, update (shorter along the axis), write positions `[batch]` (optional, 0 where absent).

    Attributes: `axis` (not 0), `mode` ("linear": entries past the end are dropped; "circular": they wrap).
    """
    cache, update = inference.type(0), inference.type(1)
    axis = required_axis(inference, cache.rank)
    inference.require(axis > 0, "the axis cannot be the batch axis")
    inference.require(inference.attributes["mode"] in ("linear", "circular"), "mode is linear or circular")
    require_same_dtype(inference, cache, update)
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
        name="scatter_nd",
        rows=scattered_slices,
        infer=_infer_nd,
        reference=_reference_nd,
        kernel=_ScatterNdKernel(),
        inplace=IN_PLACE,
        dtypes=ALL,
    ),
    OperationContract(
        name="tensor_scatter",
        infer=_infer_tensor,
        reference=_reference_tensor,
        kernel=_TensorScatterKernel(),
        inplace=IN_PLACE,
        dtypes=ALL,
        rows=rows_first(0, 1, 2),
    ),
)
