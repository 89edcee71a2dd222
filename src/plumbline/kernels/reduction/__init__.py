"""Operations along axes: reductions, places of extremes, running sums, softmax and its kin, top-k."""

from plumbline.kernels.reduction.contract import CONTRACTS

__all__ = ["CONTRACTS"]
