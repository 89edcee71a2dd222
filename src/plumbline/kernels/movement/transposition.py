"""Transposing square tiles in registers: whole vectors are read and written, shuffles turn them between."""

from __future__ import annotations

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value, is_value
from plumbline.kernels.movement.pieces import Piece

__all__ = ["TILE_LANES", "emit_tile", "transpose_registers", "transposed_axis"]

TILE_LANES = 16
"""Largest edge of a tile."""


def transposed_axis(piece: Piece, edge: int) -> int | None:
    """The axis that the source walks densely where the destination walks the last one, if tiles pay there."""
    source, last = piece.source, piece.shape[-1]
    if source is None or piece.destination.strides[-1] != 1 or source.strides[-1] in (0, 1):
        return None
    if isinstance(last, int) and last < edge:
        return None
    for axis, (extent, stride) in enumerate(zip(piece.shape[:-1], source.strides, strict=False)):
        if stride == 1 and not (isinstance(extent, int) and extent < edge):
            return axis
    return None


def transpose_registers(b: FunctionBuilder, rows: list[Value]) -> list[Value]:
    """The transpose of `n` vectors of `n` lanes in log2(n) rounds of two-input shuffles.

    Each round interleaves the lanes of rows that lie half the matrix apart; after log2(n) rounds lane j of
    result i is lane i of row j.
    """
    n = len(rows)
    low = [lane for j in range(n // 2) for lane in (j, n + j)]
    high = [lane for j in range(n // 2, n) for lane in (j, n + j)]
    for _ in range(n.bit_length() - 1):
        half = n // 2
        rows = [b.shuffle(rows[i // 2], high if i % 2 else low, rows[i // 2 + half]) for i in range(n)]
    return rows


def emit_tile(
    b: FunctionBuilder,
    *,
    edge: int,
    dtype: DType,
    read: Pointer,
    write: Pointer,
    read_stride: Index,
    write_stride: Index,
    rows: Index,
    columns: Index,
) -> None:
    """Write `out[r * write_stride + c] = in[c * read_stride + r]` for a block of rows and columns.

    Args:
        b: function that receives the code.
        edge: rows and columns of a register tile, a power of two.
        dtype: element type.
        read: address of the first input element.
        write: address of the first output element.
        read_stride: elements between input columns.
        write_stride: elements between output rows.
        rows: rows of the block.
        columns: columns of the block.
    """
    whole_rows, whole_columns = _whole(b, rows, edge), _whole(b, columns, edge)
    with b.range(0, whole_rows, edge) as r:
        with b.range(0, whole_columns, edge) as c:
            base = b.offset(read, dtype, c * read_stride + r)
            loaded = [b.load(base, dtype, read_stride * k, lanes=edge) for k in range(edge)]
            out = b.offset(write, dtype, r * write_stride + c)
            for k, vector in enumerate(transpose_registers(b, loaded)):
                b.store(vector, out, write_stride * k)
        _scalar_block(b, dtype, read, write, (read_stride, write_stride), (r, edge), (whole_columns, columns))
    rest = b.index(rows) - whole_rows
    _scalar_block(b, dtype, read, write, (read_stride, write_stride), (whole_rows, rest), (0, columns))


def _scalar_block(
    b: FunctionBuilder,
    dtype: DType,
    read: Pointer,
    write: Pointer,
    strides: tuple[Index, Index],
    rows: tuple[Index, Index],
    columns: tuple[Index, Index],
) -> None:
    if not is_value(columns[0]) and columns[0] == columns[1]:
        return
    first, count = rows
    with b.range(columns[0], columns[1]) as c, b.range(0, count) as i:
        r = i + first
        value = b.load(read, dtype, c * strides[0] + r)
        b.store(value, write, r * strides[1] + c)


def _whole(b: FunctionBuilder, count: Index, edge: int) -> Index:
    if is_value(count):
        return b.index(count) - b.index(count) % edge
    return count - count % edge
