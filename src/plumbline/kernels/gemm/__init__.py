"""`packed_gemm`: float32 matrix products with packed weights and a fused epilogue."""

from plumbline.kernels.gemm.contract import CONTRACTS

__all__ = ["CONTRACTS"]
