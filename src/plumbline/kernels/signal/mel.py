"""`mel_weight_matrix`: triangles that map spectrum bins to mel bins."""

from __future__ import annotations

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["MelKernel", "infer_mel"]


def infer_mel(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `mel_weight_matrix(sample_rate, lower_hertz, upper_hertz)`: `[length // 2 + 1, bins]`.

    Attributes: bins, length (of the transform), dtype. The operands are scalars of any number type.
    """
    attributes = inference.attributes
    for name in ("bins", "length"):
        if not isinstance(attributes[name], int) or attributes[name] < 1:
            raise AttributeRefused(
                operation=inference.operation,
                attribute=name,
                value=str(attributes[name]),
                reason="a positive integer",
            )
    for position in range(3):
        type_ = inference.type(position)
        inference.require(type_.elements == 1, f"input {position} {type_} is one number")
        if type_.dtype is DType.BOOL:
            raise DTypeRefused(operation=inference.operation, dtype="bool", needed="numbers")
    dtype = DType(attributes.get("dtype") or DType.FLOAT32)
    return (TensorType(dtype, (attributes["length"] // 2 + 1, attributes["bins"])),)


class MelKernel:
    """Native code of `mel_weight_matrix`, in float64. Edges are whole spectrum bins, rounded down."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one mel bin, a column."""
        return Work(
            units=signature.outputs[0].shape[1], unit_cost=4.0 * signature.attributes["length"] + 300.0
        )

    def emit(self, call: KernelCall) -> None:
        """A triangle per column: rises from the left edge to the centre, falls to the right edge."""
        b, y = call.builder, call.output()
        rate, lower, upper = (b.cast(call.input(i).load_flat(0), DType.FLOAT64) for i in range(3))
        low, high = _to_mel(b, lower), _to_mel(b, upper)
        step = (high - low) / float(call.attributes["bins"] + 2)
        rows = call.attributes["length"] // 2 + 1

        def edge(number: Index) -> Value:
            mel = b.cast(b.index(number), DType.FLOAT64) * step + low
            exponent = b.const(DType.FLOAT64, 10.0)
            hertz = (b.call_external("pow", exponent, mel / 2595.0) - 1.0) * 700.0
            ratio = hertz * float(call.attributes["length"] + 1) / rate
            return b.cast(b.intrinsic("llvm.floor", ratio), DType.INT64)

        with b.range(call.begin, call.end) as column:
            left, centre, right = (edge(column + i) for i in range(3))
            with b.range(0, rows) as row:
                weight = _weight(b, b.index(row), left, centre, right)
                y.store(b.cast(weight, y.dtype), row, column)


def _to_mel(b: FunctionBuilder, hertz: Value) -> Value:
    return b.call_external("log10", hertz / 700.0 + 1.0) * 2595.0


def _weight(b: FunctionBuilder, row: Value, left: Value, centre: Value, right: Value) -> Value:
    rise, fall = _ratio(b, row - left, centre - left), _ratio(b, right - row, right - centre)
    flat = b.compare("eq", left, centre)
    rising = b.select(flat, b.select(b.compare("eq", row, centre), 1.0, b.const(DType.FLOAT64, 0.0)), rise)
    inside = (row >= left) & (row <= centre)
    first = b.select(inside, rising, 0.0)
    falling = (row >= centre) & (row < right)
    return b.select(falling, fall, first)


def _ratio(b: FunctionBuilder, part: Value, whole: Value) -> Value:
    divisor = b.select(b.compare("eq", whole, 0), 1, whole)
    return b.cast(part, DType.FLOAT64) / b.cast(divisor, DType.FLOAT64)
