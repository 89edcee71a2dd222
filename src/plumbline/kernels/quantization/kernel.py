"""Native code of quantisation: divide, round half to even, add the zero point, saturate; and the way back."""

from __future__ import annotations

import numpy as np

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.quantization.granularity import RUN, Granularity, for_each_run, granularity_of

__all__ = ["DequantizeKernel", "QuantizeKernel"]


class QuantizeKernel:
    """`quantize_linear`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a run of elements that share scales or walk along them."""
        return _work(signature)

    def emit(self, call: KernelCall) -> None:
        """Vectors of elements with one scale or as many."""
        b = call.builder
        source, scale, zero = call.input(0), call.input(1), call.optional_input(2)
        output = call.output()
        limits = np.iinfo(output.dtype.numpy)
        wide = {DType.FLOAT64, DType.INT32} & {source.dtype, scale.dtype}
        dtype = DType.FLOAT64 if wide else DType.FLOAT32
        division = DType(call.attributes.get("precision") or scale.dtype)

        def rounded(value: Value) -> Value:
            half = division.is_float and division.size_bytes == 2
            return b.cast(b.cast(value, division), dtype) if half else value

        def body(position: Index, place: Index, lanes: int, one: bool) -> None:
            value = rounded(b.cast(source.load_flat(position, lanes=lanes), dtype))
            quotient = rounded(value / rounded(_fetch(scale, place, lanes, one, dtype)))
            steps = b.intrinsic("llvm.roundeven", quotient)
            if zero is not None:
                steps = steps + _fetch(zero, place, lanes, one, dtype)
            held = math.at_most(b, math.at_least(b, steps, float(limits.min)), float(limits.max))
            output.store_flat(b.cast(b.cast(held, DType.INT32), output.dtype), position)

        for_each_run(call, granularity_of(call.signature), call.target.lanes(dtype), body)


class DequantizeKernel:
    """`dequantize_linear`: (x - zero point) * scale."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a run of elements that share scales or walk along them."""
        return _work(signature)

    def emit(self, call: KernelCall) -> None:
        """Vectors of elements with one scale or as many."""
        b = call.builder
        source, scale, zero = call.input(0), call.input(1), call.optional_input(2)
        output = call.output()
        dtype = DType.FLOAT64 if DType.FLOAT64 in (scale.dtype, output.dtype) else DType.FLOAT32

        def body(position: Index, place: Index, lanes: int, one: bool) -> None:
            steps = b.cast(source.load_flat(position, lanes=lanes), DType.INT32)
            if zero is not None:
                steps = steps - _fetch(zero, place, lanes, one, DType.INT32)
            value = b.cast(steps, dtype) * _fetch(scale, place, lanes, one, dtype)
            output.store_flat(b.cast(value, output.dtype), position)

        for_each_run(call, granularity_of(call.signature), call.target.lanes(dtype), body)


def _fetch(tensor: TensorRef, place: Index, lanes: int, one: bool, dtype: DType) -> Value:
    """A scale or zero point for `lanes` elements."""
    b = tensor.builder
    if one:
        return b.splat(b.cast(tensor.load_flat(place), dtype), lanes)
    return b.cast(tensor.load_flat(place, lanes=lanes), dtype)


def _work(signature: StepSignature) -> Work:
    plan = granularity_of(signature)
    return Work(units=plan.units, unit_cost=2.0 * _elements_per_unit(plan))


def _elements_per_unit(plan: Granularity) -> int:
    if not plan.block:
        return RUN
    width = plan.extent if plan.inner == 1 else plan.inner
    return width if isinstance(width, int) else 256
