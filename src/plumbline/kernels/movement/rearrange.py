"""Operations that keep elements and change how they are walked: copy, reshape, transpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import is_static, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, Inference, OperationContract
from plumbline.kernels.movement.copying import CopyKernel
from plumbline.kernels.movement.operands import array, input_type, required_shape
from plumbline.kernels.movement.pieces import Piece, Side, dense_strides, whole
from plumbline.kernels.row_rules.moving import of_first, reshaped, transposed

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def _infer_same(inference: Inference) -> tuple[TensorType, ...]:
    source = inference.type(0)
    return (TensorType(source.dtype, source.shape),)


def _copy_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    shape = signature.outputs[0].shape
    return (Piece(shape=shape, source=whole(0, shape), destination=whole(0, shape)),)


def _infer_reshape(inference: Inference) -> tuple[TensorType, ...]:
    """Attribute `shape`: the new dimensions (no -1, no copied 0) of as many elements as the input."""
    source, shape = inference.type(0), required_shape(inference, inference.attributes["shape"])
    before, after = source.elements, product(shape)
    if is_static(before) and is_static(after):
        inference.require(before == after, f"{before} elements do not fit shape {shape}")
    return (TensorType(source.dtype, shape),)


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


ALL = frozenset(DType)

CONTRACTS = (
    OperationContract(
        name="copy",
        infer=_infer_same,
        reference=lambda inputs, attributes: (array(inputs).copy(),),
        kernel=CopyKernel(_copy_pieces),
        inplace=((0, 0),),
        dtypes=ALL,
        rows=of_first,
    ),
    OperationContract(
        name="reshape",
        rows=reshaped,
        infer=_infer_reshape,
        kernel=None,
        is_view=True,
        dtypes=ALL,
        reference=lambda inputs, attributes: (array(inputs).reshape(attributes["shape"]),),
    ),
    OperationContract(
        name="transpose",
        rows=transposed,
        infer=_infer_transpose,
        kernel=CopyKernel(_transpose_pieces),
        dtypes=ALL,
        reference=lambda inputs, attributes: (array(inputs).transpose(attributes["perm"]).copy(),),
    ),
)
