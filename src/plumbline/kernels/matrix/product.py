"""The grid of a batched matrix product: how units map to tiles, and how batches broadcast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plumbline.contracts.dims import Dim, ceildiv, product
from plumbline.contracts.tensors import DType, Shape
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value, is_value
from plumbline.kernels.emit.tensor import TensorRef, unflatten
from plumbline.kernels.matrix.tile import ROWS, Block, MatrixView, emit_block, emit_dot_block

__all__ = ["Grid", "batch_offset", "emit_grid", "grid_work"]

CHUNK = 256
"""Columns of one unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Extents of a batched product: `batch` axes, then `rows x columns` summed over `depth`."""

    batch: Shape
    rows: Dim
    columns: Dim
    depth: Dim

    @property
    def tile_rows(self) -> int:
        """Rows of one unit."""
        return min(ROWS, self.rows) if isinstance(self.rows, int) and self.rows > 0 else ROWS

    @property
    def units(self) -> Shape:
        """Units by batch, chunk of columns and block of rows."""
        return product(self.batch), ceildiv(self.columns, CHUNK), ceildiv(self.rows, self.tile_rows)


def grid_work(grid: Grid) -> Work:
    """One unit is a block of rows times a chunk of columns."""
    depth = grid.depth if isinstance(grid.depth, int) else 256
    width = min(CHUNK, grid.columns) if isinstance(grid.columns, int) else CHUNK
    return Work(
        units=product(grid.units), unit_cost=2.0 * grid.tile_rows * max(width, 1) * max(depth, 1) / 16
    )


def batch_offset(
    b: FunctionBuilder, tensor: TensorRef, batch: tuple[Index, ...], matrix_axes: int = 2
) -> Index:
    """Element offset of the matrix that an index of the broadcast batch selects in `tensor`."""
    own = tensor.rank - matrix_axes
    total: Index = 0
    for axis in range(own):
        if tensor.type.shape[axis] != 1:
            total = batch[len(batch) - own + axis] * tensor.strides[axis] + total
    return total


def emit_grid(
    call: KernelCall,
    grid: Grid,
    dtype: DType,
    views: Callable[[tuple[Index, ...]], tuple[MatrixView, MatrixView]],
    store: Callable[[tuple[Index, ...]], Callable[[Index, Index, Value], None]],
) -> None:
    """Emit every unit of a batched product.

    Args:
        call: the step.
        grid: its extents.
        dtype: element type of the sums.
        views: left and right matrix of a batch index.
        store: what to do with the sums of a batch index (row, first column, vector).
    """
    b = call.builder
    units = tuple(call.dim(d) for d in grid.units)
    batch_shape = tuple(call.dim(d) for d in grid.batch)
    rows, columns, depth = call.dim(grid.rows), call.dim(grid.columns), call.dim(grid.depth)
    lanes = call.target.lanes(dtype)
    with b.range(call.begin, call.end) as unit:
        flat, chunk, row_block = unflatten(b, unit, units)
        batch = unflatten(b, flat, batch_shape)
        left, right = views(batch)
        first = chunk * CHUNK
        block = Block(
            left=left, right=right, rows=_rows(b, row_block * grid.tile_rows, grid, rows), first_column=first,
            columns=_smaller(b, columns - first, CHUNK), depth=depth, dtype=dtype, store=store(batch),
        )  # fmt: skip
        _emit_tile(b, block, lanes)


def _emit_tile(b: FunctionBuilder, block: Block, lanes: int) -> None:
    if _is_one(block.right.column_stride):
        emit_block(b, block, lanes)
    elif _is_one(block.right.row_stride) and _is_one(block.left.column_stride):
        emit_dot_block(b, block, lanes)
    else:
        emit_block(b, block, 1)


def _rows(b: FunctionBuilder, first: Index, grid: Grid, rows: Index) -> tuple[Index, ...]:
    """The rows of a tile; those past the end repeat the last row."""
    exact = isinstance(grid.rows, int) and grid.rows % grid.tile_rows == 0
    last = rows - 1
    return tuple(
        first + r if exact or r == 0 else _smaller(b, first + r, last) for r in range(grid.tile_rows)
    )


def _smaller(b: FunctionBuilder, x: Index, y: Index) -> Index:
    if isinstance(x, int) and isinstance(y, int):
        return min(x, y)
    return b.minimum(b.index(x), b.index(y))


def _is_one(stride: Index) -> bool:
    return not is_value(stride) and stride == 1
