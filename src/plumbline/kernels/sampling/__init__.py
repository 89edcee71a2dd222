"""Reading images between their pixels: resizing, grids of coordinates, regions, deformable windows."""

from plumbline.kernels.sampling import deformable, grid, regions, resize, unpooling

__all__ = ["CONTRACTS"]

CONTRACTS = (
    *resize.CONTRACTS,
    *grid.CONTRACTS,
    *regions.CONTRACTS,
    *unpooling.CONTRACTS,
    *deformable.CONTRACTS,
)
