"""Shape rule of `attention` and where heads lie in its operands.

Operands: `q [B, Hq, Sq, D]`, `k [B, Hkv, Sk, D]`, `v [B, Hkv, Sk, Dv]`, each also as packed `[B, S, H * D]`;
`mask` bool (True takes part) or float (added), broadcastable to `[B, Hq, Sq, Sk']` with keys from Sk' on
masked out; and `lengths [B]` int64, the valid keys of each batch row. Results: `y` in the form of `q`, and
with attribute `scores` also `[B, Hq, Sq, Sk]`.

Attributes: q_heads and kv_heads (packed operands), scale (None: 1 / sqrt(D)), causal, past (keys before the
first query; with `lengths` it is `length - Sq`), softcap (0: none), left_window and right_window (-1: open),
scores (None, "raw", "capped", "biased" or "probabilities").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from plumbline.contracts.dims import Dim, floordiv, mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference
from plumbline.kernels.emit.ir import Index
from plumbline.kernels.emit.tensor import TensorRef

__all__ = ["AttentionShape", "HeadView", "attention_shape", "infer_attention", "signature_shape"]

SCORES = (None, "raw", "capped", "biased", "probabilities")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """Extents of an attention step. Head sizes and head counts are static."""

    batch: Dim
    q_heads: int
    kv_heads: int
    queries: Dim
    keys: Dim
    size: int
    value_size: int
    scale: float


def infer_attention(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `attention`."""
    shape, q = attention_shape(inference), inference.type(0)
    if q.rank == 3:
        y = TensorType(q.dtype, (shape.batch, shape.queries, mul(shape.q_heads, shape.value_size)))
    else:
        y = TensorType(q.dtype, (shape.batch, shape.q_heads, shape.queries, shape.value_size))
    if inference.attributes.get("scores") is None:
        return (y,)
    return y, TensorType(q.dtype, (shape.batch, shape.q_heads, shape.queries, shape.keys))


def attention_shape(inference: Inference) -> AttentionShape:
    """Read the extents of a step and check its operands.

    Raises:
        ShapeRefused, DTypeRefused, AttributeRefused: something does not fit.
    """
    attributes, types = inference.attributes, [inference.type(i) for i in range(3)]
    if any(t.dtype is not types[0].dtype for t in types) or not types[0].dtype.is_float:
        listed = ", ".join(t.dtype.value for t in types)
        raise DTypeRefused(operation="attention", dtype=listed, needed="one float type for q, k and v")
    heads = (attributes.get("q_heads"), attributes.get("kv_heads"), attributes.get("kv_heads"))
    q, k, v = (_heads_first(inference, t, h) for t, h in zip(types, heads, strict=True))
    inference.require(q[0] == k[0] == v[0], f"batches differ: {q[0]}, {k[0]}, {v[0]}")
    inference.require(k[1] == v[1] and k[2] == v[2], "k and v have the same heads and positions")
    inference.require(q[3] == k[3], f"head sizes of q and k differ: {q[3]} against {k[3]}")
    inference.require(k[1] > 0 and q[1] % k[1] == 0, f"{q[1]} query heads share {k[1]} key heads")
    if attributes.get("scores") not in SCORES:
        raise AttributeRefused(
            operation="attention",
            attribute="scores",
            value=str(attributes.get("scores")),
            reason=f"one of {SCORES}",
        )
    scale = attributes.get("scale")
    shape = AttentionShape(
        batch=q[0], q_heads=q[1], kv_heads=k[1], queries=q[2], keys=k[2], size=q[3], value_size=v[3],
        scale=1.0 / math.sqrt(max(q[3], 1)) if scale is None else float(scale),
    )  # fmt: skip
    _check_optional(inference, shape)
    return shape


def _heads_first(inference: Inference, type_: TensorType, heads: Any) -> tuple[Dim, int, Dim, int]:
    """(batch, heads, positions, size) of an operand."""
    inference.require(type_.rank in (3, 4), "q, k and v have three or four axes")
    if type_.rank == 4:
        batch, count, positions, size = type_.shape
    else:
        inference.require(isinstance(heads, int) and heads > 0, "packed operands need q_heads and kv_heads")
        batch, positions, width = type_.shape
        count, size = heads, floordiv(width, heads)
        inference.require(mul(size, heads) == width, f"{width} columns in {heads} heads")
    if not isinstance(count, int) or not isinstance(size, int):
        inference.require(False, "heads and head sizes are static")
        raise TypeError("unreachable")
    return batch, count, positions, size


def _check_optional(inference: Inference, shape: AttentionShape) -> None:
    mask = inference.inputs[3] if len(inference.inputs) > 3 else None
    if mask is not None:
        if mask.dtype is not DType.BOOL and not mask.dtype.is_float:
            raise DTypeRefused(operation="attention", dtype=mask.dtype.value, needed="a bool or float mask")
        inference.require(1 <= mask.rank <= 4, "the mask has one to four axes")
        full = (shape.batch, shape.q_heads, shape.queries)
        leading = mask.shape[:-1]
        for dim, target in zip(leading, full[3 - len(leading) :], strict=True):
            inference.require(
                dim in (1, target), f"mask {mask} does not broadcast to {[str(d) for d in full]}"
            )
    lengths = inference.inputs[4] if len(inference.inputs) > 4 else None
    if lengths is not None:
        fits = lengths.shape == (shape.batch,) and lengths.dtype is DType.INT64
        inference.require(fits, f"lengths are {lengths}, not int64[{shape.batch}]")


def signature_shape(signature: StepSignature) -> AttentionShape:
    """The extents of a step that was checked before."""
    return attention_shape(
        Inference(operation=signature.operation, inputs=signature.inputs, attributes=signature.attributes)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadView:
    """One operand by (batch, head, position): packed or heads first."""

    tensor: TensorRef
    batch_stride: Index
    head_stride: Index
    row_stride: Index

    @classmethod
    def of(cls, tensor: TensorRef, size: int) -> HeadView:
        """The view of an operand whose heads have `size` elements."""
        if tensor.rank == 4:
            batch, head, row, _ = tensor.strides
            return cls(tensor=tensor, batch_stride=batch, head_stride=head, row_stride=row)
        batch, row, _ = tensor.strides
        return cls(tensor=tensor, batch_stride=batch, head_stride=size, row_stride=row)

    def start(self, batch: Index, head: Index, position: Index) -> Index:
        """Element offset of a head's row."""
        return batch * self.batch_stride + head * self.head_stride + position * self.row_stride
