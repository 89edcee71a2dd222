"""Attention over row-major operands: softmax attention, linear attention with a state, rotary positions."""

from plumbline.kernels.attention.contract import CONTRACTS

__all__ = ["CONTRACTS"]
