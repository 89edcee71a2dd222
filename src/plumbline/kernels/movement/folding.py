"""Padding that repeats the tensor itself: every output coordinate is folded back to an input coordinate."""

from __future__ import annotations

from plumbline.contracts.dims import Dim, add, maximum, product, sub
from plumbline.contracts.program import StepSignature
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import product as product_of
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.movement.runs import RowSplit, bits_of, copy_run

__all__ = ["FoldedPadKernel", "fold"]


def floor_mod(b: FunctionBuilder, value: Value, divisor: Index) -> Value:
    """Remainder with the sign of a positive divisor."""
    rest = b.rem(value, divisor)
    return b.select(rest < 0, rest + divisor, rest)


def fold(b: FunctionBuilder, mode: str, position: Value, extent: Index) -> Value:
    """Map any integer coordinate into `[0, extent)`: `edge`, `wrap`, or `reflect` (edges not repeated)."""
    last = b.index(extent) - 1
    if mode == "edge":
        return b.maximum(b.minimum(position, last), 0)
    if mode == "wrap":
        return floor_mod(b, position, b.maximum(b.index(extent), 1))
    period = b.maximum(last * 2, 1)
    phase = floor_mod(b, position, period)
    return b.minimum(phase, period - phase) if not _is_one(extent) else b.const(phase.dtype, 0)


def _is_one(extent: Index) -> bool:
    return isinstance(extent, int) and extent == 1


class FoldedPadKernel:
    """Native code of edge, reflect and wrap padding; one unit is a few rows along the last axis.

    Where an extent turns out to be 0 at run time there is nothing to repeat and nothing is written.
    """

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """Rows of the output."""
        split = _split(signature)
        return Work(units=split.units, unit_cost=split.unit_elements)

    def emit(self, call: KernelCall) -> None:
        """Fold the outer coordinates once a row, copy the kept run, fold the elements beside it."""
        b, attributes = call.builder, call.attributes
        source, output = call.input(0), call.output()
        bits, mode = bits_of(output.dtype), attributes["mode"]
        if not source.shape:
            b.store(b.load(source.pointer, bits), output.pointer)
            return
        lows = [call.dim(maximum(p, 0)) for p in attributes["before"]]
        skips = [call.dim(maximum(sub(0, p), 0)) for p in attributes["before"]]
        kept = [call.dim(k) for k in _kept(call.signature)]
        end = b.select(b.index(product_of(kept)) > 0, call.end, b.index(call.begin))
        with _split(call.signature).each(call, call.begin, end) as (row, _, width):
            base: Index = 0
            for axis, index in enumerate(unflatten(b, row, output.shape[:-1])):
                inside = fold(b, mode, b.index(index) - lows[axis], kept[axis]) + skips[axis]
                base = inside * source.strides[axis] + base
            start = b.index(row) * width
            low, count, skip = lows[-1], kept[-1], b.index(skips[-1]) + base
            copy_run(b, call.target, bits, (source.pointer, skip), (output.pointer, start + low), count)
            for first, last in ((0, low), (b.index(low) + count, width)):
                with b.range(first, last) as i:
                    inside = fold(b, mode, b.index(i) - low, count)
                    b.store(b.load(source.pointer, bits, skip + inside), output.pointer, start + i)


def _split(signature: StepSignature) -> RowSplit:
    shape = signature.outputs[0].shape
    return RowSplit.plan(product(shape[:-1]), shape[-1] if shape else 1, divisible=False)


def _kept(signature: StepSignature) -> tuple[Dim, ...]:
    shape, attributes = signature.outputs[0].shape, signature.attributes
    return tuple(
        sub(e, add(maximum(low, 0), maximum(high, 0)))
        for e, low, high in zip(shape, attributes["before"], attributes["after"], strict=True)
    )
