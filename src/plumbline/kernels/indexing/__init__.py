"""Reading and writing by run-time index."""

from plumbline.kernels.indexing import gather, scatter

__all__ = ["CONTRACTS"]

CONTRACTS = (*gather.CONTRACTS, *scatter.CONTRACTS)
