"""Image operations on channel-blocked tensors: convolutions, pooling, maps, and the way in and out of the layout."""

from plumbline.kernels.blocked.contract import CONTRACTS

__all__ = ["CONTRACTS"]
