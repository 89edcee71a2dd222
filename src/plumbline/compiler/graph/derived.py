"""Constants computed from other constants, when their bytes are needed and not before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from plumbline.compiler.graph.constant import Constant

__all__ = ["DerivedConstant"]


@dataclass(frozen=True)
class DerivedConstant:
    """The result of a pure function of constants.

    Attributes:
        recipe: names the function and all of its parameters; part of the identity.
        sources: what it is computed from.
        compute: the function, from arrays to an array.
        size_bytes: size of the result.
    """

    recipe: str
    sources: tuple[Constant, ...]
    compute: Callable[[Sequence[np.ndarray]], np.ndarray] = field(repr=False, compare=False)
    size_bytes: int = 0

    @property
    def identity(self) -> str:
        """Digest of the recipe and the identities of the sources."""
        text = "\n".join((self.recipe, *(s.identity for s in self.sources)))
        return "derived:" + hashlib.sha256(text.encode()).hexdigest()

    def read(self) -> np.ndarray:
        """Compute the values. Nothing is kept."""
        return self.compute([s.read() for s in self.sources])
