"""Conversion between floats and quantised integers."""

from plumbline.kernels.quantization.contract import CONTRACTS

__all__ = ["CONTRACTS"]
