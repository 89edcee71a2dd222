"""Image operations on channel-blocked tensors: convolutions, pools, maps, and the way in and out."""

from plumbline.kernels.blocked.contract import CONTRACTS

__all__ = ["CONTRACTS"]
