"""Moving and filling runs of consecutive elements, and splitting rows of elements into units of work.

Data movement never looks at values: elements travel as unsigned integers of their width (`bits_of`), so that
NaN payloads and bool bytes arrive unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from plumbline.contracts.dims import Dim, ceildiv, mul
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value, is_value
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["RowSplit", "bits_of", "copy_run", "each_lane_group", "fill_run"]

_BITS = {1: DType.UINT8, 2: DType.UINT16, 4: DType.UINT32, 8: DType.UINT64}
_STRAIGHT_VECTORS = 6
_UNIT_ELEMENTS = 2048


def bits_of(dtype: DType) -> DType:
    """The unsigned integer type of the same width."""
    return _BITS[dtype.size_bytes]


def each_lane_group(b: FunctionBuilder, count: Index, lanes: int, body: Callable[[Index, int], None]) -> None:
    """Call `body(first, width)` so that every element of `[0, count)` is visited once.

    Short static counts become straight-line code of halving widths; long or run-time counts become loops of
    full vectors, quarter vectors and single elements.
    """
    if isinstance(count, int) and count <= _STRAIGHT_VECTORS * lanes:
        _halving(0, count, lanes, body)
        return
    done: Index = 0
    for width in (lanes, lanes // 4, 1) if lanes > 4 else (lanes, 1):
        done = _whole_groups(b, done, count, width, body)
        if isinstance(done, int) and done == count:
            return
        if isinstance(done, int) and isinstance(count, int):
            _halving(done, count, lanes, body)
            return


def _halving(first: int, count: int, lanes: int, body: Callable[[Index, int], None]) -> None:
    width = lanes
    while first < count:
        while width > count - first:
            width //= 2
        body(first, width)
        first += width


def _whole_groups(
    b: FunctionBuilder, done: Index, count: Index, width: int, body: Callable[[Index, int], None]
) -> Index:
    """Emit the loop over groups of `width`; returns where it ends."""
    end: Index
    if is_value(count) or is_value(done):
        rest = b.index(count) - done
        end = b.index(count) - (rest % width) if width > 1 else count
    else:
        end = done + (count - done) // width * width
    with b.range(done, end, width) as i:
        body(i, width)
    return end


def copy_run(
    b: FunctionBuilder,
    target: TargetDescription,
    dtype: DType,
    source: tuple[Pointer, Index],
    destination: tuple[Pointer, Index],
    count: Index,
) -> None:
    """Copy `count` consecutive elements between (address, element offset) pairs that do not overlap."""
    bits = bits_of(dtype)
    read, write = b.offset(source[0], bits, source[1]), b.offset(destination[0], bits, destination[1])

    def body(i: Index, lanes: int) -> None:
        b.store(b.load(read, bits, i, lanes=lanes), write, i)

    each_lane_group(b, count, target.lanes(bits), body)


def fill_run(
    b: FunctionBuilder,
    target: TargetDescription,
    value: Value,
    destination: tuple[Pointer, Index],
    count: Index,
) -> None:
    """Write one scalar to `count` consecutive elements."""
    lanes_full = target.lanes(value.dtype)
    write = b.offset(destination[0], value.dtype, destination[1])

    def body(i: Index, lanes: int) -> None:
        b.store(b.splat(value, lanes), write, i)

    each_lane_group(b, count, lanes_full, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSplit:
    """How `rows` rows of `width` elements become units: groups of short rows, or pieces of long ones.

    Attributes:
        rows: number of rows.
        width: elements of a row.
        group: rows of one unit (1 where rows are cut).
        piece: elements of one unit of a row that is cut, or None for whole rows.
    """

    rows: Dim
    width: Dim
    group: int
    piece: int | None

    @classmethod
    def plan(
        cls, rows: Dim, width: Dim, *, divisible: bool = True, elements: int = _UNIT_ELEMENTS
    ) -> RowSplit:
        """Choose units of about `elements` elements; rows that are not `divisible` stay whole."""
        if isinstance(width, int) and (width <= 4 * elements or not divisible):
            return cls(rows=rows, width=width, group=max(1, elements // max(width, 1)), piece=None)
        return cls(rows=rows, width=width, group=1, piece=2 * elements if divisible else None)

    @property
    def units(self) -> Dim:
        """Number of units."""
        if self.piece is not None:
            return mul(self.rows, ceildiv(self.width, self.piece))
        return ceildiv(self.rows, self.group)

    @property
    def unit_elements(self) -> int:
        """Rough elements of one unit."""
        if self.piece is not None:
            return self.piece
        return self.group * self.width if isinstance(self.width, int) else 256

    @contextmanager
    def each(self, call: KernelCall, begin: Index, end: Index) -> Iterator[tuple[Index, Index, Index]]:
        """Loop over the units `[begin, end)`, yielding (row, first element, number of elements)."""
        b = call.builder
        rows, width = call.dim(self.rows), call.dim(self.width)
        if self.piece is not None:
            pieces = b.index(call.dim(ceildiv(self.width, self.piece)))
            with b.range(begin, end) as unit:
                value = b.index(unit)
                first = (value % pieces) * self.piece
                yield value // pieces, first, b.minimum(b.index(width) - first, self.piece)
            return
        with b.range(begin, end) as unit:
            low = b.index(unit) * self.group
            high = b.minimum(low + self.group, rows) if self.group > 1 else low + 1
            with b.range(low, high) as row:
                yield row, 0, width
