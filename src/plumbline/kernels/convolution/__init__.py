"""Convolutions over row-major images: the general versions for any rank, stride, dilation and group."""

from plumbline.kernels.convolution.contract import CONTRACTS

__all__ = ["CONTRACTS"]
