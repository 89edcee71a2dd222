"""Reading and writing by run-time index."""

from plumbline.kernels.indexing import gather, scatter_elements, scatter_slices

__all__ = ["CONTRACTS"]

CONTRACTS = (*gather.CONTRACTS, *scatter_elements.CONTRACTS, *scatter_slices.CONTRACTS)
