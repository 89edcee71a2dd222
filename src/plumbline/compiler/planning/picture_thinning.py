"""Fewer boxes for large plans: the largest are drawn one by one, the rest together as one shape.

Nothing disappears: the shape covers every byte and step of the buffers in it, to the precision of its cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from plumbline.compiler.planning.memory import Placement

__all__ = ["MAX_PIECES", "merged_shape", "thin_out"]

MAX_PIECES = 3_000
"""Rectangles of a merged shape: with more, its cells become coarser."""
_FINEST_CELL = 2

Box = tuple[float, float, float, float]
"""left, top, width, height in units of the picture."""


def thin_out(
    placements: Sequence[Placement], most: int
) -> tuple[tuple[Placement, ...], tuple[Placement, ...]]:
    """The `most` placements that take the most bytes x steps, largest first, and all others.

    Placements without bytes are in neither.
    """
    seen = [placement for placement in placements if placement.size_bytes]
    seen.sort(key=lambda p: -(p.last - p.first + 1) * p.size_bytes)
    return tuple(seen[:most]), tuple(seen[most:])


def merged_shape(boxes: Sequence[Box], width: int, height: int) -> str:
    """The union of `boxes` as the data of one SVG path of at most `MAX_PIECES` rectangles.

    Args:
        boxes: inside `0 .. width` x `0 .. height`.
        width, height: of the frame.
    """
    cell = _FINEST_CELL
    while True:
        pieces = list(_rectangles(_covered(boxes, width, height, cell)))
        if len(pieces) <= MAX_PIECES:
            return "".join(
                f"M{x * cell} {y * cell}h{w * cell}v{h * cell}h-{w * cell}z" for x, y, w, h in pieces
            )
        cell *= 2


def _covered(boxes: Sequence[Box], width: int, height: int, cell: int) -> np.ndarray:
    """Bool[rows, columns]: cells that a box touches; the frame may end inside the last of them."""
    grid = np.zeros((-(-height // cell), -(-width // cell)), np.bool_)
    for left, top, wide, high in boxes:
        rows = slice(int(top // cell), int(-(-(top + high) // cell)))
        grid[rows, int(left // cell) : int(-(-(left + wide) // cell))] = True
    return grid


def _rectangles(grid: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Rectangles (x, y, width, height) that cover the true cells: runs of rows, equal ones joined."""
    begun: dict[tuple[int, int], int] = {}
    for y in range(len(grid) + 1):
        runs = _runs(grid[y]) if y < len(grid) else set()
        for run in [run for run in begun if run not in runs]:
            yield run[0], begun[run], run[1] - run[0], y - begun.pop(run)
        for run in sorted(runs):
            begun.setdefault(run, y)


def _runs(row: np.ndarray) -> set[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(row.astype(np.int8), prepend=0, append=0))
    return set(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
