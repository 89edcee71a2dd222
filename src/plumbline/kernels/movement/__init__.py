"""Data movement: rearranging, repeating, generating and masking elements without computing on them."""

from plumbline.kernels.movement import columns, generating, rearrange, repeating

__all__ = ["CONTRACTS"]

CONTRACTS = (*rearrange.CONTRACTS, *repeating.CONTRACTS, *generating.CONTRACTS, *columns.CONTRACTS)
