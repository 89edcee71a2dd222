"""Operations that take tensors apart and put them together: slice, split, concat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, Expr, add, mul, sub
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, Inference, OperationContract
from plumbline.kernels.movement.copying import CopyKernel
from plumbline.kernels.movement.operands import (
    array,
    input_type,
    required_axis,
)
from plumbline.kernels.movement.pieces import Piece, region, whole
from plumbline.kernels.row_rules.moving import concatenated, sliced, split_rows

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def _infer_slice(inference: Inference) -> tuple[TensorType, ...]:
    """Attributes for every axis: `starts` and `sizes` (inside the tensor) and `steps` (integers, not 0).

    Static bounds are checked here; a symbolic bound is the promise of who made the attributes
    (see `movement.bounds.resolve_slice`).
    """
    source, attributes = inference.type(0), inference.attributes
    starts, sizes, steps = (tuple(attributes[k]) for k in ("starts", "sizes", "steps"))
    inference.require(
        len(starts) == len(sizes) == len(steps) == source.rank,
        "starts, sizes and steps need one entry for each axis",
    )
    for axis, (extent, start, size, step) in enumerate(zip(source.shape, starts, sizes, steps, strict=True)):
        if not isinstance(step, int) or step == 0:
            raise AttributeRefused(
                operation="slice",
                attribute="steps",
                value=str(steps),
                reason="steps are integers other than 0",
            )
        _check_slice(inference, axis, extent, start, size, step)
    return (TensorType(source.dtype, sizes),)


def _check_slice(inference: Inference, axis: int, extent: Dim, start: Dim, size: Dim, step: int) -> None:
    inference.require(isinstance(size, Expr) or size >= 0, f"axis {axis}: negative size {size}")
    if size == 0:
        return
    last = add(start, mul(sub(size, 1), step))
    for position in (start, last):
        room = sub(sub(extent, 1), position)
        below = isinstance(position, int) and position < 0
        beyond = isinstance(room, int) and room < 0
        inference.require(
            not below and not beyond, f"axis {axis}: element {position} is outside extent {extent}"
        )


def _slice_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    attributes, shape = signature.attributes, signature.outputs[0].shape
    source = region(0, input_type(signature).shape, attributes["starts"], attributes["steps"])
    return (Piece(shape=shape, source=source, destination=whole(0, shape)),)


def _reference_slice(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    x = array(inputs)
    for axis, (start, size, step) in enumerate(
        zip(attributes["starts"], attributes["sizes"], attributes["steps"], strict=True)
    ):
        x = np.take(x, start + step * np.arange(size), axis=axis)
    return (x,)


def _infer_split(inference: Inference) -> tuple[TensorType, ...]:
    """Attributes `axis` and `sizes` (one entry for each output, together the extent of the axis)."""
    source, sizes = inference.type(0), tuple(inference.attributes["sizes"])
    axis = required_axis(inference, source.rank)
    total: Dim = 0
    for size in sizes:
        inference.require(isinstance(size, Expr) or size >= 0, f"negative part {size}")
        total = add(total, size)
    rest = sub(total, source.shape[axis])
    inference.require(rest == 0, f"parts of {total} elements split an axis of {source.shape[axis]}")
    return tuple(
        TensorType(source.dtype, (*source.shape[:axis], size, *source.shape[axis + 1 :])) for size in sizes
    )


def _split_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    source = input_type(signature)
    axis = signature.attributes["axis"] % source.rank
    pieces = []
    start: Dim = 0
    for position, output in enumerate(signature.outputs):
        starts = tuple(start if i == axis else 0 for i in range(source.rank))
        pieces.append(
            Piece(
                shape=output.shape,
                source=region(0, source.shape, starts),
                destination=whole(position, output.shape),
            )
        )
        start = add(start, output.shape[axis])
    return tuple(pieces)


def _reference_split(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    edges = np.cumsum(attributes["sizes"])[:-1]
    return tuple(np.split(array(inputs), edges, axis=attributes["axis"]))


def _infer_concat(inference: Inference) -> tuple[TensorType, ...]:
    """Attribute `axis`; one or more inputs that agree on every other axis."""
    types = [inference.type(i) for i in range(len(inference.inputs))]
    inference.require(bool(types), "at least one input is needed")
    first = types[0]
    axis = required_axis(inference, first.rank)
    total: Dim = 0
    for type_ in types:
        inference.require(type_.dtype is first.dtype, f"{type_.dtype} beside {first.dtype}")
        inference.require(
            type_.rank == first.rank
            and all(
                a == b for i, (a, b) in enumerate(zip(type_.shape, first.shape, strict=True)) if i != axis
            ),
            f"{type_} does not fit {first} along axis {axis}",
        )
        total = add(total, type_.shape[axis])
    return (TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :])),)


def _concat_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    shape = signature.outputs[0].shape
    axis = signature.attributes["axis"] % len(shape)
    pieces = []
    start: Dim = 0
    for position in range(len(signature.inputs)):
        part = input_type(signature, position).shape
        starts = tuple(start if i == axis else 0 for i in range(len(shape)))
        pieces.append(Piece(shape=part, source=whole(position, part), destination=region(0, shape, starts)))
        start = add(start, part[axis])
    return tuple(pieces)


def _reference_concat(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    return (np.concatenate([array(inputs, i) for i in range(len(inputs))], axis=attributes["axis"]),)


ALL = frozenset(DType)

CONTRACTS = (
    OperationContract(
        name="slice",
        rows=sliced,
        infer=_infer_slice,
        reference=_reference_slice,
        kernel=CopyKernel(_slice_pieces),
        dtypes=ALL,
    ),
    OperationContract(
        name="split",
        rows=split_rows,
        infer=_infer_split,
        reference=_reference_split,
        kernel=CopyKernel(_split_pieces),
        dtypes=ALL,
    ),
    OperationContract(
        name="concat",
        rows=concatenated,
        infer=_infer_concat,
        reference=_reference_concat,
        kernel=CopyKernel(_concat_pieces),
        dtypes=ALL,
    ),
)
