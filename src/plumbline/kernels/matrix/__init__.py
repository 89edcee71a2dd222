"""Matrix products and their relatives, row-major and for every element type: the general versions."""

from plumbline.kernels.matrix.contract import CONTRACTS

__all__ = ["CONTRACTS"]
