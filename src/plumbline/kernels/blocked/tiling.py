"""Which pixels a register tile covers, and which tile is best.

An image is cut into a grid of tiles: row groups times column pieces. Only one of the two is cut into unequal
pieces (sizes that differ by one), so that a kernel needs at most two variants of its code.
"""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tile import Split, even_split, widest_rows

__all__ = ["PixelGrid", "Tiling", "choose_grid", "choose_tiling"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelGrid:
    """Row groups and column pieces of one image plane."""

    rows: Split
    columns: Split

    @property
    def tiles(self) -> int:
        """Tiles of a plane."""
        return self.rows.count * self.columns.count

    @property
    def variants(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of the tiles that occur."""
        return tuple((r, c) for r in self.rows.sizes for c in self.columns.sizes)

    def cost(self, vectors: int) -> float:
        """Estimated cycles per reduction step of a plane: two multiply-adds, two loads a cycle, latency 4."""
        total = 0.0
        for rows, row_count in _weighted(self.rows):
            for columns, column_count in _weighted(self.columns):
                pixels = rows * columns
                cycles = max(pixels * vectors / 2, (pixels + vectors) / 2, 4.0)
                total += cycles * row_count * column_count
        return total


def _weighted(split: Split) -> tuple[tuple[int, int], ...]:
    rest = split.count - split.large_count
    found = ((split.large, split.large_count), (split.large - 1, rest))
    return tuple((size, count) for size, count in found if count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Vectors of a panel and the pixel grid."""

    vectors: int
    grid: PixelGrid


def choose_tiling(height: int, width: int, blocks: int, target: TargetDescription) -> Tiling:
    """The cheapest tiling by the cost estimate.

    Args:
        height: rows of the output plane (1 for a plane that is walked as one long row).
        width: columns.
        blocks: output channel blocks; a panel's vectors divide it.
        target: number of registers.
    """
    fitting = [v for v in (2, 4, 3, 1, 6) if blocks % v == 0]
    tilings = [Tiling(vectors=v, grid=choose_grid(height, width, v, target)) for v in fitting]
    return min(tilings, key=lambda t: _grid_cost(t.grid, t.vectors) / t.vectors)


def choose_grid(height: int, width: int, vectors: int, target: TargetDescription) -> PixelGrid:
    """The cheapest grid for panels of known width."""
    most = widest_rows(vectors, target.vector_registers, target.spare_registers)
    grids = [PixelGrid(rows=even_split(height, 1), columns=even_split(width, most))]
    if width < most:
        whole = Split(count=1, large=width, large_count=1)
        grids.append(PixelGrid(rows=even_split(height, most // width), columns=whole))
    return min(grids, key=lambda grid: _grid_cost(grid, vectors))


def _grid_cost(grid: PixelGrid, vectors: int) -> float:
    """Estimated cycles, with a little for starting each tile."""
    return grid.cost(vectors) + 1e-3 * grid.tiles
