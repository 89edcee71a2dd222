"""Operations on packed text: rows of different lengths on one token axis, told apart by row offsets."""

from plumbline.kernels.text.contract import CONTRACTS

__all__ = ["CONTRACTS"]
