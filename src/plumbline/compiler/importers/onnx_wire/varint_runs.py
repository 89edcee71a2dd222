"""Many packed varints at once, in numpy and in bounded memory."""

from __future__ import annotations

import numpy as np

__all__ = ["VarintRunError", "decode_varint_run"]

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]
Words = np.ndarray[tuple[int], np.dtype[np.uint64]]

_BLOCK_BYTES = 1 << 18
_MAX_WIDTH = 10


class VarintRunError(ValueError):
    """A run is damaged `offset` bytes after its start. Callers give it a place and a type."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def decode_varint_run(data: Bytes) -> Words:
    """The unsigned 64-bit integers packed in `data` (uint8 [N]), in order.

    Works block by block, so that scratch memory stays under a few megabytes.

    Raises:
        VarintRunError: an integer is cut off or has more than 64 bits.
    """
    if data.size and data[-1] >= 0x80:
        raise VarintRunError(data.size - 1, "a variable-length integer is cut off")
    result = np.empty(int(np.count_nonzero(data < 0x80)), np.uint64)
    start = done = 0
    while start < data.size:
        block = data[start : start + _BLOCK_BYTES]
        stops = np.flatnonzero(block < 0x80)
        if not stops.size:
            raise VarintRunError(start, "a variable-length integer has more than 64 bits")
        block = block[: int(stops[-1]) + 1]
        result[done : done + stops.size] = _decode_block(block, stops, start)
        done += stops.size
        start += block.size
    return result


def _decode_block(block: Bytes, stops: np.ndarray[tuple[int], np.dtype[np.intp]], offset: int) -> Words:
    """A block that begins and ends at borders of integers; `stops` are the last bytes of each."""
    if stops.size == block.size:
        return block.astype(np.uint64)
    starts = np.concatenate((np.zeros(1, np.intp), stops[:-1] + 1))
    widths = stops - starts + 1
    over = widths > _MAX_WIDTH
    over |= (widths == _MAX_WIDTH) & (block[stops] > 1)
    if over.any():
        where = offset + int(starts[over.argmax()])
        raise VarintRunError(where, "a variable-length integer has more than 64 bits")
    place = np.arange(block.size) - np.repeat(starts, widths)
    parts = (block & np.uint8(0x7F)).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts)
