"""Keys turned into panels: for each depth, two vectors of neighbouring keys side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value

__all__ = ["PanelShape", "emit_panels"]

F32 = DType.FLOAT32


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelShape:
    """Keys of `depth` elements, `width` elements apart, in panels of `2 * lanes` keys."""

    depth: int
    lanes: int
    width: int

    @property
    def keys(self) -> int:
        """Keys of a panel."""
        return 2 * self.lanes

    def padded(self, count: int) -> int:
        """Keys of all panels of a row of `count` tokens."""
        return -(-count // self.keys) * self.keys


def emit_panels(
    b: FunctionBuilder, shape: PanelShape, source: Pointer, count: Value, target: Pointer, scale: float
) -> None:
    """Write `scale * key` into panels. Places past the last key repeat it.

    Args:
        b: function that receives the code.
        shape: of keys and panels.
        source: first element of the first key.
        count: keys of the row.
        target: where panels go, `padded(count) * depth` elements.
        scale: factor.
    """
    lanes, whole = shape.lanes, shape.depth - shape.depth % shape.lanes
    with b.range(0, count, shape.keys) as first:
        panel = b.offset(target, F32, first * shape.depth)
        with b.range(0, shape.keys, lanes) as half:
            keys = [b.minimum(first + half + i, count - 1) * shape.width for i in range(lanes)]
            column = b.offset(panel, F32, half)
            if whole:
                with b.range(0, whole, lanes) as d:
                    _turn_block(b, shape, source, keys, column, d, scale)
            if whole < shape.depth:
                with b.range(whole, shape.depth) as d:
                    for i, key in enumerate(keys):
                        value = b.load(source, F32, key + d) * scale
                        b.store(value, column, b.index(d) * shape.keys + i)


def _turn_block(
    b: FunctionBuilder, shape: PanelShape, source: Pointer, keys: Sequence[Value], column: Pointer, d: Index,
    scale: float,
) -> None:  # fmt: skip
    rows = [b.load(source, F32, key + d, lanes=shape.lanes) * scale for key in keys]
    place = b.offset(column, F32, b.index(d) * shape.keys)
    for i, turned in enumerate(_transpose(b, rows)):
        b.store(turned, place, i * shape.keys)


def _transpose(b: FunctionBuilder, rows: Sequence[Value]) -> list[Value]:
    """Turn a square block: vectors half a block apart swap halves, then quarters, and so on."""
    held, lanes = list(rows), len(rows)
    step = lanes // 2
    while step:
        low = [j if not j & step else lanes + j - step for j in range(lanes)]
        high = [j + step if not j & step else lanes + j for j in range(lanes)]
        for i in range(lanes):
            if not i & step:
                above, below = held[i], held[i + step]
                held[i], held[i + step] = b.shuffle(above, low, below), b.shuffle(above, high, below)
        step //= 2
    return held
