"""The register tile of general matrix products: a few rows times a few vectors of columns, accumulated over
depth.

Each result element is one chain `acc = fma(left[k], right[k], acc)` for k = 0, 1, ...; so its bits do not
depend on the place of the element in a tile. Where the right matrix is contiguous along the depth instead of
along the columns, `emit_dot_block` keeps one accumulator per lane of the depth and folds the lanes at the
end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value, is_value
from plumbline.kernels.emit.tensor import TensorRef

__all__ = ["Block", "MatrixView", "accumulate", "emit_block", "emit_dot_block", "multiply_add"]

ROWS = 4
"""Rows of a tile."""
ACCUMULATORS = 8
"""Vectors of accumulators that hide the latency of a fused multiply-add."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixView:
    """A matrix inside a tensor: element (i, j) lies at `start + i * row_stride + j * column_stride`.

    `zero` gives the zero point to subtract, for a row of a left matrix or for columns of a right one.
    """

    tensor: TensorRef
    start: Index
    row_stride: Index
    column_stride: Index
    zero: Callable[[Index, int], Value] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a tile computes: `store(row, column, sum_k left[row, k] * right[k, column])`.

    `store` gets vectors of consecutive columns and may be called twice for a row with the same value.
    """

    left: MatrixView
    right: MatrixView
    rows: tuple[Index, ...]
    first_column: Index
    columns: Index
    depth: Index
    dtype: DType
    store: Callable[[Index, Index, Value], None]


def accumulate(dtype: DType) -> DType:
    """The type in which products of `dtype` are summed."""
    return DType.FLOAT32 if dtype in (DType.FLOAT16, DType.BFLOAT16) else dtype


def multiply_add(b: FunctionBuilder, x: Value, y: Value, total: Value) -> Value:
    """`x * y + total`, fused for floats and wrapping for integers."""
    if not total.dtype.is_float:
        return b.splat(x, total.lanes) * b.splat(y, total.lanes) + total
    return b.fma(x, y, total)


def emit_block(b: FunctionBuilder, block: Block, lanes: int) -> None:
    """Emit a tile whose right matrix is contiguous along the columns (`lanes` 1: any strides)."""
    if lanes == 1:
        with b.range(0, block.columns) as column:
            _emit_columns(b, block, column, 1, 1)
        return
    wide = max(2, ACCUMULATORS // len(block.rows)) * lanes
    done: Index = 0
    for step in (wide, lanes, 1):
        whole = block.columns - (block.columns - done) % step if step > 1 else block.columns
        if is_value(whole) or is_value(done) or done < whole:
            with b.range(done, whole, step) as column:
                _emit_columns(b, block, column, max(1, step // lanes), min(step, lanes))
        done = whole


def _emit_columns(b: FunctionBuilder, block: Block, column: Index, vectors: int, lanes: int) -> None:
    """All rows times `vectors * lanes` columns."""
    columns = [block.first_column + (column + v * lanes) for v in range(vectors)]
    left, right = block.left, block.right
    starts = [row * left.row_stride + left.start for row in block.rows]
    row_zeros = [None if left.zero is None else left.zero(row, 1) for row in block.rows]
    column_zeros = [None if right.zero is None else right.zero(c, lanes) for c in columns]
    bases = [c * right.column_stride + right.start for c in columns]

    def body(k: Index, carried: list[Value]) -> Sequence[Value]:
        offset, sums = carried[0], carried[1:]
        weights = [
            _read(b, right, base + offset, lanes, zero, block.dtype)
            for base, zero in zip(bases, column_zeros, strict=True)
        ]
        results = []
        for r, start in enumerate(starts):
            x = _read(b, left, k * left.column_stride + start, 1, row_zeros[r], block.dtype)
            spread = b.splat(x, lanes)
            results += [multiply_add(b, spread, w, sums[r * vectors + v]) for v, w in enumerate(weights)]
        return [offset + right.row_stride, *results]

    zero = b.const(block.dtype, 0, lanes)
    initial = [b.const(DType.INT64, 0), *[zero] * (len(starts) * vectors)]
    sums = b.reduce(0, block.depth, initial, body)[1:]
    for r, row in enumerate(block.rows):
        for v, c in enumerate(columns):
            block.store(row, c, sums[r * vectors + v])


def _read(
    b: FunctionBuilder, view: MatrixView, position: Index, lanes: int, zero: Value | None, dtype: DType
) -> Value:
    value = b.cast(view.tensor.load_flat(position, lanes=lanes), dtype)
    return value if zero is None else value - zero


def emit_dot_block(b: FunctionBuilder, block: Block, lanes: int) -> None:
    """Emit a tile whose two matrices are contiguous along the depth: one column at a time, all rows."""
    whole = block.depth - block.depth % lanes
    left, right = block.left, block.right
    starts = [row * left.row_stride + left.start for row in block.rows]
    row_zeros = [None if left.zero is None else left.zero(row, 1) for row in block.rows]
    with b.range(0, block.columns) as step:
        column = block.first_column + step
        base = column * right.column_stride + right.start
        column_zero = None if right.zero is None else right.zero(column, 1)

        def piece(k: Index, sums: list[Value], width: int) -> Sequence[Value]:
            weight = _read(b, right, base + k, width, column_zero, block.dtype)
            return [
                multiply_add(b, _read(b, left, start + k, width, zero, block.dtype), weight, total)
                for start, zero, total in zip(starts, row_zeros, sums, strict=True)
            ]

        zeros = [b.const(block.dtype, 0, lanes)] * len(starts)
        wide = b.reduce(0, whole, zeros, lambda k, s: piece(k, s, lanes), step=lanes)
        folded = [b.reduce_lanes("add", total) for total in wide]
        sums = b.reduce(whole, block.depth, folded, lambda k, s: piece(k, s, 1))
        for row, total in zip(block.rows, sums, strict=True):
            block.store(row, column, total)
