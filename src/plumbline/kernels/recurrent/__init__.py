"""Recurrent layers: plain, gated and long short-term memory cells over whole sequences."""

from plumbline.kernels.recurrent.contract import CONTRACTS

__all__ = ["CONTRACTS"]
