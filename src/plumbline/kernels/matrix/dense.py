"""`matmul` and `gemm`: products of matrices of one element type."""

from __future__ import annotations

from collections.abc import Callable

from plumbline.contracts.dims import Dim
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import TensorType
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
from plumbline.kernels.matrix.product import Grid, batch_offset, emit_grid, grid_work
from plumbline.kernels.matrix.tile import MatrixView, accumulate
from plumbline.kernels.pointwise.contract import broadcast_shapes

__all__ = ["GemmKernel", "MatmulKernel", "infer_gemm", "infer_matmul", "matmul_grid", "matmul_views"]


def matmul_grid(inference: Inference, left: TensorType, right: TensorType) -> tuple[Grid, tuple[Dim, ...]]:
    """Extents and result shape of numpy's `matmul`; vectors are rows on the left and columns on the right.

    Raises:
        ShapeRefused: an operand has no axis, or depths or batches differ.
    """
    inference.require(left.rank > 0 and right.rank > 0, "operands of a matrix product have at least one axis")
    a = left.shape if left.rank > 1 else (1, *left.shape)
    b = right.shape if right.rank > 1 else (*right.shape, 1)
    inference.require(a[-1] == b[-2], f"depths differ: {a[-1]} against {b[-2]}")
    batch = broadcast_shapes(inference, (a[:-2], b[:-2]))
    rows = () if left.rank == 1 else (a[-2],)
    columns = () if right.rank == 1 else (b[-1],)
    return Grid(batch=batch, rows=a[-2], columns=b[-1], depth=a[-1]), (*batch, *rows, *columns)


def infer_matmul(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `matmul`: two operands of one number type."""
    left, right = inference.type(0), inference.type(1)
    _require_numbers(inference, left, right)
    return (TensorType(left.dtype, matmul_grid(inference, left, right)[1]),)


def infer_gemm(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `gemm`: `alpha * A' B' + beta * C`; attributes transpose_a, transpose_b, alpha, beta."""
    left, right = inference.type(0), inference.type(1)
    _require_numbers(inference, left, right)
    inference.require(left.rank == 2 and right.rank == 2, "gemm multiplies matrices")
    m, k = _turned(left, inference.attributes.get("transpose_a", False))
    k2, n = _turned(right, inference.attributes.get("transpose_b", False))
    inference.require(k == k2, f"depths differ: {k} against {k2}")
    if len(inference.inputs) > 2 and inference.inputs[2] is not None:
        bias = inference.inputs[2]
        _require_numbers(inference, left, bias)
        padded = (1,) * (2 - bias.rank) + tuple(bias.shape)
        fits = bias.rank <= 2 and padded[0] in (1, m) and padded[1] in (1, n)
        inference.require(fits, f"bias {bias} does not broadcast to [{m}, {n}]")
    for name in ("alpha", "beta"):
        number = float(inference.attributes.get(name, 1.0))
        if not left.dtype.is_float and number != int(number):
            raise AttributeRefused(
                operation="gemm", attribute=name, value=str(number), reason="integers need an integer factor"
            )
    return (TensorType(left.dtype, (m, n)),)


def _require_numbers(inference: Inference, left: TensorType, right: TensorType) -> None:
    if left.dtype is not right.dtype or not (left.dtype.is_float or left.dtype.is_integer):
        raise DTypeRefused(
            operation=inference.operation,
            dtype=f"{left.dtype}, {right.dtype}",
            needed="one number type for both",
        )


def _turned(type_: TensorType, transposed: bool) -> tuple[Dim, Dim]:
    first, second = type_.shape
    return (second, first) if transposed else (first, second)


def signature_grid(signature: StepSignature) -> Grid:
    """The extents of a step that multiplies input 0 by input 1 as `matmul` does."""
    inference = Inference(
        operation=signature.operation, inputs=signature.inputs, attributes=signature.attributes
    )
    return matmul_grid(inference, inference.type(0), inference.type(1))[0]


def matmul_views(
    b: FunctionBuilder, left: TensorRef, right: TensorRef, grid: Grid
) -> Callable[[tuple[Index, ...]], tuple[MatrixView, MatrixView]]:
    """The two matrices of a batch index under numpy's rules."""
    vector = right.rank == 1 or grid.columns == 1
    depth = left.shape[-1]

    def views(batch: tuple[Index, ...]) -> tuple[MatrixView, MatrixView]:
        return (
            MatrixView(
                tensor=left, start=batch_offset(b, left, batch), row_stride=depth, column_stride=1
            ),
            MatrixView(
                tensor=right, start=batch_offset(b, right, batch),
                row_stride=1 if vector else right.shape[-1],
                column_stride=depth if vector else 1,
            ),
        )  # fmt: skip

    return views


class MatmulKernel:
    """Native code of `matmul` for every number type."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is four rows times a chunk of columns."""
        return grid_work(signature_grid(signature))

    def emit(self, call: KernelCall) -> None:
        """Tiles over the batch grid."""
        b = call.builder
        grid = signature_grid(call.signature)
        left, right, output = call.input(0), call.input(1), call.output()
        rows, columns = call.dim(grid.rows), call.dim(grid.columns)
        batch_shape = tuple(call.dim(d) for d in grid.batch)

        def store(batch: tuple[Index, ...]) -> Callable[[Index, Index, Value], None]:
            start = flatten(batch, batch_shape) * rows
            return lambda row, column, total: output.store_flat(
                b.cast(total, output.dtype), (start + row) * columns + column
            )

        emit_grid(call, grid, accumulate(left.dtype), matmul_views(b, left, right, grid), store)


def flatten(indices: tuple[Index, ...], shape: tuple[Index, ...]) -> Index:
    """Row-major position of an index."""
    total: Index = 0
    for index, extent in zip(indices, shape, strict=True):
        total = total * extent + index if isinstance(total, int) else index + total * extent
    return total


class GemmKernel:
    """Native code of `gemm` for every number type."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is four rows times a chunk of columns."""
        return grid_work(_gemm_grid(signature))

    def emit(self, call: KernelCall) -> None:
        """Tiles over rows and columns; the factors and the bias are applied to finished sums."""
        grid = _gemm_grid(call.signature)
        left, right, bias, output = call.input(0), call.input(1), call.optional_input(2), call.output()
        views = (
            _matrix(left, bool(call.attributes.get("transpose_a", False))),
            _matrix(right, bool(call.attributes.get("transpose_b", False))),
        )
        dtype = accumulate(left.dtype)

        def store(row: Index, column: Index, total: Value) -> None:
            value = _with_bias(call, bias, total, row, column)
            output.store(call.builder.cast(value, output.dtype), row, column)

        emit_grid(call, grid, dtype, lambda batch: views, lambda batch: store)


def _with_bias(call: KernelCall, bias: TensorRef | None, total: Value, row: Index, column: Index) -> Value:
    b = call.builder
    alpha, beta = (float(call.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    value = total if alpha == 1.0 else total * alpha
    if bias is None or beta == 0.0:
        return value
    shape = (1,) * (2 - bias.rank) + tuple(bias.type.shape)
    extents = (*(1,) * (2 - bias.rank), *bias.shape)
    start: Index = 0 if shape[0] == 1 else row * extents[1]
    if shape[1] == 1:
        loaded = b.splat(b.cast(bias.load_flat(start), total.dtype), total.lanes)
    else:
        loaded = b.cast(bias.load_flat(start + column, lanes=total.lanes), total.dtype)
    return value + (loaded if beta == 1.0 else loaded * beta)


def _matrix(tensor: TensorRef, transposed: bool) -> MatrixView:
    width = tensor.shape[1]
    rows, columns = (1, width) if transposed else (width, 1)
    return MatrixView(tensor=tensor, start=0, row_stride=rows, column_stride=columns)


def _gemm_grid(signature: StepSignature) -> Grid:
    left, output = signature.inputs[0], signature.outputs[0]
    if left is None:
        raise ShapeRefused(operation="gemm", reason="input 0 is missing")
    depth = left.shape[0] if signature.attributes.get("transpose_a", False) else left.shape[1]
    return Grid(batch=(), rows=output.shape[0], columns=output.shape[1], depth=depth)
