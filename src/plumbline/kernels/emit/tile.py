"""The register tile: `rows x vectors` accumulators fed by broadcasts and a weight stream.

One tile computes `rows` outputs (rows of a matrix, pixels of an image) times `vectors` whole vectors of
columns. Per step of the reduction it reads `vectors` weight vectors, which lie in exactly that order, and one
scalar per row, which is broadcast. Every accumulator adds its products in the order of the reduction,
whatever the tile, so the tile decides speed and never bits. The technique is that of Goto and van de Geijn,
"Anatomy of High-Performance Matrix Multiplication" (ACM TOMS 34, 2008), section 5, without packing the left
operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value

__all__ = ["Reduction", "Split", "accumulate", "even_split", "widest_rows"]

FLOAT = DType.FLOAT32
PREFETCH_VECTORS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """One loop of a reduction, outermost first: trip count, and what a trip advances, in elements."""

    extent: int
    input_stride: Index
    weight_stride: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """`count` pieces that differ by at most one: `large_count` of `large`, the rest of `large - 1`."""

    count: int
    large: int
    large_count: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The distinct sizes."""
        return (self.large,) if self.large_count == self.count else (self.large, self.large - 1)


def even_split(total: int, most: int) -> Split:
    """Split `total` into the fewest pieces of at most `most`, as evenly as possible."""
    count = -(-total // most)
    large = -(-total // count)
    return Split(count=count, large=large, large_count=total - (large - 1) * count)


def widest_rows(vectors: int, registers: int, spare: int = 1) -> int:
    """Most rows of a tile whose accumulators and weights leave `spare` registers for broadcasts."""
    return max(1, (registers - vectors - spare) // vectors)


def accumulate(
    b: FunctionBuilder,
    *,
    lanes: int,
    vectors: int,
    input_pointer: Pointer,
    row_offsets: Sequence[Index],
    weight_pointer: Pointer,
    loops: Sequence[Reduction],
    inner: Sequence[Index],
    initial: Sequence[Value] | None = None,
    prefetch: bool = True,
) -> list[Value]:
    """Emit the reduction of one tile.

    Args:
        b: receives the code.
        lanes: elements of a vector.
        vectors: weight vectors per step.
        input_pointer: scalars to broadcast; element `row_offsets[r] + inner[u]` plus what the loops advanced.
        row_offsets: element offset of each row.
        weight_pointer: weight stream: for each trip of the innermost loop, `len(inner) * vectors` vectors.
        loops: outer reduction loops, outermost first.
        inner: input offsets of the unrolled steps of the innermost loop.
        initial: accumulators to start from (row-major by row, then vector); zeros by default.
        prefetch: ask for weights some vectors ahead.

    Returns:
        `len(row_offsets) * vectors` accumulators, row by row.
    """
    zero = b.const(FLOAT, 0.0, lanes)
    start = list(initial) if initial is not None else [zero] * (len(row_offsets) * vectors)

    def steps(source: Pointer, weights: Pointer, accumulators: list[Value]) -> list[Value]:
        acc = list(accumulators)
        for position, offset in enumerate(inner):
            base = position * vectors * lanes
            vector = [
                b.load(weights, FLOAT, base + j * lanes, lanes=lanes, align=4 * lanes) for j in range(vectors)
            ]
            if prefetch:
                for j in range(vectors):
                    b.prefetch(weights, FLOAT, base + (j + PREFETCH_VECTORS) * lanes)
            for row, row_offset in enumerate(row_offsets):
                scalar = b.splat(b.load(source, FLOAT, _sum(offset, row_offset)), lanes)
                for j in range(vectors):
                    acc[row * vectors + j] = b.fma(scalar, vector[j], acc[row * vectors + j])
        return acc

    def nest(level: int, source: Pointer, weights: Pointer, accumulators: list[Value]) -> list[Value]:
        if level == len(loops):
            return steps(source, weights, accumulators)
        loop = loops[level]

        def body(i: Index, carried: list[Value]) -> Sequence[Value]:
            moved = b.offset(weights, FLOAT, i * loop.weight_stride)
            return nest(level + 1, b.offset(source, FLOAT, i * loop.input_stride), moved, carried)

        return b.reduce(0, loop.extent, accumulators, body)

    return nest(0, input_pointer, weight_pointer, start)


def _sum(a: Index, b: Index) -> Index:
    if isinstance(a, int) and a == 0:
        return b
    return b + a if isinstance(a, int) else a + b
