"""The shape rule of packed attention, and the sizes that its kernel works with."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, ShapeRefused
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.text.panels import PanelShape
from plumbline.kernels.text.rows import integer_attribute, require_offsets

__all__ = ["AttentionGeometry", "attention_geometry", "infer_packed_attention"]

F32 = DType.FLOAT32


def infer_packed_attention(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule: qkv `[T, 3 H D]`, offsets `[R + 1]`, optional bias `[H, 2 M - 1]` to `[T, H D]`.

    Attributes: heads H, max_row_tokens M.
    """
    qkv, offsets = inference.type(0), inference.type(1)
    heads, limit = integer_attribute(inference, "heads"), integer_attribute(inference, "max_row_tokens")
    if qkv.dtype is not F32:
        raise DTypeRefused(operation=inference.operation, dtype=qkv.dtype.value, needed="float32 is needed")
    require_offsets(inference, offsets)
    width = qkv.shape[1] if qkv.rank == 2 else None
    inference.require(
        isinstance(width, int) and width > 0 and width % (3 * heads) == 0,
        f"{qkv} does not hold queries, keys and values of {heads} heads side by side",
    )
    bias = inference.inputs[2] if len(inference.inputs) > 2 else None
    if bias is not None:
        fits = bias.dtype is F32 and bias.shape == (heads, 2 * limit - 1)
        inference.require(fits, f"the bias is float32[{heads}, {2 * limit - 1}], not {bias}")
    return (TensorType(F32, (qkv.shape[0], _width(qkv) // 3)),)


def _width(qkv: TensorType) -> int:
    width = qkv.shape[1]
    if not isinstance(width, int):
        raise ShapeRefused(operation="packed_attention", reason="the width must be known at build")
    return width


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionGeometry:
    """Static numbers of one attention kernel, in float32 elements.

    Attributes:
        heads: heads of a token.
        depth: elements of a head.
        limit: longest row.
        lanes: elements of a vector.
        tile: queries that are taken together.
    """

    heads: int
    depth: int
    limit: int
    lanes: int
    tile: int

    @property
    def width(self) -> int:
        """Elements of a token in qkv."""
        return 3 * self.heads * self.depth

    @property
    def panels(self) -> PanelShape:
        """Panels of keys."""
        return PanelShape(depth=self.depth, lanes=self.lanes, width=self.width)

    @property
    def stride(self) -> int:
        """Elements of a row of scores; one spare vector puts rows in different cache sets."""
        return self.panels.padded(self.limit) + self.lanes

    @property
    def workspace_elements(self) -> tuple[int, int, int, int]:
        """Panels of keys, copied queries, scores, and factors of a tile."""
        keys = self.panels.padded(self.limit) * self.depth
        return keys, _round_up(self.tile * self.depth, 16), self.tile * self.stride, _round_up(self.tile, 16)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def attention_geometry(signature: StepSignature, target: TargetDescription) -> AttentionGeometry:
    """The numbers of a step on a target.

    Raises:
        ShapeRefused: the first operand is missing, or its width is symbolic.
    """
    qkv = signature.inputs[0]
    if qkv is None:
        raise ShapeRefused(operation="packed_attention", reason="input 0 is missing")
    heads = int(signature.attributes["heads"])
    return AttentionGeometry(
        heads=heads, depth=_width(qkv) // (3 * heads), limit=int(signature.attributes["max_row_tokens"]),
        lanes=target.float_lanes, tile=8 if target.vector_registers >= 32 else 6,
    )  # fmt: skip
