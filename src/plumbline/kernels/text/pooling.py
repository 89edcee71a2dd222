"""`packed_pool` and `l2_normalize`: one vector for each row of packed tokens, and its direction."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.dims import product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    AttributeRefused,
    DTypeRefused,
    Inference,
    KernelCall,
    ShapeRefused,
    Work,
)
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value, is_value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.text.rows import RowExtent, emit_row, integer_attribute, require_offsets, rows_of

__all__ = [
    "POOLING_MODES",
    "L2NormalizeKernel",
    "PackedPoolKernel",
    "infer_l2_normalize",
    "infer_packed_pool",
]

POOLING_MODES = ("mean", "cls")
TYPICAL_TOKENS = 32


def infer_packed_pool(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule: hidden `[T, D]`, offsets `[R + 1]` to `[R, D]`; mode `mean` or `cls` (first).

    Attribute `max_row_tokens` (default none): tokens of a row past it are left out.
    """
    hidden, offsets = inference.type(0), inference.type(1)
    if hidden.dtype is not DType.FLOAT32:
        raise DTypeRefused(
            operation=inference.operation, dtype=hidden.dtype.value, needed="float32 is needed"
        )
    require_offsets(inference, offsets)
    inference.require(hidden.rank == 2, f"hidden states are [T, D], not {hidden}")
    mode = inference.attributes.get("mode")
    if mode not in POOLING_MODES:
        raise AttributeRefused(
            operation=inference.operation, attribute="mode", value=str(mode),
            reason=f"it is one of {', '.join(POOLING_MODES)}",
        )  # fmt: skip
    if inference.attributes.get("max_row_tokens") is not None:
        integer_attribute(inference, "max_row_tokens")
    return (TensorType(hidden.dtype, (rows_of(offsets), hidden.shape[1])),)


class PackedPoolKernel:
    """Native code of `packed_pool`. A row without tokens gives zeros."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one row."""
        output = signature.outputs[0]
        width = output.shape[1] if isinstance(output.shape[1], int) else 512
        return Work(units=output.shape[0], unit_cost=TYPICAL_TOKENS * width / 4)

    def emit(self, call: KernelCall) -> None:
        """Column vectors of each row, tokens in order."""
        b = call.builder
        hidden, offsets, output = call.input(0), call.input(1), call.output()
        limit = 1 if call.attributes["mode"] == "cls" else call.attributes.get("max_row_tokens")
        with b.range(call.begin, call.end) as row:
            extent = emit_row(b, offsets, row, hidden.shape[0], limit)
            _emit_mean(call, hidden, extent, output, row)


def _emit_mean(call: KernelCall, hidden: TensorRef, extent: RowExtent, output: TensorRef, row: Index) -> None:
    b = call.builder
    width = hidden.shape[1]
    divisor = b.cast(b.maximum(extent.count, 1), DType.FLOAT32)
    base = b.index(row) * width

    def body(d: Index, lanes: int) -> None:
        def add(i: Index, held: list[Value]) -> Sequence[Value]:
            return [held[0] + hidden.load_flat((extent.start + i) * width + d, lanes=lanes)]

        total = b.reduce(0, extent.count, [b.const(DType.FLOAT32, 0.0, lanes)], add)[0]
        output.store_flat(total / b.splat(divisor, lanes), base + d)

    b.vectorize(width, call.target.float_lanes, body)


def infer_l2_normalize(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule: float32 `[..., D]` to the same; attribute epsilon, the smallest divisor (default 1e-12)."""
    x = inference.type(0)
    if x.dtype is not DType.FLOAT32:
        raise DTypeRefused(operation=inference.operation, dtype=x.dtype.value, needed="float32 is needed")
    inference.require(x.rank > 0, "a scalar has no direction")
    return (x,)


class L2NormalizeKernel:
    """Native code of `l2_normalize`: `x / max(|x|, epsilon)` along the last axis."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one vector."""
        x = signature.inputs[0]
        if x is None:
            raise ShapeRefused(operation=signature.operation, reason="input 0 is missing")
        width = x.shape[-1] if isinstance(x.shape[-1], int) else 512
        return Work(units=product(x.shape[:-1]), unit_cost=width)

    def emit(self, call: KernelCall) -> None:
        """Vector by vector."""
        b = call.builder
        x, output = call.input(0), call.output()
        width, lanes = x.shape[-1], call.target.float_lanes
        epsilon = float(call.attributes.get("epsilon", 1e-12))
        with b.range(call.begin, call.end) as row:
            base = b.index(row) * width
            length = b.sqrt(_sum_of_squares(b, x, base, width, lanes))
            divisor = b.select(b.compare("lt", length, epsilon), epsilon, length)

            def body(d: Index, n: int, base: Value = base, divisor: Value = divisor) -> None:
                output.store_flat(x.load_flat(base + d, lanes=n) / b.splat(divisor, n), base + d)

            b.vectorize(width, lanes, body)


def _sum_of_squares(b: FunctionBuilder, x: TensorRef, base: Value, width: Index, lanes: int) -> Value:
    """Whole vectors in one vector of sums, folded, then what is left one by one."""
    whole: Index = width - width % lanes if is_value(width) else width // lanes * lanes

    def add(d: Index, held: list[Value], n: int) -> Sequence[Value]:
        value = x.load_flat(base + d, lanes=n)
        return [b.fma(value, value, held[0])]

    wide = b.reduce(0, whole, [b.const(DType.FLOAT32, 0.0, lanes)], lambda d, h: add(d, h, lanes), lanes)
    return b.reduce(whole, width, [b.reduce_lanes("add", wide[0])], lambda d, h: add(d, h, 1))[0]
