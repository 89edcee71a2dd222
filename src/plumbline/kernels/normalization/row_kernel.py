"""Native code of layer and root-mean-square normalisation.

A unit is one row: everything from `axis` on. The mean is folded first, then the squared distances from it,
then the row is written; it stays in cache meanwhile. Half-width types are computed in float32.
"""

from __future__ import annotations

from plumbline.contracts.dims import Dim, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.pointwise.expression import compute_dtype
from plumbline.kernels.reduction.axes import normal_axis
from plumbline.kernels.reduction.rows import RowFold, fold_row
from plumbline.kernels.reduction.windows import Window, each_window, has_masks

__all__ = ["RowNormalizationKernel", "adder", "inverse_deviation"]


class RowNormalizationKernel:
    """`layer_normalization` and `rms_normalization`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one row."""
        rows, row = _split(signature)
        return Work(units=rows, unit_cost=3.0 * (row if isinstance(row, int) else 256) / 4)

    def emit(self, call: KernelCall) -> None:
        """Two folds and a write for each row."""
        b = call.builder
        source, scale, output = call.input(0), call.input(1), call.output(0)
        bias = call.optional_input(2)
        statistics = [call.output(i) for i in range(1, len(call.output_pointers))]
        count = call.dim(_split(call.signature)[1])
        dtype = compute_dtype(source.dtype)
        lanes = call.target.lanes(dtype)
        masks = has_masks(call.target, *(t.dtype for t in (source, scale, output)))
        folds = adder(b, dtype, lanes, masks)
        extent = b.cast(b.index(count), dtype)
        centred = call.signature.operation == "layer_normalization"
        epsilon = float(call.attributes.get("epsilon", 1e-5))
        with b.range(call.begin, call.end) as row:
            start = row * count

            def load(window: Window, start: Index = start) -> Value:
                return b.cast(window.load(source, start), dtype)

            zero = b.const(dtype, 0.0)
            mean = fold_row(folds, count, load) / extent if centred else zero

            def distance(window: Window, mean: Value = mean) -> Value:
                return load(window) - mean if centred else load(window)

            def square(window: Window) -> Value:
                value = distance(window)
                return value * value

            inverse = inverse_deviation(b, fold_row(folds, count, square) / extent, epsilon)

            def write(window: Window, start: Index = start, inverse: Value = inverse) -> None:
                value = distance(window) * inverse * b.cast(window.load(scale), dtype)
                if bias is not None:
                    value = value + b.cast(window.load(bias), dtype)
                window.store(output, value, start)

            each_window(b, count, lanes, masks, write)
            for target, value in zip(statistics, (mean, inverse), strict=False):
                target.store_flat(b.cast(value, target.dtype), row)


def adder(b: FunctionBuilder, dtype: DType, lanes: int, masks: bool) -> RowFold:
    """A sum over rows."""
    return RowFold(builder=b, dtype=dtype, lanes=lanes, neutral=0, combine=lambda x, y: x + y, masks=masks)


def inverse_deviation(b: FunctionBuilder, variance: Value, epsilon: float) -> Value:
    """1 / sqrt(variance + epsilon)."""
    return 1.0 / b.sqrt(variance + epsilon)


def _split(signature: StepSignature) -> tuple[Dim, Dim]:
    """(rows, elements of a row)."""
    source = signature.inputs[0]
    if source is None:
        raise ShapeRefused(operation=signature.operation, reason="input 0 is missing")
    axis = normal_axis(signature.operation, int(signature.attributes.get("axis", -1)), source.rank)
    return product(source.shape[:axis]), product(source.shape[axis:])
