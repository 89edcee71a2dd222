"""Attention inside packed rows: every token of a row attends to every token of that row, head by head.

A unit is one row and one head. Its keys are first turned into panels (depth by two vectors of keys), scaled
on the way. Queries are then taken in tiles: scores of a tile against all panels, softmax along the keys,
and the weighted sum of the values. Scores stay in the workspace of the thread.

Each score is one chain over the depth, each sum of weights is folded in vector lanes along the keys of the
row, and each result is one chain over the keys. So bits depend on the row alone: not on its neighbours, on
the tile in which a query falls, or on threads.
"""

from __future__ import annotations

import math as scalar
from collections.abc import Sequence

from plumbline.contracts.dims import mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, ShapeRefused, Work
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import Index, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.text.attention_geometry import attention_geometry
from plumbline.kernels.text.panels import emit_panels
from plumbline.kernels.text.rows import RowExtent, emit_row, rows_of

__all__ = ["PackedAttentionKernel"]

TYPICAL_TOKENS = 64
"""Row length for which the cost of a unit is estimated."""
F32 = DType.FLOAT32


class PackedAttentionKernel:
    """Native code of `packed_attention`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one head of one row."""
        shape, offsets = attention_geometry(signature, target), signature.inputs[1]
        if offsets is None:
            raise ShapeRefused(operation="packed_attention", reason="input 1 is missing")
        return Work(
            units=mul(rows_of(offsets), shape.heads),
            unit_cost=1.0 * TYPICAL_TOKENS * TYPICAL_TOKENS * shape.depth,
            workspace_bytes=4 * sum(shape.workspace_elements),
        )

    def emit(self, call: KernelCall) -> None:
        """Row and head by row and head."""
        unit = _Unit(call)
        b = call.builder
        tokens = unit.qkv.shape[0]
        with b.range(call.begin, call.end) as number:
            position = b.index(number)
            row, head = position // unit.shape.heads, position % unit.shape.heads
            unit.emit(emit_row(b, unit.offsets, row, tokens, unit.shape.limit), head)


class _Unit:
    """Emits the code of one (row, head)."""

    def __init__(self, call: KernelCall) -> None:
        self.b, self.shape = call.builder, attention_geometry(call.signature, call.target)
        self.qkv, self.offsets, self.bias = call.input(0), call.input(1), call.optional_input(2)
        self.output = call.output()
        places, total = [], 0
        for elements in self.shape.workspace_elements:
            places.append(self.b.offset(call.workspace, F32, total))
            total += elements
        self.keys, self.queries, self.scores, self.factors = places
        lanes = list(range(self.shape.lanes))
        table = self.b.module.table(f"lane_numbers_{len(lanes)}", DType.INT32, lanes)
        self.lane_numbers = self.b.load(table, DType.INT32, lanes=len(lanes))

    def emit(self, extent: RowExtent, head: Value) -> None:
        """Panels of keys, then tile by tile of queries."""
        b, shape = self.b, self.shape
        column = head * shape.depth
        source = b.offset(self.qkv.pointer, F32, extent.start * shape.width + column)
        keys = b.offset(source, F32, shape.heads * shape.depth)
        values = b.offset(source, F32, 2 * shape.heads * shape.depth)
        emit_panels(b, shape.panels, keys, extent.count, self.keys, 1.0 / scalar.sqrt(shape.depth))
        with b.range(0, extent.count, shape.tile) as begin:
            tile = [b.minimum(begin + i, extent.count - 1) for i in range(shape.tile)]
            self._copy_queries(source, tile)
            self._score(extent.count)
            with b.range(0, shape.tile) as i:
                self._softmax(b.index(i), b.minimum(begin + i, extent.count - 1), extent.count, head)
            self._weigh(values, extent, tile, column)

    def _copy_queries(self, source: Pointer, tile: Sequence[Value]) -> None:
        """Bring the queries of a tile together, so that one address register reaches them all."""
        b, depth = self.b, self.shape.depth
        for i, query in enumerate(tile):
            origin = b.offset(source, F32, query * self.shape.width)
            copy = b.offset(self.queries, F32, i * depth)

            def move(d: Index, lanes: int, origin: Pointer = origin, copy: Pointer = copy) -> None:
                b.store(b.load(origin, F32, d, lanes=lanes), copy, d)

            b.vectorize(depth, self.shape.lanes, move)

    def _score(self, count: Value) -> None:
        """Scores of the tile against every panel; lanes past the last key repeat it."""
        b, shape = self.b, self.shape
        zero = b.const(F32, 0.0, shape.lanes)
        with b.range(0, count, 2 * shape.lanes) as key:
            panel = b.offset(self.keys, F32, key * shape.depth)

            def body(d: Index, sums: list[Value]) -> Sequence[Value]:
                place = b.offset(panel, F32, d * (2 * shape.lanes))
                query = b.offset(self.queries, F32, d)
                vectors = [b.load(place, F32, v * shape.lanes, lanes=shape.lanes) for v in range(2)]
                spread = [
                    b.splat(b.load(query, F32, i * shape.depth), shape.lanes) for i in range(shape.tile)
                ]
                return [
                    b.fma(q, k, sums[2 * i + v]) for i, q in enumerate(spread) for v, k in enumerate(vectors)
                ]

            sums = b.reduce(0, shape.depth, [zero] * (2 * shape.tile), body)
            target = b.offset(self.scores, F32, key)
            for position, total in enumerate(sums):
                i, v = divmod(position, 2)
                b.store(total, target, i * shape.stride + v * shape.lanes)

    def _softmax(self, i: Value, query: Value, count: Value, head: Value) -> None:
        """Turn a row of scores into weights and keep the inverse of their sum. A NaN score makes all NaN."""
        b, lanes = self.b, self.shape.lanes
        row = b.offset(self.scores, F32, i * self.shape.stride)
        if self.bias is not None:
            self._add_bias(self.bias, row, query, count, head)
        lowest = b.const(F32, float("-inf"), lanes)

        def highest(k: Index, held: list[Value]) -> Sequence[Value]:
            score = b.select(self._present(k, count), b.load(row, F32, k, lanes=lanes), lowest)
            return [b.select(b.compare("gt", score, held[0]), score, held[0])]

        top = b.reduce_lanes("max", b.reduce(0, count, [lowest], highest, lanes)[0])

        def weight(k: Index, held: list[Value]) -> Sequence[Value]:
            present = self._present(k, count)
            distance = b.select(present, b.load(row, F32, k, lanes=lanes) - top, 0.0)
            found = b.select(present, math.exp(b, distance), 0.0)
            b.store(found, row, k)
            return [held[0] + found]

        total = b.reduce_lanes("add", b.reduce(0, count, [b.const(F32, 0.0, lanes)], weight, lanes)[0])
        b.store(1.0 / total, self.factors, i)

    def _present(self, key: Index, count: Value) -> Value:
        """Lanes that hold a key of the row."""
        left = self.b.cast(count - key, DType.INT32)
        return self.b.compare("lt", self.lane_numbers, left)

    def _add_bias(self, bias: TensorRef, row: Pointer, query: Value, count: Value, head: Value) -> None:
        b, limit = self.b, self.shape.limit
        start = head * (2 * limit - 1) + (limit - 1) - query

        def body(k: Index, lanes: int) -> None:
            b.store(b.load(row, F32, k, lanes=lanes) + bias.load_flat(start + k, lanes=lanes), row, k)

        b.vectorize(count, self.shape.lanes, body)

    def _weigh(self, values: Pointer, extent: RowExtent, tile: Sequence[Value], column: Value) -> None:
        """Weighted sums of the values, two vectors of the depth at a time."""
        lanes, depth = self.shape.lanes, self.shape.depth
        done = 0
        for width, vectors in ((2 * lanes, 2), (lanes, 1), (1, 1)):
            whole = depth - (depth - done) % width
            if whole > done:
                with self.b.range(done, whole, width) as d:
                    self._weigh_columns(values, extent, tile, column, d, vectors, min(width, lanes))
            done = whole

    def _weigh_columns(
        self, values: Pointer, extent: RowExtent, tile: Sequence[Value], column: Value, d: Index,
        vectors: int, lanes: int,
    ) -> None:  # fmt: skip
        b, shape = self.b, self.shape
        origin = b.offset(values, F32, d)

        def body(k: Index, sums: list[Value]) -> Sequence[Value]:
            place = b.offset(origin, F32, k * shape.width)
            weights = b.offset(self.scores, F32, k)
            parts = [b.load(place, F32, v * lanes, lanes=lanes) for v in range(vectors)]
            spread = [b.splat(b.load(weights, F32, i * shape.stride), lanes) for i in range(shape.tile)]
            return [
                b.fma(w, p, sums[vectors * i + v]) for i, w in enumerate(spread) for v, p in enumerate(parts)
            ]

        zero = b.const(F32, 0.0, lanes)
        sums = b.reduce(0, extent.count, [zero] * (vectors * shape.tile), body)
        for i, query in enumerate(tile):
            factor = b.load(self.factors, F32, i)
            place = (extent.start + query) * (shape.width // 3) + column + d
            for v in range(vectors):
                self.output.store_flat(sums[vectors * i + v] * factor, place + v * lanes)
