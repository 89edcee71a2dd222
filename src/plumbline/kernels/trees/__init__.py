"""Ensembles of decision trees."""

from plumbline.kernels.trees.contract import CONTRACTS

__all__ = ["CONTRACTS"]
