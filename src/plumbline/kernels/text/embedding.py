"""`packed_embedding`: the sum of word, position and type vectors of every token on a packed axis."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    AttributeRefused,
    DTypeRefused,
    Inference,
    KernelCall,
    ShapeRefused,
    Work,
)
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.text.rows import RowExtent, emit_row, require_offsets, rows_of

__all__ = ["PackedEmbeddingKernel", "infer_packed_embedding"]

TYPICAL_TOKENS = 32
"""Row length for which the cost of a unit is estimated."""


def infer_packed_embedding(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule: ids `[T]`, offsets `[R + 1]`, words `[V, D]`, positions `[P, D]`, type `[D]` to `[T, D]`.

    The type is optional.

    Attributes: `position_offset`, the position of the first token of a row (default 0); `padding_id` (default
    None): tokens of that id stand at position `position_offset - 1` and are not counted.
    """
    ids, offsets, words = inference.type(0), inference.type(1), inference.type(2)
    positions = inference.type(3)
    type_row = inference.inputs[4] if len(inference.inputs) > 4 else None
    if ids.dtype not in (DType.INT32, DType.INT64) or words.dtype is not DType.FLOAT32:
        raise DTypeRefused(
            operation=inference.operation, dtype=f"{ids.dtype.value}, {words.dtype.value}",
            needed="ids are int32 or int64, tables are float32",
        )  # fmt: skip
    require_offsets(inference, offsets)
    inference.require(ids.rank == 1 and words.rank == 2, f"ids {ids} or words {words} have another rank")
    inference.require(words.shape[0] != 0, "the vocabulary is empty")
    width = words.shape[1]
    fits = positions.rank == 2 and positions.shape[1] == width and positions.shape[0] != 0
    inference.require(
        fits and positions.dtype is DType.FLOAT32, f"positions {positions} do not fit words {words}"
    )
    if type_row is not None:
        inference.require(
            type_row == TensorType(DType.FLOAT32, (width,)), f"type {type_row} does not fit {words}"
        )
    _verify_attributes(inference)
    return (TensorType(DType.FLOAT32, (ids.shape[0], width)),)


def _verify_attributes(inference: Inference) -> None:
    offset, padding = inference.attributes.get("position_offset", 0), inference.attributes.get("padding_id")
    if not isinstance(offset, int) or offset < (0 if padding is None else 1):
        raise AttributeRefused(
            operation=inference.operation, attribute="position_offset", value=str(offset),
            reason="it is not negative, and at least 1 where a padding id is given",
        )  # fmt: skip


class PackedEmbeddingKernel:
    """Native code of `packed_embedding`. Ids and positions are held inside their tables."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one row."""
        offsets, words = signature.inputs[1], signature.inputs[2]
        if offsets is None or words is None:
            raise ShapeRefused(operation=signature.operation, reason="an input is missing")
        width = words.shape[1] if isinstance(words.shape[1], int) else 512
        return Work(units=rows_of(offsets), unit_cost=TYPICAL_TOKENS * width / 4)

    def emit(self, call: KernelCall) -> None:
        """Token by token of each row."""
        b = call.builder
        ids, offsets = call.input(0), call.input(1)
        tables = [call.input(2), call.input(3)]
        type_row, output = call.optional_input(4), call.output()
        with b.range(call.begin, call.end) as row:
            extent = emit_row(b, offsets, row, ids.shape[0])
            _emit_tokens(call, extent, ids, tables, type_row, output)


def _emit_tokens(
    call: KernelCall, extent: RowExtent, ids: TensorRef, tables: Sequence[TensorRef],
    type_row: TensorRef | None, output: TensorRef,
) -> None:  # fmt: skip
    b = call.builder
    padding = call.attributes.get("padding_id")
    first = b.const(DType.INT64, int(call.attributes.get("position_offset", 0)))

    def body(i: Index, held: list[Value]) -> list[Value]:
        token = extent.start + i
        id_ = b.cast(ids.load(token), DType.INT64)
        position, following = held[0], held[0] + 1
        if padding is not None:
            is_padding = b.compare("eq", id_, int(padding))
            position = b.select(is_padding, first - 1, position)
            following = b.select(is_padding, held[0], following)
        starts = [_row_start(b, table, index) for table, index in zip(tables, (id_, position), strict=True)]
        _emit_sum(call, token, tables, starts, type_row, output)
        return [following]

    b.reduce(0, extent.count, [first], body)


def _row_start(b: FunctionBuilder, table: TensorRef, index: Value) -> Value:
    """Element where a row of a table begins; the index is held inside the table."""
    last = b.index(table.shape[0]) - 1
    return b.minimum(b.maximum(index, 0), last) * table.shape[1]


def _emit_sum(
    call: KernelCall, token: Value, tables: Sequence[TensorRef], starts: Sequence[Value],
    type_row: TensorRef | None, output: TensorRef,
) -> None:  # fmt: skip
    base = token * output.shape[1]

    def body(d: Index, lanes: int) -> None:
        words, positions = (t.load_flat(s + d, lanes=lanes) for t, s in zip(tables, starts, strict=True))
        total = words if type_row is None else words + type_row.load_flat(d, lanes=lanes)
        output.store_flat(total + positions, base + d)

    call.builder.vectorize(output.shape[1], call.target.float_lanes, body)
