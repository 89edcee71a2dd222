"""`symbolic_value`: an operator that writes dimensions, for models that use their own shapes as data."""

from plumbline.kernels.symbolic.contract import CONTRACTS

__all__ = ["CONTRACTS"]
