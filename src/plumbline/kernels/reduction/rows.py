"""Folding a contiguous row in vector lanes, always in the same order for a given length.

Four vector accumulators take whole groups of four vectors, the first one takes what is left: whole vectors,
then a partial one (or, without masked access, a scalar takes the rest). They are combined at the end in a
fixed tree. The order depends on the length of the row and the target alone: not on threads, batch, or
whether the length is known when code is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.reduction.windows import Window, partial_window, whole_part

__all__ = ["RowFold", "fold_row"]

_VECTORS = 4

Term = Callable[[Window], Value]
Combine = Callable[[Value, Value], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFold:
    """An associative operation over rows, with its neutral number.

    `combine` folds two values of any lanes; `term(window)` of the calls below gives what is folded; `masks`
    says whether the rest of a row may be a partial vector.
    """

    builder: FunctionBuilder
    dtype: DType
    lanes: int
    neutral: float | int
    combine: Combine
    masks: bool = False

    def initial(self) -> list[Value]:
        """Fresh accumulators."""
        vector = self.builder.const(self.dtype, self.neutral, self.lanes)
        return [*[vector] * _VECTORS, self.builder.const(self.dtype, self.neutral)]

    def accumulate(self, carried: Sequence[Value], count: Index, term: Term) -> list[Value]:
        """Fold `count` terms into accumulators."""
        b, lanes = self.builder, self.lanes
        *vectors, scalar = carried
        group = lanes * _VECTORS
        grouped, whole = whole_part(count, group), whole_part(count, lanes)

        def take(held: Value, first: Index, width: int) -> Value:
            return self.combine(held, term(Window(builder=b, first=first, lanes=width)))

        vectors = b.reduce(
            0, grouped, vectors, lambda i, v: [take(x, i + lanes * k, lanes) for k, x in enumerate(v)], group
        )
        vectors[:1] = b.reduce(grouped, whole, vectors[:1], lambda i, v: [take(v[0], i, lanes)], lanes)
        if self.masks:
            vectors[:1] = b.reduce(
                whole, count, vectors[:1], lambda i, v: [self._take_partial(v[0], i, count, term)], lanes
            )
            return [*vectors, scalar]
        return [*vectors, *b.reduce(whole, count, [scalar], lambda i, v: [take(v[0], i, 1)])]

    def _take_partial(self, held: Value, first: Index, count: Index, term: Term) -> Value:
        b = self.builder
        window = partial_window(b, first, count, self.lanes)
        if window.mask is None:
            return self.combine(held, term(window))
        return self.combine(held, b.select(window.mask, term(window), self.neutral))

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
