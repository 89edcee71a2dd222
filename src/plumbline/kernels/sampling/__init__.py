"""Reading images between their pixels: resizing, sampling by a grid, regions of interest, deformable windows."""

from plumbline.kernels.sampling import resize

__all__ = ["CONTRACTS"]

CONTRACTS = (*resize.CONTRACTS,)
