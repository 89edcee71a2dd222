"""Folding a contiguous row in vector lanes, always in the same order for a given length.

Four vector accumulators take whole groups of four vectors, the first one takes what is left in whole
vectors, and a scalar takes the rest. They are combined at the end in a fixed tree. The order depends on the
length of the row alone: not on threads, batch, or whether the length is known when code is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value, is_value

__all__ = ["RowFold", "fold_row"]

_VECTORS = 4

Term = Callable[[Index, int], Value]
Combine = Callable[[Value, Value], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFold:
    """An associative operation over rows, with its neutral number.

    `combine` folds two values of any lanes; `term(position, lanes)` of the calls below gives what is folded.
    """

    builder: FunctionBuilder
    dtype: DType
    lanes: int
    neutral: float | int
    combine: Combine

    def initial(self) -> list[Value]:
        """Fresh accumulators."""
        vector = self.builder.const(self.dtype, self.neutral, self.lanes)
        return [*[vector] * _VECTORS, self.builder.const(self.dtype, self.neutral)]

    def accumulate(self, carried: Sequence[Value], count: Index, term: Term) -> list[Value]:
        """Fold `count` terms into accumulators."""
        b, lanes = self.builder, self.lanes
        *vectors, scalar = carried
        group = lanes * _VECTORS
        grouped, whole = _down_to(count, group), _down_to(count, lanes)

        def grouped_step(i: Index, held: list[Value]) -> list[Value]:
            return [self.combine(v, term(i + lanes * k, lanes)) for k, v in enumerate(held)]

        vectors = b.reduce(0, grouped, vectors, grouped_step, group)
        vectors[:1] = b.reduce(
            grouped, whole, vectors[:1], lambda i, held: [self.combine(held[0], term(i, lanes))], lanes
        )
        rest = b.reduce(whole, count, [scalar], lambda i, held: [self.combine(held[0], term(i, 1))])
        return [*vectors, *rest]

    def finish(self, carried: Sequence[Value]) -> Value:
        """The folded scalar."""
        b = self.builder
        vectors, scalar = list(carried[:-1]), carried[-1]
        while len(vectors) > 1:
            half = len(vectors) // 2
            vectors = [self.combine(vectors[k], vectors[k + half]) for k in range(half)]
        value = vectors[0]
        while value.lanes > 1:
            half = value.lanes // 2
            low, high = b.shuffle(value, range(half)), b.shuffle(value, range(half, value.lanes))
            value = self.combine(low, high)
        return self.combine(value, scalar)


def fold_row(fold: RowFold, count: Index, term: Term) -> Value:
    """Fold one row."""
    return fold.finish(fold.accumulate(fold.initial(), count, term))


def _down_to(count: Index, step: int) -> Index:
    """The largest multiple of `step` that is not above `count`."""
    if is_value(count):
        return count - count % step
    return count // step * step
