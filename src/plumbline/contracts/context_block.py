"""Memory of an execution context: numbers that generated code and its runner agree on.

Int64 slots, then claim words. `SYMBOLS` is the first of `MAX_SYMBOLS` slots for the values of symbols.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CLAIMS_OFFSET_BYTES", "MAX_SYMBOLS", "ContextSlots"]


class ContextSlots(IntEnum):
    """Int64 slots of the block that a segment function gets."""

    ARENA = 0
    WEIGHTS = 1
    STATE = 2
    EPOCH = 3
    TRACE = 4
    SYMBOLS = 8


CLAIMS_OFFSET_BYTES = 1024
"""Claim and completion words of phase p lie at this offset + 16 * p."""
MAX_SYMBOLS = CLAIMS_OFFSET_BYTES // 8 - ContextSlots.SYMBOLS
