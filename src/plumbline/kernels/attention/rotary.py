"""`rotary_embedding`: pairs of a head's elements turned by the angle of their position."""

from __future__ import annotations

from plumbline.contracts.dims import Dim, floordiv, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.attention.geometry import HeadView
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.matrix.tile import accumulate

__all__ = ["RotaryKernel", "infer_rotary", "rotary_shape"]


def rotary_shape(inference: Inference) -> tuple[Dim, int, Dim, int, int]:
    """(batch, heads, positions, head size, turned elements) of a step.

    Operands: `x [B, H, S, D]` or packed `[B, S, H * D]` with attribute heads; `cos` and `sin` `[P, turned /
    2]` with `positions [B, S]` int64 (clamped into `[0, P)`, negative ones counted from the end), or `[B, S,
    turned / 2]` without. Attributes: heads, turned (0: the whole head), interleaved (neighbours are pairs;
    else the two halves).

    Raises:
        ShapeRefused, DTypeRefused, AttributeRefused: something does not fit.
    """
    x, cos, sin = (inference.type(i) for i in range(3))
    if not x.dtype.is_float or cos.dtype is not x.dtype or sin.dtype is not x.dtype:
        raise DTypeRefused(operation=inference.operation, dtype=x.dtype.value, needed="one float type")
    if x.rank == 4:
        batch, heads, positions, size = x.shape
    else:
        inference.require(x.rank == 3, "x has three or four axes")
        batch, positions, width = x.shape
        heads = int(inference.attributes.get("heads") or 0)
        inference.require(heads > 0, "a packed operand needs heads")
        size = floordiv(width, heads)
    if not isinstance(heads, int) or not isinstance(size, int):
        raise AttributeRefused(
            operation=inference.operation,
            attribute="heads",
            value=str(heads),
            reason="heads and sizes are static",
        )
    turned = int(inference.attributes.get("turned") or size)
    inference.require(
        turned % 2 == 0 and turned <= size, f"{turned} of {size} elements cannot be turned in pairs"
    )
    places = inference.inputs[3] if len(inference.inputs) > 3 else None
    expected = (cos.shape[0],) if places is not None else (batch, positions)
    inference.require(cos.shape == sin.shape == (*expected, turned // 2), f"tables {cos}, {sin} do not fit")
    if places is not None:
        fits = places.shape == (batch, positions) and places.dtype is DType.INT64
        inference.require(fits, f"positions are {places}, not int64[{batch}, {positions}]")
    return batch, heads, positions, size, turned


def infer_rotary(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `rotary_embedding`: the type of `x`."""
    rotary_shape(inference)
    return (inference.type(0),)


class RotaryKernel:
    """Native code of `rotary_embedding` for every float type."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one head at one position."""
        batch, heads, positions, size, _ = _shape(signature)
        return Work(units=product((batch, heads, positions)), unit_cost=3.0 * size)

    def emit(self, call: KernelCall) -> None:
        """Turn the pairs, copy the rest."""
        b = call.builder
        batch, heads, positions, size, turned = _shape(call.signature)
        x, cos, sin, places = call.input(0), call.input(1), call.input(2), call.optional_input(3)
        y = HeadView.of(call.output(), size)
        view = HeadView.of(x, size)
        units = tuple(call.dim(d) for d in (batch, heads, positions))
        dtype, half = accumulate(x.dtype), turned // 2
        interleaved = bool(call.attributes.get("interleaved", False))
        lanes = call.target.lanes(dtype)
        with b.range(call.begin, call.end) as unit:
            row, head, position = unflatten(b, unit, units)
            start = view.start(row, head, position)
            to = y.start(row, head, position)
            line: Index = row * units[2] + position
            if places is not None:
                line = _clamped(places.load_flat(line), b.index(cos.shape[0]))
            table = line * half

            def pair(
                i: Index, width: int, start: Index = start, to: Index = to, table: Index = table
            ) -> None:
                first, second = (i * 2, i * 2 + 1) if interleaved else (i, i + half)
                a, c = (b.cast(x.load_flat(start + p, lanes=width), dtype) for p in (first, second))
                cosine, sine = (b.cast(t.load_flat(table + i, lanes=width), dtype) for t in (cos, sin))
                real, imaginary = cosine * a - sine * c, sine * a + cosine * c
                y.tensor.store_flat(b.cast(real, x.dtype), to + first)
                y.tensor.store_flat(b.cast(imaginary, x.dtype), to + second)

            b.vectorize(half, 1 if interleaved else lanes, pair)

            def copy(i: Index, width: int, start: Index = start, to: Index = to) -> None:
                y.tensor.store_flat(x.load_flat(start + (i + turned), lanes=width), to + (i + turned))

            b.vectorize(size - turned, lanes, copy)


def _clamped(index: Value, extent: Value) -> Value:
    """An index from the end where negative, then inside `[0, extent)`."""
    b = index.builder
    wrapped = b.select(index < 0, index + extent, index)
    return b.maximum(b.minimum(wrapped, extent - 1), 0)


def _shape(signature: StepSignature) -> tuple[Dim, int, Dim, int, int]:
    return rotary_shape(
        Inference(operation=signature.operation, inputs=signature.inputs, attributes=signature.attributes)
    )
