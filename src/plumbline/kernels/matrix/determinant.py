"""`det`: determinants of square matrices by elimination with partial pivoting, in float64."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.dims import product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["DeterminantKernel", "infer_determinant"]


def infer_determinant(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `det`: [..., M, M] floats to [...]."""
    type_ = inference.type(0)
    if not type_.dtype.is_float:
        raise DTypeRefused(operation="det", dtype=type_.dtype.value, needed="a float type")
    inference.require(type_.rank >= 2 and type_.shape[-1] == type_.shape[-2], "det takes square matrices")
    return (TensorType(type_.dtype, type_.shape[:-2]),)


class DeterminantKernel:
    """Native code of `det`. The side of the matrices is static: it sizes the workspace."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one matrix."""
        side = _side(signature)
        return Work(
            units=product(signature.outputs[0].shape),
            unit_cost=float(side**3),
            workspace_bytes=side * side * 8,
        )

    def emit(self, call: KernelCall) -> None:
        """Copy a matrix to the workspace, eliminate column by column, multiply the pivots."""
        b, side = call.builder, _side(call.signature)
        matrices, output = call.input(0), call.output()
        lanes = call.target.lanes(DType.FLOAT64)
        with b.range(call.begin, call.end) as unit:
            start = unit * (side * side)

            def copy(i: Index, width: int) -> None:
                value = b.cast(matrices.load_flat(start + i, lanes=width), DType.FLOAT64)
                b.store(value, call.workspace, i)

            b.vectorize(side * side, lanes, copy)

            def eliminate(k: Index, carried: list[Value]) -> Sequence[Value]:
                return [carried[0] * _pivot(b, call.workspace, side, k, lanes)]

            result = b.reduce(0, side, [b.const(DType.FLOAT64, 1.0)], eliminate)[0]
            output.store_flat(b.cast(result, output.dtype), unit)


def _side(signature: StepSignature) -> int:
    type_ = signature.inputs[0]
    side = type_.shape[-1] if type_ is not None else None
    if not isinstance(side, int):
        raise ShapeRefused(operation="det", reason=f"the side of the matrices must be static, not {side}")
    return side


def _pivot(b: FunctionBuilder, matrix: Pointer, side: int, k: Index, lanes: int) -> Value:
    """Bring the largest element of column k to the diagonal, eliminate below it, return it with its sign."""
    best = _largest_row(b, matrix, side, k)
    top, other = k * side, best * side

    def swap(i: Index, width: int) -> None:
        upper = b.load(matrix, DType.FLOAT64, top + i, lanes=width)
        lower = b.load(matrix, DType.FLOAT64, other + i, lanes=width)
        b.store(lower, matrix, top + i)
        b.store(upper, matrix, other + i)

    b.vectorize(side, lanes, swap)
    pivot = b.load(matrix, DType.FLOAT64, top + k)
    divisor = b.select(b.compare("eq", pivot, 0.0), 1.0, pivot)
    with b.range(k + 1, side) as row:
        base = row * side
        factor = b.load(matrix, DType.FLOAT64, base + k) / divisor

        def subtract(i: Index, width: int) -> None:
            upper = b.load(matrix, DType.FLOAT64, top + i, lanes=width)
            value = b.load(matrix, DType.FLOAT64, base + i, lanes=width)
            b.store(value - upper * b.splat(factor, width), matrix, base + i)

        b.vectorize(side, lanes, subtract)
    return b.select(b.compare("eq", b.index(best), k), pivot, b.neg(pivot))


def _largest_row(b: FunctionBuilder, matrix: Pointer, side: int, k: Index) -> Value:
    first = b.absolute(b.load(matrix, DType.FLOAT64, k * side + k))

    def body(row: Index, carried: list[Value]) -> Sequence[Value]:
        magnitude = b.absolute(b.load(matrix, DType.FLOAT64, row * side + k))
        larger = magnitude > carried[0]
        return [b.select(larger, magnitude, carried[0]), b.select(larger, b.index(row), carried[1])]

    return b.reduce(k + 1, side, [first, b.index(k)], body)[1]
