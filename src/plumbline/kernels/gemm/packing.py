"""The weight stream of `packed_gemm`: panels of columns, one row of a panel after another.

Packed("gemm", (k, n, vectors, lanes)): panel p holds columns [p * width, (p + 1) * width), width = vectors *
lanes; within it row k' is contiguous. The last panel keeps only as many whole vectors as it needs. Columns
past n are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plumbline.contracts.tensors import Packed

__all__ = ["PanelLayout", "pack_gemm", "unpack_gemm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelLayout:
    """Where each panel lies, in elements."""

    k: int
    n: int
    vectors: int
    lanes: int

    @classmethod
    def of(cls, layout: Packed) -> PanelLayout:
        """From the layout of a weight operand."""
        k, n, vectors, lanes = layout.parameters
        return cls(k=k, n=n, vectors=vectors, lanes=lanes)

    @property
    def packed(self) -> Packed:
        """As a layout."""
        return Packed(scheme="gemm", parameters=(self.k, self.n, self.vectors, self.lanes))

    @property
    def width(self) -> int:
        """Columns of a whole panel."""
        return self.vectors * self.lanes

    @property
    def whole_panels(self) -> int:
        """Panels with all vectors in use."""
        return self.n // self.width

    @property
    def tail_columns(self) -> int:
        """Columns of the last, narrower panel (0: there is none)."""
        return self.n % self.width

    @property
    def tail_vectors(self) -> int:
        """Vectors of the last, narrower panel."""
        return -(-self.tail_columns // self.lanes)

    @property
    def panels(self) -> int:
        """All panels."""
        return self.whole_panels + (1 if self.tail_columns else 0)

    @property
    def elements(self) -> int:
        """Floats of the stream."""
        return self.k * (self.whole_panels * self.width + self.tail_vectors * self.lanes)


def pack_gemm(weights: np.ndarray, layout: PanelLayout) -> np.ndarray:
    """Pack [k, n] float32 weights into the stream."""
    stored = np.zeros(layout.elements, np.float32)
    whole = layout.whole_panels * layout.width
    if whole:
        panels = weights[:, :whole].reshape(layout.k, layout.whole_panels, layout.width)
        stored[: layout.k * whole] = panels.transpose(1, 0, 2).reshape(-1)
    if layout.tail_columns:
        tail = np.zeros((layout.k, layout.tail_vectors * layout.lanes), np.float32)
        tail[:, : layout.tail_columns] = weights[:, whole:]
        stored[layout.k * whole :] = tail.reshape(-1)
    return stored


def unpack_gemm(stored: np.ndarray, layout: PanelLayout) -> np.ndarray:
    """The [k, n] weights of a stream."""
    weights = np.empty((layout.k, layout.n), np.float32)
    whole = layout.whole_panels * layout.width
    if whole:
        panels = stored[: layout.k * whole].reshape(layout.whole_panels, layout.k, layout.width)
        weights[:, :whole] = panels.transpose(1, 0, 2).reshape(layout.k, whole)
    if layout.tail_columns:
        tail = stored[layout.k * whole :].reshape(layout.k, -1)
        weights[:, whole:] = tail[:, : layout.tail_columns]
    return weights
