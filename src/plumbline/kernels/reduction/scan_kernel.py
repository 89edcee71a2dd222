"""Native code of running sums and products along one axis, element after element in order."""

from __future__ import annotations

from plumbline.contracts.program import StepSignature
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.pointwise.expression import compute_dtype
from plumbline.kernels.reduction.axes import for_each_line
from plumbline.kernels.reduction.softmax_kernel import line_of, line_work

__all__ = ["ScanKernel"]


class ScanKernel:
    """`cum_sum` and `cum_prod`; half-width floats are carried in float32."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row, or a strip of neighbouring lines."""
        return line_work(signature, 1.0)

    def emit(self, call: KernelCall) -> None:
        """One pass a line; `exclusive` stores before it folds, `reverse` walks from the end."""
        b, line = call.builder, line_of(call.signature)
        source, output = call.input(0), call.output()
        extent = call.dim(line.extent)
        dtype = compute_dtype(source.dtype)
        exclusive = bool(call.attributes.get("exclusive", False))
        reverse = bool(call.attributes.get("reverse", False))
        multiplies = call.signature.operation == "cum_prod"

        def body(start: Index, stride: Index, width: int) -> None:
            def step(i: Index, held: list[Value]) -> list[Value]:
                along = b.index(extent) - 1 - i if reverse else i
                place = along * stride + start
                value = b.cast(source.load_flat(place, lanes=width), dtype)
                total = held[0] * value if multiplies else held[0] + value
                output.store_flat(b.cast(held[0] if exclusive else total, output.dtype), place)
                return [total]

            b.reduce(0, extent, [b.const(dtype, 1 if multiplies else 0, width)], step)

        for_each_line(call, line, call.target.vector_bytes // max(dtype.size_bytes, 4), body)
