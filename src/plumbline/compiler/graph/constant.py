"""Constants of a graph: known size and identity now, bytes only when they are read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

__all__ = ["ArrayConstant", "Constant", "digest_of"]


class Constant(Protocol):
    """Bytes of a tensor that never changes."""

    @property
    def identity(self) -> str:
        """Text that is equal exactly where the bytes are equal by construction (a digest, or a place in a
        digested file)."""
        ...

    def read(self) -> np.ndarray:
        """The values; the caller must not write to them."""
        ...


@dataclass(frozen=True)
class ArrayConstant:
    """A constant held in memory."""

    array: np.ndarray = field(repr=False)

    @cached_property
    def identity(self) -> str:
        """Digest of type, shape and bytes."""
        return digest_of(self.array)

    def read(self) -> np.ndarray:
        """The array itself."""
        return self.array


def digest_of(array: np.ndarray) -> str:
    """`sha256:...` of an array's type, shape and bytes."""
    dense = np.ascontiguousarray(array)
    header = f"{array.dtype.str}{array.shape}".encode()
    return "sha256:" + hashlib.sha256(header + dense.tobytes()).hexdigest()
