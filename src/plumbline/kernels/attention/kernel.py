"""Native code of `attention`: one query row at a time over blocks of keys, with a running maximum and sum.

The softmax follows M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax" (2018), by
blocks of `BLOCK` keys counted from key 0, so that a row's bits depend on nothing but its own operands. A
masked key weighs exactly nothing; a row without any open key yields zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.dims import product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.attention.geometry import AttentionShape, HeadView, signature_shape
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.matrix.tile import accumulate

__all__ = ["AttentionKernel"]

BLOCK = 32
"""Keys of a block."""
VECTORS = 4
"""Vectors of value columns that are summed side by side."""
NONE = float("-inf")


class AttentionKernel:
    """Native code of `attention` for every float type."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a query row of one head."""
        shape = signature_shape(signature)
        keys = shape.keys if isinstance(shape.keys, int) else 256
        cost = float(keys * (2 * (shape.size + shape.value_size) / 8 + 4))
        element = accumulate(signature.outputs[0].dtype).size_bytes
        space = (shape.size + shape.value_size + BLOCK) * element + 3 * 64
        return Work(
            units=product((shape.batch, shape.q_heads, shape.queries)), unit_cost=cost, workspace_bytes=space
        )

    def emit(self, call: KernelCall) -> None:
        """Every row of the range."""
        shape = signature_shape(call.signature)
        rows = _Rows(call, shape)
        units = tuple(call.dim(d) for d in (shape.batch, shape.q_heads, shape.queries))
        with call.builder.range(call.begin, call.end) as unit:
            batch, head, query = unflatten(call.builder, unit, units)
            rows.emit_row(unit, batch, head, query)


class _Rows:
    """The code of one query row."""

    def __init__(self, call: KernelCall, shape: AttentionShape) -> None:
        self.b, self.call, self.shape = call.builder, call, shape
        self.dtype = accumulate(call.signature.outputs[0].dtype)
        self.q = HeadView.of(call.input(0), shape.size)
        self.k = HeadView.of(call.input(1), shape.size)
        self.v = HeadView.of(call.input(2), shape.value_size)
        self.y = HeadView.of(call.output(0), shape.value_size)
        self.mask, self.lengths = call.optional_input(3), call.optional_input(4)
        self.mode = call.attributes.get("scores")
        self.scores = call.output(1) if self.mode is not None else None
        self.keys, self.queries = call.dim(shape.keys), call.dim(shape.queries)
        self.past = call.dim(call.attributes.get("past", 0) or 0)
        self.lanes = call.target.lanes(self.dtype)
        line = 64 // self.dtype.size_bytes
        self.weights = call.workspace
        self.query = call.builder.offset(call.workspace, self.dtype, BLOCK)
        after = BLOCK + -(-shape.size // line) * line
        self.sums = call.builder.offset(call.workspace, self.dtype, after)

    def emit_row(self, unit: Index, batch: Index, head: Index, query: Index) -> None:
        """All keys of one query row, then the division."""
        b, shape = self.b, self.shape
        self._load_query(self.q.start(batch, head, query))
        self._clear_sums()
        group = b.index(head) // (shape.q_heads // shape.kv_heads)
        position = self._position(batch, query)
        open_keys = self._bounds(batch, position)
        low, high = open_keys if self.mode is None else (b.index(0), b.index(self.keys))
        first = low // BLOCK
        last = (high + (BLOCK - 1)) // BLOCK
        mask = self._mask_start(batch, head, query)

        def block(number: Index, carried: list[Value]) -> Sequence[Value]:
            start = number * BLOCK
            count = b.minimum(high - start, BLOCK)
            self._scores(unit, self.k.start(batch, group, start), start, count, mask, open_keys)
            return self._fold(batch, group, start, count, carried)

        start = [b.const(self.dtype, NONE), b.const(self.dtype, 0.0)]
        best, total = b.reduce(first, last, start, block)
        self._finish(self.y.start(batch, head, query), total)
        if self.mode == "probabilities" and self.scores is not None:
            if self.scores.dtype is self.dtype:
                self._normalise(unit, best, total)
                return
            with b.range(first, last) as number:
                at = b.index(number) * BLOCK
                count = b.minimum(high - at, BLOCK)
                self._scores(unit, self.k.start(batch, group, at), at, count, mask, open_keys)
                self._report_weights(unit, at, count, best, total)

    def _load_query(self, start: Index) -> None:
        def copy(i: Index, lanes: int) -> None:
            value = self.b.cast(self.q.tensor.load_flat(start + i, lanes=lanes), self.dtype)
            self.b.store(value, self.query, i)

        self.b.vectorize(self.shape.size, self.lanes, copy)

    def _clear_sums(self) -> None:
        self.b.vectorize(
            self.shape.value_size,
            self.lanes,
            lambda i, lanes: self.b.store(self.b.const(self.dtype, 0.0, lanes), self.sums, i),
        )

    # -- which keys ------------------------------------------------------------------------------------------

    def _position(self, batch: Index, query: Index) -> Value:
        """Place of the query among the keys."""
        if self.lengths is None:
            return self.b.index(query + self.past)
        return self.lengths.load_flat(batch) - self.queries + query

    def _bounds(self, batch: Index, position: Value) -> tuple[Value, Value]:
        """Keys `[low, high)` that causality, windows and lengths leave open."""
        b, attributes = self.b, self.call.attributes
        low, high = b.index(0), b.index(self.keys)
        if self.lengths is not None:
            high = b.minimum(high, self.lengths.load_flat(batch))
        if attributes.get("causal", False):
            high = b.minimum(high, position + 1)
        left, right = (attributes.get(name, -1) for name in ("left_window", "right_window"))
        if right >= 0:
            high = b.minimum(high, position + (right + 1))
        if left >= 0:
            low = b.maximum(low, position - left)
        if self.mask is not None:
            high = b.minimum(high, b.index(self.mask.shape[-1]))
        return low, b.maximum(high, 0)

    def _mask_start(self, batch: Index, head: Index, query: Index) -> Index:
        if self.mask is None:
            return 0
        places = (batch, head, query)[4 - self.mask.rank :]
        total: Index = 0
        for axis, place in enumerate(places):
            if self.mask.type.shape[axis] != 1:
                total = place * self.mask.strides[axis] + total
        return total

    # -- scores ----------------------------------------------------------------------------------------------

    def _scores(
        self,
        unit: Index,
        base: Index,
        start: Index,
        count: Value,
        mask: Index,
        open_keys: tuple[Value, Value],
    ) -> None:
        """Scores of a block into the workspace, masked keys and those past the end as minus infinity."""
        b = self.b
        low, high = open_keys
        b.vectorize(
            BLOCK,
            min(self.lanes, BLOCK),
            lambda j, lanes: b.store(b.const(self.dtype, NONE, lanes), self.weights, j),
        )
        with b.range(0, count) as j:
            raw = self._dot(base + j * self.k.row_stride) * self.shape.scale
            self._report("raw", unit, start + j, raw)
            softcap = float(self.call.attributes.get("softcap", 0.0) or 0.0)
            capped = math.tanh(b, raw / softcap) * softcap if softcap > 0.0 else raw
            self._report("capped", unit, start + j, capped)
            key = b.index(start + j)
            closed = (key < low) | (key >= high)
            score = self._masked(capped, mask, key, closed)
            self._report("biased", unit, key, score)
            self._report("probabilities", unit, key, score)
            b.store(score, self.weights, j)

    def _masked(self, score: Value, mask: Index, key: Value, closed: Value) -> Value:
        b = self.b
        if self.mask is None:
            return b.select(closed, NONE, score)
        inside = b.select(b.compare("lt", key, b.index(self.mask.shape[-1])), key, 0)
        value = self.mask.load_flat(mask + inside)
        if value.dtype is DType.BOOL:
            return b.select(closed | ~value, NONE, score)
        bias = b.cast(value, self.dtype)
        return b.select(closed | b.compare("eq", bias, NONE), NONE, score + bias)

    def _report(self, mode: str, unit: Index, key: Index, value: Value) -> None:
        if self.mode == mode and self.scores is not None:
            self.scores.store_flat(self.b.cast(value, self.scores.dtype), unit * self.keys + key)

    def _dot(self, start: Index) -> Value:
        b, size = self.b, self.shape.size
        lanes = self.lanes
        while lanes > 1 and lanes > size:
            lanes //= 2
        whole = size // lanes * lanes

        def piece(i: Index, carried: list[Value], width: int) -> Sequence[Value]:
            x = b.load(self.query, self.dtype, i, lanes=width)
            y = b.cast(self.k.tensor.load_flat(start + i, lanes=width), self.dtype)
            return [b.fma(x, y, carried[0])]

        zero = b.const(self.dtype, 0.0, lanes)
        wide = b.reduce(0, whole, [zero], lambda i, c: piece(i, c, lanes), step=lanes)[0]
        return b.reduce(whole, size, [b.reduce_lanes("add", wide)], lambda i, c: piece(i, c, 1))[0]

    # -- weights ---------------------------------------------------------------------------------------------

    def _fold(
        self, batch: Index, group: Value, start: Index, count: Value, carried: list[Value]
    ) -> Sequence[Value]:
        """Weigh the values of a block and add them to the sums."""
        b, lanes = self.b, min(self.lanes, BLOCK)
        best, total = carried
        peak = b.const(self.dtype, NONE, lanes)
        peaks = b.reduce(
            0, BLOCK, [peak],
            lambda j, c: [b.maximum(c[0], b.load(self.weights, self.dtype, j, lanes=lanes))], step=lanes,
        )  # fmt: skip
        now = b.maximum(best, b.reduce_lanes("max", peaks[0]))
        safe = b.select(b.compare("eq", now, NONE), 0.0, now)
        shrink = math.exp(b, best - safe)

        def weigh(j: Index, sums: list[Value]) -> Sequence[Value]:
            score = b.load(self.weights, self.dtype, j, lanes=lanes)
            masked = b.compare("eq", score, NONE)
            weight = b.select(masked, 0.0, math.exp(b, score - b.splat(safe, lanes)))
            b.store(weight, self.weights, j)
            return [sums[0] + weight]

        zero = b.const(self.dtype, 0.0, lanes)
        added = b.reduce_lanes("add", b.reduce(0, BLOCK, [zero], weigh, step=lanes)[0])
        shrink = b.select(b.compare("eq", best, NONE), 0.0, shrink)
        self._add_values(self.v.start(batch, group, start), count, shrink)
        return [now, b.fma(total, shrink, added)]

    def _add_values(self, base: Index, count: Value, shrink: Value) -> None:
        """Shrink the sums and add weighted values, several vectors of columns at a time."""
        size, wide = self.shape.value_size, VECTORS * self.lanes
        whole = size // wide * wide
        if whole:
            with self.b.range(0, whole, wide) as i:
                self._add_columns(
                    base, count, shrink, [i + v * self.lanes for v in range(VECTORS)], self.lanes
                )
        self.b.vectorize(
            size - whole,
            self.lanes,
            lambda i, lanes: self._add_columns(base, count, shrink, [i + whole], lanes),
        )

    def _add_columns(
        self, base: Index, count: Value, shrink: Value, columns: Sequence[Index], lanes: int
    ) -> None:
        b = self.b

        def key(j: Index, carried: list[Value]) -> Sequence[Value]:
            number = b.load(self.weights, self.dtype, j)
            unused = b.splat(b.compare("eq", number, 0.0), lanes)
            weight, place = b.splat(number, lanes), base + j * self.v.row_stride
            values = [self.v.tensor.load_flat(place + i, lanes=lanes) for i in columns]
            return [
                b.select(unused, total, b.fma(weight, b.cast(value, self.dtype), total))
                for value, total in zip(values, carried, strict=True)
            ]

        factor = b.splat(shrink, lanes)
        old = [b.load(self.sums, self.dtype, i, lanes=lanes) * factor for i in columns]
        for i, total in zip(columns, b.reduce(0, count, old, key), strict=True):
            b.store(total, self.sums, i)

    def _finish(self, start: Index, total: Value) -> None:
        b = self.b
        empty = b.compare("eq", total, 0.0)
        divisor = b.select(empty, 1.0, total)

        def divide(i: Index, lanes: int) -> None:
            value = b.load(self.sums, self.dtype, i, lanes=lanes) / b.splat(divisor, lanes)
            self.y.tensor.store_flat(b.cast(value, self.y.tensor.dtype), start + i)

        b.vectorize(self.shape.value_size, self.lanes, divide)

    def _report_weights(self, unit: Index, start: Index, count: Value, best: Value, total: Value) -> None:
        """Probabilities of a block from its scores in the workspace: in half width those would be rounded."""
        b = self.b
        divisor = b.select(b.compare("eq", total, 0.0), 1.0, total)
        safe = b.select(b.compare("eq", best, NONE), 0.0, best)
        with b.range(0, count) as j:
            score = b.load(self.weights, self.dtype, j)
            weight = math.exp(b, score - safe) / divisor
            masked = b.compare("eq", score, NONE)
            self._report("probabilities", unit, start + j, b.select(masked, 0.0, weight))

    def _normalise(self, unit: Index, best: Value, total: Value) -> None:
        """Turn the scores that were reported into probabilities, in place."""
        b, scores = self.b, self.scores
        if scores is None:
            return
        base = unit * self.keys
        divisor = b.select(b.compare("eq", total, 0.0), 1.0, total)
        safe = b.select(b.compare("eq", best, NONE), 0.0, best)

        def divide(i: Index, lanes: int) -> None:
            score = b.cast(scores.load_flat(base + i, lanes=lanes), self.dtype)
            weight = math.exp(b, score - b.splat(safe, lanes)) / b.splat(divisor, lanes)
            masked = b.compare("eq", score, NONE)
            scores.store_flat(b.cast(b.select(masked, 0.0, weight), scores.dtype), base + i)

        b.vectorize(self.keys, self.lanes, divide)
