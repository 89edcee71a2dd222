"""Reading images between their pixels: resizing, grids of coordinates, regions, deformable windows."""

from plumbline.kernels.sampling import (
    affine_grid,
    deformable,
    grid_sample,
    resize,
    roi_align,
    roi_pool,
    unpooling,
)

__all__ = ["CONTRACTS"]

CONTRACTS = (
    *resize.CONTRACTS,
    *grid_sample.CONTRACTS,
    *affine_grid.CONTRACTS,
    *roi_align.CONTRACTS,
    *roi_pool.CONTRACTS,
    *unpooling.CONTRACTS,
    *deformable.CONTRACTS,
)
