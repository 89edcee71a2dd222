"""Strided pieces: the plain data that describes every rearrangement of elements.

A piece copies an index space from one tensor to another: element `(i0, i1, ...)` is read at
`source_offset + sum(i * source_stride)` and written at `offset + sum(i * stride)`. Transposes, slices,
splits, concatenations, broadcasts and tiles are one piece or a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plumbline.contracts.dims import Dim, add, mul, product
from plumbline.contracts.tensors import Shape

__all__ = ["Piece", "Side", "dense_strides", "is_empty", "merge", "region", "whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One end of a piece: a tensor position, an element offset and a stride for each axis of the piece."""

    operand: int
    offset: Dim
    strides: tuple[Dim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A copy of an index space.

    Attributes:
        shape: the index space.
        source: where elements are read; None for a fill.
        destination: where they are written.
    """

    shape: Shape
    source: Side | None
    destination: Side


def dense_strides(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """Element strides of a row-major tensor."""
    strides: list[Dim] = []
    running: Dim = 1
    for extent in reversed(shape):
        strides.append(running)
        running = mul(running, extent)
    return tuple(reversed(strides))


def merge(piece: Piece) -> Piece:
    """The same copy with axes of extent 1 dropped and neighbours merged where both sides walk them as one."""
    kept: list[tuple[Dim, tuple[Dim, ...]]] = []
    sides = [s for s in (piece.source, piece.destination) if s is not None]
    for axis, extent in enumerate(piece.shape):
        if extent == 1:
            continue
        strides = tuple(s.strides[axis] for s in sides)
        if kept and all(
            outer == mul(inner, extent) for outer, inner in zip(kept[-1][1], strides, strict=True)
        ):
            kept[-1] = (mul(kept[-1][0], extent), strides)
        else:
            kept.append((extent, strides))
    if not kept:
        kept = [(1, (1,) * len(sides))]
    shape = tuple(extent for extent, _ in kept)
    columns = [tuple(s) for s in zip(*(strides for _, strides in kept), strict=True)]
    source = None if piece.source is None else replace(piece.source, strides=columns[0])
    return Piece(shape=shape, source=source, destination=replace(piece.destination, strides=columns[-1]))


def region(operand: int, shape: Shape, starts: Sequence[Dim], steps: Sequence[Dim] | None = None) -> Side:
    """The side that walks a box of a row-major tensor from `starts` with `steps`."""
    strides = dense_strides(shape)
    offset: Dim = 0
    for start, stride in zip(starts, strides, strict=True):
        offset = add(offset, mul(start, stride))
    walked = strides if steps is None else tuple(mul(s, d) for s, d in zip(steps, strides, strict=True))
    return Side(operand=operand, offset=offset, strides=walked)


def whole(operand: int, shape: Shape) -> Side:
    """The side that walks all of a row-major tensor."""
    return Side(operand=operand, offset=0, strides=dense_strides(shape))


def is_empty(piece: Piece) -> bool:
    """Whether a piece is known to copy nothing."""
    return product(piece.shape) == 0
