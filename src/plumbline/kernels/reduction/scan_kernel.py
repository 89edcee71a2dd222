"""Native code of running sums and products along one axis, element after element in order.

The axis is an attribute, or an operand that is read at run time; then one unit walks the whole tensor.
"""

from __future__ import annotations

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.pointwise.expression import compute_dtype
from plumbline.kernels.reduction.axes import for_each_line
from plumbline.kernels.reduction.softmax_kernel import line_of, line_work

__all__ = ["ScanKernel", "has_axis_operand"]


def has_axis_operand(signature: StepSignature) -> bool:
    """Whether the axis is known only at run time."""
    return len(signature.inputs) > 1 and signature.inputs[1] is not None


class ScanKernel:
    """`cum_sum` and `cum_prod`; half-width floats are carried in float32."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row or a strip of lines; the whole tensor where the axis is an operand."""
        if has_axis_operand(signature):
            elements = signature.outputs[0].elements
            return Work(units=1, unit_cost=float(elements if isinstance(elements, int) else 4096))
        return line_work(signature, 1.0)

    def emit(self, call: KernelCall) -> None:
        """One pass a line."""
        source, output = call.input(0), call.output()
        dtype = compute_dtype(source.dtype)
        if has_axis_operand(call.signature):
            _emit_any_axis(call, source, output, dtype)
            return
        line = line_of(call.signature)
        extent = call.dim(line.extent)
        lanes = call.target.vector_bytes // max(dtype.size_bytes, 4)

        def body(start: Index, stride: Index, width: int) -> None:
            _scan_line(call, (source, output), dtype, (start, stride, extent), width)

        for_each_line(call, line, lanes, body)


def _scan_line(
    call: KernelCall,
    tensors: tuple[TensorRef, TensorRef],
    dtype: DType,
    walk: tuple[Index, Index, Index],
    width: int,
) -> None:
    """Walk (start, stride, extent); `exclusive` stores before it folds, `reverse` walks from the end."""
    b = call.builder
    source, output = tensors
    start, stride, extent = walk
    exclusive = bool(call.attributes.get("exclusive", False))
    reverse = bool(call.attributes.get("reverse", False))
    multiplies = call.signature.operation == "cum_prod"

    def step(i: Index, held: list[Value]) -> list[Value]:
        along = b.index(extent) - 1 - i if reverse else i
        place = along * stride + start
        value = b.cast(source.load_flat(place, lanes=width), dtype)
        total = held[0] * value if multiplies else held[0] + value
        output.store_flat(b.cast(held[0] if exclusive else total, output.dtype), place)
        return [total]

    b.reduce(0, extent, [b.const(dtype, 1 if multiplies else 0, width)], step)


def _emit_any_axis(call: KernelCall, source: TensorRef, output: TensorRef, dtype: DType) -> None:
    b = call.builder
    extent, inner = _chosen_axis(b, call.input(1), source)
    outer = b.index(source.elements) / b.maximum(b.index(extent) * inner, 1)
    with b.range(call.begin, call.end), b.range(0, outer) as block, b.range(0, inner) as column:
        start = block * extent * inner + column
        _scan_line(call, (source, output), dtype, (start, inner, extent), 1)


def _chosen_axis(b: FunctionBuilder, operand: TensorRef, source: TensorRef) -> tuple[Index, Index]:
    """(extent, stride) of the axis in the operand; negative ones count from the end, all are in range."""
    axis = b.cast(operand.load_flat(0), DType.INT64)
    axis = b.select(b.compare("lt", axis, 0), axis + source.rank, axis)
    axis = b.minimum(b.maximum(axis, 0), source.rank - 1)
    extent, stride = b.index(source.shape[0]), b.index(source.strides[0])
    for position in range(1, source.rank):
        here = b.compare("eq", axis, position)
        extent = b.select(here, source.shape[position], extent)
        stride = b.select(here, source.strides[position], stride)
    return extent, stride
