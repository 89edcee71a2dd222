"""The kernel that carries out pieces: row copies, strided rows, and transposes through registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plumbline.contracts.dims import Dim, add, ceildiv, mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import Index, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.movement.pieces import Piece, Side, is_empty, merge
from plumbline.kernels.movement.runs import bits_of, copy_run, each_lane_group, fill_run
from plumbline.kernels.movement.transposition import TILE_LANES, emit_tile, transposed_axis

__all__ = ["CopyKernel", "PieceEmitter", "PieceSplit"]

_UNIT_ELEMENTS = 4096
_GATHER_LANES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceSplit:
    """How a merged piece becomes units: all axes before `axis` times groups of `group` along `axis`.

    `across` is the axis that the source walks with stride 1 where the last axis does not (a transpose).
    """

    piece: Piece
    axis: int
    group: int
    across: int | None

    @property
    def units(self) -> Dim:
        """Number of units."""
        shape = self.piece.shape
        if self.across is not None:
            outer = product(e for i, e in enumerate(shape[:-1]) if i != self.across)
            return mul(outer, ceildiv(shape[self.across], self.group))
        return mul(product(shape[: self.axis]), ceildiv(shape[self.axis], self.group))


def split_piece(piece: Piece, dtype: DType, target: TargetDescription) -> PieceSplit:
    """Choose the units of a piece: about `_UNIT_ELEMENTS` elements each."""
    across = transposed_axis(piece, tile_edge(dtype, target))
    if across is not None:
        last = piece.shape[-1]
        edge = tile_edge(dtype, target)
        bands = max(1, _UNIT_ELEMENTS // (edge * last)) if isinstance(last, int) else 1
        return PieceSplit(piece=piece, axis=0, group=edge * bands, across=across)
    width = 1
    for axis in range(len(piece.shape) - 1, -1, -1):
        extent = piece.shape[axis]
        if axis == 0 or not isinstance(extent, int) or width * extent >= 2 * _UNIT_ELEMENTS:
            return PieceSplit(piece=piece, axis=axis, group=max(1, _UNIT_ELEMENTS // width), across=None)
        if width * extent >= _UNIT_ELEMENTS // 2:
            return PieceSplit(piece=piece, axis=axis, group=extent, across=None)
        width *= max(extent, 1)
    raise AssertionError("a merged piece has at least one axis")


def tile_edge(dtype: DType, target: TargetDescription) -> int:
    """Rows and columns of a tile that is transposed in registers."""
    return min(TILE_LANES, target.lanes(dtype))


class PieceEmitter:
    """Emits the copy of one piece."""

    def __init__(self, call: KernelCall, split: PieceSplit, dtype: DType, fill: Value | None) -> None:
        self._call, self._split, self._dtype, self._fill = call, split, bits_of(dtype), fill
        piece = split.piece
        dim = call.dim
        self._shape = tuple(dim(e) for e in piece.shape)
        self._write = call.output_pointers[piece.destination.operand]
        self._destination = self._side(piece.destination)
        self._read: Pointer | None = None
        self._source: tuple[Index, tuple[Index, ...]] = (0, (0,) * len(piece.shape))
        if piece.source is not None:
            self._read = call.input_pointers[piece.source.operand]
            self._source = self._side(piece.source)

    def _side(self, side: Side) -> tuple[Index, tuple[Index, ...]]:
        return self._call.dim(side.offset), tuple(self._call.dim(s) for s in side.strides)

    def emit(self, begin: Index, end: Index) -> None:
        """Emit units `[begin, end)` of this piece."""
        if self._split.across is not None:
            self._emit_transpose(begin, end, self._split.across)
        else:
            self._emit_nest(begin, end)

    def _emit_nest(self, begin: Index, end: Index) -> None:
        b, axis, group = self._call.builder, self._split.axis, self._split.group
        extent = self._shape[axis]
        groups = b.index(self._call.dim(ceildiv(self._split.piece.shape[axis], group)))
        with b.range(begin, end) as unit:
            value = b.index(unit)
            first = (value % groups) * group
            count = b.minimum(b.index(extent) - first, group)
            outer = unflatten(b, value // groups, self._shape[:axis])
            if isinstance(extent, int) and extent <= group:
                outer, first, count = unflatten(b, value, self._shape[:axis]), b.index(0), extent  # type: ignore[assignment]
            source = _walk(_walk_all(self._source, outer), first, self._source[1][axis])
            destination = _walk(_walk_all(self._destination, outer), first, self._destination[1][axis])
            self._axis(axis, source, destination, count)

    def _axis(self, axis: int, source: Index, destination: Index, count: Index) -> None:
        if axis == len(self._shape) - 1:
            self._row(source, destination, count)
            return
        following = self._shape[axis + 1]
        with self._call.builder.range(0, count) as i:
            self._axis(
                axis + 1,
                _walk(source, i, self._source[1][axis]),
                _walk(destination, i, self._destination[1][axis]),
                following,
            )

    def _row(self, source: Index, destination: Index, count: Index) -> None:
        b, target = self._call.builder, self._call.target
        step, stride = self._source[1][-1], self._destination[1][-1]
        if self._fill is None and step == 0 and self._read is not None:
            value: Value | None = b.load(self._read, self._dtype, source)
        else:
            value = self._fill
        if stride == 1 and value is not None:
            fill_run(b, target, value, (self._write, destination), count)
        elif stride == 1 and step == 1 and self._read is not None:
            copy_run(b, target, self._dtype, (self._read, source), (self._write, destination), count)
        elif stride == 1 and self._read is not None:
            self._gather_row(self._read, source, step, destination, count)
        else:
            self._strided_row(value, source, destination, count)

    def _gather_row(
        self, read: Pointer, source: Index, step: Index, destination: Index, count: Index
    ) -> None:
        """Strided reads collected into vectors, so that writes stay wide."""
        b = self._call.builder

        def body(i: Index, lanes: int) -> None:
            first = _walk(source, i, step)
            vector = b.load(read, self._dtype, first)
            if lanes > 1:
                vector = b.insert(b.const(self._dtype, 0, lanes), vector, 0)
            for lane in range(1, lanes):
                vector = b.insert(vector, b.load(read, self._dtype, _walk(first, lane, step)), lane)
            b.store(vector, self._write, _walk(destination, i, 1))

        each_lane_group(b, count, min(_GATHER_LANES, self._call.target.lanes(self._dtype)), body)

    def _strided_row(self, value: Value | None, source: Index, destination: Index, count: Index) -> None:
        b = self._call.builder
        with b.range(0, count) as i:
            element = value
            if element is None and self._read is not None:
                element = b.load(self._read, self._dtype, _walk(source, i, self._source[1][-1]))
            if element is not None:
                b.store(element, self._write, _walk(destination, i, self._destination[1][-1]))

    def _emit_transpose(self, begin: Index, end: Index, across: int) -> None:
        b, group = self._call.builder, self._split.group
        kept = [i for i in range(len(self._shape) - 1) if i != across]
        groups = b.index(self._call.dim(ceildiv(self._split.piece.shape[across], group)))
        assert self._read is not None
        with b.range(begin, end) as unit:
            value = b.index(unit)
            first = (value % groups) * group
            count = b.minimum(b.index(self._shape[across]) - first, group)
            outer = unflatten(b, value // groups, [self._shape[i] for i in kept])
            source, destination = self._source[0], self._destination[0]
            for axis, index in zip(kept, outer, strict=True):
                source = _walk(source, index, self._source[1][axis])
                destination = _walk(destination, index, self._destination[1][axis])
            emit_tile(
                b,
                edge=tile_edge(self._dtype, self._call.target),
                dtype=self._dtype,
                read=b.offset(self._read, self._dtype, _walk(source, first, 1)),
                write=b.offset(
                    self._write, self._dtype, _walk(destination, first, self._destination[1][across])
                ),
                read_stride=self._source[1][-1],
                write_stride=self._destination[1][across],
                rows=count,
                columns=self._shape[-1],
            )


def _walk(position: Index, index: Index, stride: Index) -> Index:
    if isinstance(stride, int) and stride == 0:
        return position
    return index * stride + position


def _walk_all(side: tuple[Index, tuple[Index, ...]], indices: tuple[Index, ...]) -> Index:
    position, strides = side
    for index, stride in zip(indices, strides, strict=False):
        position = _walk(position, index, stride)
    return position


class CopyKernel:
    """Native code of operations that are a list of pieces; the units of the pieces follow each other.

    Args:
        pieces: the pieces of a step.
        fill: the scalar that pieces without a source write, as bits of the output type; None where every
            piece has a source.
    """

    def __init__(
        self,
        pieces: Callable[[StepSignature], tuple[Piece, ...]],
        fill: Callable[[KernelCall], Value] | None = None,
    ) -> None:
        self._pieces, self._fill = pieces, fill

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """The units of all pieces, one after the other."""
        units: Dim = 0
        for split in self._splits(signature, target):
            units = add(units, split.units)
        return Work(units=units, unit_cost=_UNIT_ELEMENTS / 8)

    def emit(self, call: KernelCall) -> None:
        """One loop nest for each piece, over its share of the units."""
        b = call.builder
        fill = None if self._fill is None else self._fill(call)
        dtype = call.signature.outputs[0].dtype
        start: Dim = 0
        emitters = []
        for split in self._splits(call.signature, call.target):
            low, high = call.dim(start), call.dim(add(start, split.units))
            emitters.append(
                (PieceEmitter(call, split, dtype, fill if split.piece.source is None else None), low, high)
            )
            start = add(start, split.units)
            call.dim(
                ceildiv(split.piece.shape[split.axis if split.across is None else split.across], split.group)
            )
        for emitter, low, high in emitters:
            first, last = b.maximum(b.index(call.begin), low), b.minimum(b.index(call.end), high)
            emitter.emit(first - low, last - low)

    def _splits(self, signature: StepSignature, target: TargetDescription) -> list[PieceSplit]:
        dtype = bits_of(signature.outputs[0].dtype)
        merged = [merge(p) for p in self._pieces(signature) if not is_empty(p)]
        return [split_piece(p, dtype, target) for p in merged]
