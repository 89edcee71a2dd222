"""Native code of group normalisation: a unit is one group of channels of one image."""

from __future__ import annotations

from plumbline.contracts.dims import Dim, floordiv, mul, product
from plumbline.contracts.program import StepSignature
from plumbline.kernels.contract import KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.normalization.row_kernel import adder, inverse_deviation
from plumbline.kernels.pointwise.expression import compute_dtype
from plumbline.kernels.reduction.rows import fold_row
from plumbline.kernels.reduction.windows import Window, each_window, has_masks

__all__ = ["GroupNormalizationKernel"]


class GroupNormalizationKernel:
    """`group_normalization`; instance normalisation is one channel a group."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one group of one image."""
        batch, groups, channels, plane = _split(signature)
        size = mul(channels, plane)
        return Work(units=mul(batch, groups), unit_cost=3.0 * (size if isinstance(size, int) else 1024) / 4)

    def emit(self, call: KernelCall) -> None:
        """Mean and variance over the group, then each channel with its scale and bias."""
        b = call.builder
        source, scale, bias, output = call.input(0), call.input(1), call.input(2), call.output()
        _, groups, channels, plane = (call.dim(d) for d in _split(call.signature))
        count = channels * plane
        dtype = compute_dtype(source.dtype)
        lanes, masks = call.target.lanes(dtype), has_masks(call.target, source.dtype)
        folds, extent = adder(b, dtype, lanes, masks), b.cast(b.index(count), dtype)
        epsilon = float(call.attributes.get("epsilon", 1e-5))
        with b.range(call.begin, call.end) as unit:
            start = unit * count

            def load(window: Window, start: Index = start) -> Value:
                return b.cast(window.load(source, start), dtype)

            mean = fold_row(folds, count, load) / extent

            def square(window: Window, mean: Value = mean) -> Value:
                value = load(window) - mean
                return value * value

            inverse = inverse_deviation(b, fold_row(folds, count, square) / extent, epsilon)
            first = (b.index(unit) % groups) * channels
            with b.range(0, channels) as channel:
                factor = b.cast(scale.load_flat(first + channel), dtype) * inverse
                shift = b.cast(bias.load_flat(first + channel), dtype)
                base = start + channel * plane

                def write(
                    window: Window,
                    base: Index = base,
                    factor: Value = factor,
                    shift: Value = shift,
                    mean: Value = mean,
                ) -> None:
                    value = (b.cast(window.load(source, base), dtype) - mean) * factor + shift
                    window.store(output, value, base)

                each_window(b, plane, lanes, masks, write)


def _split(signature: StepSignature) -> tuple[Dim, Dim, Dim, Dim]:
    """(images, groups, channels of a group, elements of a channel)."""
    source = signature.inputs[0]
    if source is None:
        raise ShapeRefused(operation=signature.operation, reason="input 0 is missing")
    groups: Dim = signature.attributes["groups"]
    return source.shape[0], groups, floordiv(source.shape[1], groups), product(source.shape[2:])
