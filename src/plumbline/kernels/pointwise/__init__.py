"""Element-by-element operations and their fusion: one table of functions, one loop-nest kernel."""

from plumbline.kernels.pointwise.contract import CONTRACTS

__all__ = ["CONTRACTS"]
