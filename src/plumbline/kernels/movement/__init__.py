"""Data movement: rearranging, repeating, generating and masking elements without computing on them."""

from plumbline.kernels.movement import (
    columns,
    depth_space,
    generating,
    partition,
    rearrange,
    repeating,
    selecting,
)

__all__ = ["CONTRACTS"]

CONTRACTS = (
    *rearrange.CONTRACTS,
    *partition.CONTRACTS,
    *depth_space.CONTRACTS,
    *repeating.CONTRACTS,
    *generating.CONTRACTS,
    *selecting.CONTRACTS,
    *columns.CONTRACTS,
)
