"""Operations that move elements once: reshape, transpose, slice, split, concat, depth and space, copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, Expr, add, floordiv, is_static, mul, product, sub
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, Shape, TensorType
from plumbline.kernels.contract import AttributeRefused, Inference, OperationContract
from plumbline.kernels.movement.copying import CopyKernel
from plumbline.kernels.movement.pieces import Piece, Side, dense_strides, region, whole

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def array(inputs: Arrays, position: int = 0) -> np.ndarray:
    """A required input of a reference."""
    found = inputs[position]
    if found is None:
        raise ValueError(f"input {position} is missing")
    return np.asarray(found)


def input_type(signature: StepSignature, position: int = 0) -> TensorType:
    """The type of a required input of a step."""
    found = signature.inputs[position]
    if found is None:
        raise ValueError(f"input {position} of {signature.operation} is missing")
    return found


# -- copy, reshape


def _infer_same(inference: Inference) -> tuple[TensorType, ...]:
    source = inference.type(0)
    return (TensorType(source.dtype, source.shape),)


def _copy_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    shape = signature.outputs[0].shape
    return (Piece(shape=shape, source=whole(0, shape), destination=whole(0, shape)),)


def _infer_reshape(inference: Inference) -> tuple[TensorType, ...]:
    """Attribute `shape`: the new dimensions (no -1, no copied 0) of as many elements as the input."""
    source, shape = inference.type(0), tuple(inference.attributes["shape"])
    before, after = source.elements, product(shape)
    if is_static(before) and is_static(after):
        inference.require(before == after, f"{before} elements do not fit shape {shape}")
    return (TensorType(source.dtype, shape),)


# -- transpose


def _infer_transpose(inference: Inference) -> tuple[TensorType, ...]:
    """Attribute `perm`: output axis i is input axis perm[i]."""
    source, perm = inference.type(0), tuple(inference.attributes["perm"])
    if sorted(perm) != list(range(source.rank)):
        raise AttributeRefused(
            operation="transpose",
            attribute="perm",
            value=str(perm),
            reason=f"not a permutation of {source.rank} axes",
        )
    return (TensorType(source.dtype, tuple(source.shape[p] for p in perm)),)


def _transpose_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    strides = dense_strides(input_type(signature).shape)
    walked = tuple(strides[p] for p in signature.attributes["perm"])
    shape = signature.outputs[0].shape
    return (
        Piece(shape=shape, source=Side(operand=0, offset=0, strides=walked), destination=whole(0, shape)),
    )


# -- slice


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


# -- split, concat


def _axis(inference: Inference, rank: int) -> int:
    axis = int(inference.attributes["axis"])
    if not -rank <= axis < rank:
        raise AttributeRefused(
            operation=inference.operation,
            attribute="axis",
            value=str(axis),
            reason=f"the tensor has {rank} axes",
        )
    return axis % rank


def _infer_split(inference: Inference) -> tuple[TensorType, ...]:
    """Attributes `axis` and `sizes` (one entry for each output, together the extent of the axis)."""
    source, sizes = inference.type(0), tuple(inference.attributes["sizes"])
    axis = _axis(inference, source.rank)
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
    axis = _axis(inference, first.rank)
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


# -- depth and space


def _blocks(
    shape: Shape, block: int, mode: str, *, to_depth: bool
) -> tuple[tuple[Dim, ...], tuple[int, ...]]:
    """The 6-D view of the input and the order in which the output walks it."""
    n, c, h, w = shape
    if to_depth:
        order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return (n, c, floordiv(h, block), block, floordiv(w, block), block), order
    depth = floordiv(c, block * block)
    if mode == "DCR":
        return (n, block, block, depth, h, w), (0, 3, 4, 1, 5, 2)
    return (n, depth, block, block, h, w), (0, 1, 4, 2, 5, 3)


def _infer_blocks(inference: Inference) -> tuple[TensorType, ...]:
    """Attributes `blocksize` and `mode`: "DCR" (the block before the channel, the default) or "CRD"."""
    source, block = inference.type(0), int(inference.attributes["blocksize"])
    inference.require(source.rank == 4, f"an image batch of rank 4 is needed, not {source.rank}")
    if block < 1 or inference.attributes.get("mode", "DCR") not in ("DCR", "CRD"):
        raise AttributeRefused(
            operation=inference.operation,
            attribute="blocksize",
            value=str(block),
            reason="or mode is not defined",
        )
    n, c, h, w = source.shape
    if inference.operation == "depth_to_space":
        inference.require(
            isinstance(c, Expr) or c % block**2 == 0, f"{c} channels are no multiple of {block**2}"
        )
        return (TensorType(source.dtype, (n, floordiv(c, block * block), mul(h, block), mul(w, block))),)
    for extent in (h, w):
        inference.require(
            isinstance(extent, Expr) or extent % block == 0, f"{extent} is no multiple of {block}"
        )
    return (TensorType(source.dtype, (n, mul(c, block * block), floordiv(h, block), floordiv(w, block))),)


def _block_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    view, order = _view_of(input_type(signature).shape, signature.operation, signature.attributes)
    strides = dense_strides(view)
    shape = tuple(view[i] for i in order)
    source = Side(operand=0, offset=0, strides=tuple(strides[i] for i in order))
    return (Piece(shape=shape, source=source, destination=whole(0, shape)),)


def _view_of(shape: Shape, operation: str, attributes: Attributes) -> tuple[tuple[Dim, ...], tuple[int, ...]]:
    mode = str(attributes.get("mode", "DCR"))
    return _blocks(shape, attributes["blocksize"], mode, to_depth=operation == "space_to_depth")


def _reference_depth_to_space(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    x, block = array(inputs), attributes["blocksize"]
    n, c, h, w = x.shape
    result = np.empty((n, c // block**2, h * block, w * block), x.dtype)
    depth = c // block**2
    for i in range(block):
        for j in range(block):
            if attributes.get("mode", "DCR") == "DCR":
                chosen = x[:, (i * block + j) * depth : (i * block + j + 1) * depth]
            else:
                chosen = x[:, i * block + j :: block * block]
            result[:, :, i::block, j::block] = chosen
    return (result,)


def _reference_space_to_depth(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    x, block = array(inputs), attributes["blocksize"]
    parts = [x[:, :, i::block, j::block] for i in range(block) for j in range(block)]
    if attributes.get("mode", "DCR") == "DCR":
        return (np.concatenate(parts, axis=1),)
    n, _, h, w = parts[0].shape
    return (np.stack(parts, axis=2).reshape(n, -1, h, w),)


ALL = frozenset(DType)

CONTRACTS = (
    OperationContract(
        name="copy",
        infer=_infer_same,
        reference=lambda inputs, attributes: (array(inputs).copy(),),
        kernel=CopyKernel(_copy_pieces),
        inplace=((0, 0),),
        dtypes=ALL,
        mixes_rows=False,
    ),
    OperationContract(
        name="reshape",
        infer=_infer_reshape,
        kernel=None,
        is_view=True,
        dtypes=ALL,
        reference=lambda inputs, attributes: (array(inputs).reshape(attributes["shape"]),),
    ),
    OperationContract(
        name="transpose",
        infer=_infer_transpose,
        kernel=CopyKernel(_transpose_pieces),
        dtypes=ALL,
        reference=lambda inputs, attributes: (
            np.ascontiguousarray(array(inputs).transpose(attributes["perm"])),
        ),
    ),
    OperationContract(
        name="slice",
        infer=_infer_slice,
        reference=_reference_slice,
        kernel=CopyKernel(_slice_pieces),
        dtypes=ALL,
    ),
    OperationContract(
        name="split",
        infer=_infer_split,
        reference=_reference_split,
        kernel=CopyKernel(_split_pieces),
        dtypes=ALL,
    ),
    OperationContract(
        name="concat",
        infer=_infer_concat,
        reference=_reference_concat,
        kernel=CopyKernel(_concat_pieces),
        dtypes=ALL,
    ),
    OperationContract(
        name="depth_to_space",
        infer=_infer_blocks,
        reference=_reference_depth_to_space,
        kernel=CopyKernel(_block_pieces),
        dtypes=ALL,
        mixes_rows=False,
    ),
    OperationContract(
        name="space_to_depth",
        infer=_infer_blocks,
        reference=_reference_space_to_depth,
        kernel=CopyKernel(_block_pieces),
        dtypes=ALL,
        mixes_rows=False,
    ),
)
