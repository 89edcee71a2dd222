"""`matmul_integer` and `qlinear_matmul`: products of 8-bit matrices, summed exactly in int32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.matrix.dense import flatten, matmul_grid, matmul_views, signature_grid
from plumbline.kernels.matrix.product import Grid, emit_grid, grid_work
from plumbline.kernels.matrix.tile import MatrixView

__all__ = ["IntegerMatmulKernel", "QuantisedMatmulKernel", "infer_integer", "infer_quantised", "requantise"]

BYTES = (DType.INT8, DType.UINT8)


def require_bytes(inference: Inference, *types: TensorType) -> None:
    """Refuse operands that are not 8-bit integers."""
    for type_ in types:
        if type_.dtype not in BYTES:
            raise DTypeRefused(operation=inference.operation, dtype=type_.dtype.value, needed="int8 or uint8")


def _require_per_line(inference: Inference, position: int, extent: object, line: str) -> None:
    """A zero point or scale is one number or one per row or column."""
    found = inference.inputs[position] if position < len(inference.inputs) else None
    if found is None or found.shape in ((), (1,)):
        return
    fits = found.rank == 1 and found.shape[0] == extent
    inference.require(fits, f"input {position} {found}: one number or one per {line} is supported")


def infer_integer(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `matmul_integer(a, b, a_zero_point?, b_zero_point?) -> int32`."""
    left, right = inference.type(0), inference.type(1)
    require_bytes(inference, left, right)
    grid, shape = matmul_grid(inference, left, right)
    _require_per_line(inference, 2, grid.rows, "row")
    _require_per_line(inference, 3, grid.columns, "column")
    return (TensorType(DType.INT32, shape),)


def infer_quantised(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `qlinear_matmul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)`."""
    left, right, zero = inference.type(0), inference.type(3), inference.type(7)
    require_bytes(inference, left, right, zero)
    grid, shape = matmul_grid(inference, left, right)
    for position, extent, line in ((1, grid.rows, "row"), (2, grid.rows, "row"), (4, grid.columns, "column"),
                                   (5, grid.columns, "column"), (6, 1, "tensor"),
                                   (7, 1, "tensor")):  # fmt: skip
        _require_per_line(inference, position, extent, line)
    for position in (1, 4, 6):
        if not inference.type(position).dtype.is_float:
            raise DTypeRefused(
                operation=inference.operation,
                dtype=inference.type(position).dtype,
                needed="scales are floats",
            )
    return (TensorType(zero.dtype, shape),)


def per_line(b: FunctionBuilder, tensor: TensorRef, dtype: DType) -> Callable[[Index, int], Value]:
    """Read a number of a line (or `lanes` numbers of consecutive lines) as `dtype`; one number serves all."""
    if tensor.type.shape in ((), (1,)):
        number = b.cast(tensor.load_flat(0), dtype)
        return lambda line, lanes: b.splat(number, lanes)
    return lambda line, lanes: b.cast(tensor.load_flat(line, lanes=lanes), dtype)


def requantise(b: FunctionBuilder, total: Value, factor: Value, zero: Value, dtype: DType) -> Value:
    """`saturate(round_half_even(total * factor) + zero)` as `dtype`; `zero` is int32."""
    scaled = b.intrinsic("llvm.roundeven", b.cast(total, DType.FLOAT32) * b.splat(factor, total.lanes))
    bounded = b.minimum(b.maximum(scaled, -1e6), 1e6)
    number = b.cast(bounded, DType.INT32) + b.splat(zero, total.lanes)
    low, high = (-128, 127) if dtype is DType.INT8 else (0, 255)
    return b.cast(b.minimum(b.maximum(number, low), high), dtype)


def _views(
    b: FunctionBuilder,
    plain: Callable[[tuple[Index, ...]], tuple[MatrixView, MatrixView]],
    left_zero: TensorRef | None,
    right_zero: TensorRef | None,
) -> Callable[[tuple[Index, ...]], tuple[MatrixView, MatrixView]]:
    zeros = [None if z is None else per_line(b, z, DType.INT32) for z in (left_zero, right_zero)]

    def views(batch: tuple[Index, ...]) -> tuple[MatrixView, MatrixView]:
        left, right = plain(batch)
        return replace(left, zero=zeros[0]), replace(right, zero=zeros[1])

    return views


class IntegerMatmulKernel:
    """Native code of `matmul_integer`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is four rows times a chunk of columns."""
        return grid_work(signature_grid(signature))

    def emit(self, call: KernelCall) -> None:
        """Tiles with int32 sums."""
        grid = signature_grid(call.signature)
        left, right, output = call.input(0), call.input(1), call.output()
        plain = matmul_views(call.builder, left, right, grid)
        views = _views(call.builder, plain, call.optional_input(2), call.optional_input(3))
        rows, columns = call.dim(grid.rows), call.dim(grid.columns)
        batch_shape = tuple(call.dim(d) for d in grid.batch)

        def store(batch: tuple[Index, ...]) -> Callable[[Index, Index, Value], None]:
            start = flatten(batch, batch_shape) * rows
            return lambda row, column, total: output.store_flat(total, (start + row) * columns + column)

        emit_grid(call, grid, DType.INT32, views, store)


class QuantisedMatmulKernel:
    """Native code of `qlinear_matmul`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is four rows times a chunk of columns."""
        return grid_work(_quantised_grid(signature))

    def emit(self, call: KernelCall) -> None:
        """Tiles with int32 sums, scaled back to 8 bits."""
        b = call.builder
        grid = _quantised_grid(call.signature)
        left, right, output = call.input(0), call.input(3), call.output()
        views = _views(b, matmul_views(b, left, right, grid), call.input(2), call.input(5))
        rows, columns = call.dim(grid.rows), call.dim(grid.columns)
        batch_shape = tuple(call.dim(d) for d in grid.batch)
        row_scale, column_scale = (per_line(b, call.input(i), DType.FLOAT32) for i in (1, 4))
        scale = b.cast(call.input(6).load_flat(0), DType.FLOAT32)
        zero = b.cast(call.input(7).load_flat(0), DType.INT32)

        def store(batch: tuple[Index, ...]) -> Callable[[Index, Index, Value], None]:
            start = flatten(batch, batch_shape) * rows

            def write(row: Index, column: Index, total: Value) -> None:
                lanes = total.lanes
                ratio = (
                    b.splat(row_scale(row, 1), lanes) * column_scale(column, lanes) / b.splat(scale, lanes)
                )
                value = requantise(b, total, ratio, zero, output.dtype)
                output.store_flat(value, (start + row) * columns + column)

            return write

        emit_grid(call, grid, DType.INT32, views, store)


def _quantised_grid(signature: StepSignature) -> Grid:
    inference = Inference(operation=signature.operation, inputs=signature.inputs, attributes={})
    return matmul_grid(inference, inference.type(0), inference.type(3))[0]
