"""Normalisation operations: layer, root-mean-square, group (and instance), batch, local response."""

from plumbline.kernels.normalization.contract import CONTRACTS

__all__ = ["CONTRACTS"]
