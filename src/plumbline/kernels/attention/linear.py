"""`linear_attention`: a matrix state per key head, decayed, corrected and read once per position.

Operands: `q [B, T, Hq * D]`, `k [B, T, Hkv * D]`, `v [B, T, Hkv * Dv]`, `state [B, Hkv, D, Dv]` (absent:
zeros), `decay` (logarithms) `[B, T, Hkv * D]` or `[B, T, Hkv]`, `beta [B, T, Hkv]` or `[B, T, 1]`. Results:
`y [B, T, Hq * Dv]` and the last state. Attributes: q_heads, kv_heads, rule (linear, gated, delta,
gated_delta), scale (None: 1 / sqrt(D)), state_dtype (of the last state).

At each position: S = diag(exp(decay)) S for gated rules; u = v, or beta * (v - S' k) for delta rules; S = S +
k u'; y = scale * S' q for each query head that shares the state (S. Yang et al., "Gated Delta Networks",
2024, section 3).
"""

from __future__ import annotations

import math as numbers
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.contracts.dims import Dim, floordiv, mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef, unflatten
from plumbline.kernels.matrix.tile import accumulate

__all__ = ["LinearAttentionKernel", "LinearShape", "infer_linear", "linear_shape"]

RULES = ("linear", "gated", "delta", "gated_delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearShape:
    """Extents of a step. Heads and head sizes are static."""

    batch: Dim
    steps: Dim
    q_heads: int
    kv_heads: int
    size: int
    value_size: int
    gated: bool
    delta: bool
    scale: float

    @property
    def group(self) -> int:
        """Query heads that share a state."""
        return self.q_heads // self.kv_heads


def linear_shape(inference: Inference) -> LinearShape:
    """Read the extents of a step and check its operands.

    Raises:
        ShapeRefused, DTypeRefused, AttributeRefused: something does not fit.
    """
    attributes, (q, k, v) = inference.attributes, (inference.type(i) for i in range(3))
    rule = attributes.get("rule")
    q_heads, kv_heads = (int(attributes.get(name) or 0) for name in ("q_heads", "kv_heads"))
    if rule not in RULES:
        raise AttributeRefused(
            operation=inference.operation, attribute="rule", value=str(rule), reason=f"one of {RULES}"
        )
    if not q.dtype.is_float or k.dtype is not q.dtype or v.dtype is not q.dtype:
        raise DTypeRefused(operation=inference.operation, dtype=q.dtype.value, needed="one float type")
    inference.require(q.rank == k.rank == v.rank == 3, "q, k and v have three axes")
    inference.require(q_heads > 0 and kv_heads > 0, "q_heads and kv_heads are needed")
    inference.require(q_heads % kv_heads == 0, f"{q_heads} query heads share {kv_heads} states")
    size, value_size = floordiv(k.shape[2], kv_heads), floordiv(v.shape[2], kv_heads)
    inference.require(isinstance(size, int) and isinstance(value_size, int), "head sizes are static")
    inference.require(q.shape[2] == mul(size, q_heads), "q and k have the same head size")
    inference.require(
        q.shape[:2] == k.shape[:2] == v.shape[:2], "q, k and v have the same batch and positions"
    )
    scale = attributes.get("scale")
    shape = LinearShape(
        batch=q.shape[0], steps=q.shape[1], q_heads=q_heads, kv_heads=kv_heads, size=int(str(size)),
        value_size=int(str(value_size)), gated=rule in ("gated", "gated_delta"),
        delta=rule in ("delta", "gated_delta"),
        scale=1.0 / numbers.sqrt(int(str(size))) if scale is None else float(scale),
    )  # fmt: skip
    _check_optional(inference, shape)
    return shape


def _check_optional(inference: Inference, shape: LinearShape) -> None:
    state, decay, beta = (inference.inputs[i] if len(inference.inputs) > i else None for i in (3, 4, 5))
    if state is not None:
        full = (shape.batch, shape.kv_heads, shape.size, shape.value_size)
        inference.require(state.shape == full and state.dtype.is_float, f"state {state} does not fit")
    line = (shape.batch, shape.steps)
    if shape.gated:
        widths = (shape.kv_heads * shape.size, shape.kv_heads)
        fits = decay is not None and decay.shape[:2] == line and decay.shape[2] in widths
        inference.require(fits, f"decay {decay} does not fit")
    if shape.delta:
        fits = beta is not None and beta.shape[:2] == line and beta.shape[2] in (shape.kv_heads, 1)
        inference.require(fits, f"beta {beta} does not fit")


def infer_linear(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `linear_attention`."""
    shape, q = linear_shape(inference), inference.type(0)
    dtype = DType(inference.attributes.get("state_dtype") or q.dtype)
    state = (shape.batch, shape.kv_heads, shape.size, shape.value_size)
    y = TensorType(q.dtype, (shape.batch, shape.steps, shape.q_heads * shape.value_size))
    return y, TensorType(dtype, state)


class LinearAttentionKernel:
    """Native code of `linear_attention`: columns of the state in vectors, positions in order."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is the state of one head."""
        shape = _shape(signature)
        element = accumulate(signature.outputs[0].dtype).size_bytes
        steps = shape.steps if isinstance(shape.steps, int) else 64
        area = shape.size * shape.value_size
        return Work(
            units=mul(shape.batch, shape.kv_heads), unit_cost=float(steps * area * (shape.group + 2)) / 8,
            workspace_bytes=area * element,
        )  # fmt: skip

    def emit(self, call: KernelCall) -> None:
        """Load the state, walk the positions, store the state."""
        b, shape = call.builder, _shape(call.signature)
        walk = _Walk(call, shape)
        area = shape.size * shape.value_size
        with b.range(call.begin, call.end) as unit:
            batch, head = unflatten(b, unit, (call.dim(shape.batch), shape.kv_heads))

            def load(i: Index, lanes: int, unit: Index = unit) -> None:
                value = b.const(walk.dtype, 0.0, lanes)
                if walk.state is not None:
                    value = b.cast(walk.state.load_flat(unit * area + i, lanes=lanes), walk.dtype)
                b.store(value, call.workspace, i)

            def store(i: Index, lanes: int, unit: Index = unit) -> None:
                value = b.load(call.workspace, walk.dtype, i, lanes=lanes)
                walk.last.store_flat(b.cast(value, walk.last.dtype), unit * area + i)

            b.vectorize(area, walk.lanes, load)
            with b.range(0, call.dim(shape.steps)) as step:
                walk.emit_step(batch, head, step)
            b.vectorize(area, walk.lanes, store)


class _Walk:
    """The code of one position."""

    def __init__(self, call: KernelCall, shape: LinearShape) -> None:
        self.b, self.call, self.shape = call.builder, call, shape
        self.q, self.k, self.v = (call.input(i) for i in range(3))
        self.state, self.decay, self.beta = (call.optional_input(i) for i in (3, 4, 5))
        self.y, self.last = call.output(0), call.output(1)
        self.dtype = accumulate(self.q.dtype)
        self.lanes = call.target.lanes(self.dtype)

    def emit_step(self, batch: Index, head: Index, step: Index) -> None:
        """Columns of the state are independent of each other."""
        shape = self.shape
        keys = self.k.offset((batch, step, head * shape.size))
        values = self.v.offset((batch, step, head * shape.value_size))
        queries = [self._query(batch, head, step, g) for g in range(shape.group)]
        outputs = [
            self.y.offset((batch, step, (head * shape.group + g) * shape.value_size))
            for g in range(shape.group)
        ]

        def columns(i: Index, lanes: int) -> None:
            value = self.b.cast(self.v.load_flat(values + i, lanes=lanes), self.dtype)
            known = self._decay_columns(batch, head, step, keys, i, lanes)
            if shape.delta:
                rate = self._rate(batch, head, step)
                value = (value - known) * self.b.splat(rate, lanes)
            sums = self._update(keys, queries, value, i, lanes)
            for start, total in zip(outputs, sums, strict=True):
                self.y.store_flat(self.b.cast(total * shape.scale, self.y.dtype), start + i)

        self.b.vectorize(shape.value_size, self.lanes, columns)

    def _query(self, batch: Index, head: Index, step: Index, number: int) -> Index:
        return self.q.offset((batch, step, (head * self.shape.group + number) * self.shape.size))

    def _rate(self, batch: Index, head: Index, step: Index) -> Value:
        if self.beta is None:
            raise TypeError("checked by the shape rule")
        place = 0 if self.beta.type.shape[2] == 1 else head
        return self.b.cast(self.beta.load(batch, step, place), self.dtype)

    def _factor(self, tensor: TensorRef, batch: Index, head: Index, step: Index, row: Index) -> Value:
        per_head = tensor.type.shape[2] == self.shape.kv_heads and self.shape.size != 1
        place = head if per_head else head * self.shape.size + row
        return math.exp(self.b, self.b.cast(tensor.load(batch, step, place), self.dtype))

    def _decay_columns(
        self, batch: Index, head: Index, step: Index, keys: Index, column: Index, lanes: int
    ) -> Value:
        """Decay some columns of the state; what the state answers to the key there."""
        b, shape = self.b, self.shape
        zero = b.const(self.dtype, 0.0, lanes)
        if not shape.gated and not shape.delta:
            return zero

        def row(i: Index, carried: list[Value]) -> Sequence[Value]:
            place = i * shape.value_size + column
            old = b.load(self.call.workspace, self.dtype, place, lanes=lanes)
            if shape.gated and self.decay is not None:
                old = old * b.splat(self._factor(self.decay, batch, head, step, i), lanes)
                b.store(old, self.call.workspace, place)
            key = b.splat(b.cast(self.k.load_flat(keys + i), self.dtype), lanes)
            return [b.fma(key, old, carried[0])]

        return b.reduce(0, shape.size, [zero], row)[0]

    def _update(
        self, keys: Index, queries: Sequence[Index], value: Value, column: Index, lanes: int
    ) -> list[Value]:
        """Add key times value to some columns of the state and read them with every query."""
        b, shape = self.b, self.shape

        def row(i: Index, carried: list[Value]) -> Sequence[Value]:
            place = i * shape.value_size + column
            old = b.load(self.call.workspace, self.dtype, place, lanes=lanes)
            key = b.splat(b.cast(self.k.load_flat(keys + i), self.dtype), lanes)
            new = b.fma(key, value, old)
            b.store(new, self.call.workspace, place)
            return [
                b.fma(b.splat(b.cast(self.q.load_flat(start + i), self.dtype), lanes), new, total)
                for start, total in zip(queries, carried, strict=True)
            ]

        return b.reduce(0, shape.size, [b.const(self.dtype, 0.0, lanes)] * len(queries), row)


def _shape(signature: StepSignature) -> LinearShape:
    return linear_shape(
        Inference(operation=signature.operation, inputs=signature.inputs, attributes=signature.attributes)
    )
