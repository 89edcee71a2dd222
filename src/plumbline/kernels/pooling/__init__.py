"""Pools over row-major images: windows of any rank, and whole planes."""

from plumbline.kernels.pooling.contract import CONTRACTS

__all__ = ["CONTRACTS"]
