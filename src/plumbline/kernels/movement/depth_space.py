"""Blocks of pixels into channels and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, Expr, floordiv, mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, Shape, TensorType
from plumbline.kernels.contract import AttributeRefused, Inference, OperationContract
from plumbline.kernels.movement.copying import CopyKernel
from plumbline.kernels.movement.operands import (
    array,
    input_type,
)
from plumbline.kernels.movement.pieces import Piece, Side, dense_strides, whole
from plumbline.kernels.rows import rows_first

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


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
        name="depth_to_space",
        infer=_infer_blocks,
        reference=_reference_depth_to_space,
        kernel=CopyKernel(_block_pieces),
        dtypes=ALL,
        rows=rows_first(0),
    ),
    OperationContract(
        name="space_to_depth",
        infer=_infer_blocks,
        reference=_reference_space_to_depth,
        kernel=CopyKernel(_block_pieces),
        dtypes=ALL,
        rows=rows_first(0),
    ),
)
