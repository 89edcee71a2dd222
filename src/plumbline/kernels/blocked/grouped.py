"""Native code of `conv_grouped_blocked`: grouped convolution whose groups need not fill channel blocks.

The work is cut into entries: one output block and one group that has channels in it. An entry computes a
whole vector of outputs from the input channels of its group, which it finds by number, and stores only the
lanes of its group. So groups never meet in arithmetic (an infinity in one cannot reach another), and input
channels may come in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.contracts.dims import mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, Packed
from plumbline.kernels.blocked.image import image_input, image_output, images, static_extents
from plumbline.kernels.blocked.operands import BlockedOperands
from plumbline.kernels.blocked.tiling import PixelGrid, choose_grid
from plumbline.kernels.contract import DTypeRefused, KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import Index, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tile import Reduction, accumulate
from plumbline.kernels.pointwise.epilogue import parse_epilogue

__all__ = ["GroupEntry", "GroupedConvKernel", "group_entries"]

FLOAT = DType.FLOAT32
FLOPS_PER_COST = 6.0
HEADER = 2
"""Numbers before the channels of an entry: output block, lane mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEntry:
    """Lanes `[low, high)` of an output block, made from one group."""

    block: int
    group: int
    low: int
    high: int

    @property
    def mask(self) -> int:
        """One bit per lane."""
        return ((1 << self.high) - 1) & ~((1 << self.low) - 1)


def group_entries(outputs: int, groups: int, lanes: int) -> tuple[GroupEntry, ...]:
    """Every (block, group) that share channels. Lanes past the last channel belong to the last group."""
    size = outputs // groups
    blocks = -(-outputs // lanes)
    entries = []
    for group in range(groups):
        first, last = group * size, blocks * lanes if group == groups - 1 else (group + 1) * size
        for block in range(first // lanes, -(-last // lanes)):
            low, high = max(first - block * lanes, 0), min(last - block * lanes, lanes)
            entries.append(GroupEntry(block=block, group=group, low=low, high=high))
    return tuple(entries)


class GroupedConvKernel:
    """Units: images x entries x pixel tiles."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one tile of one entry."""
        plan = _Plan(signature, target)
        flops = 2.0 * plan.h * plan.w / plan.grid.tiles * target.float_lanes * plan.c * plan.kh * plan.kw
        units = mul(images(signature), plan.entries * plan.grid.tiles)
        return Work(units=units, unit_cost=flops / FLOPS_PER_COST)

    def emit(self, call: KernelCall) -> None:
        """Loop over units."""
        _Emitter(call).emit()


class _Plan:
    def __init__(self, signature: StepSignature, target: TargetDescription) -> None:
        w = signature.inputs[1]
        if w is None or not isinstance(w.layout, Packed) or w.layout.scheme != "conv_grouped":
            raise DTypeRefused(operation="conv_grouped_blocked", dtype=str(w), needed="packed weights")
        self.o, self.c, self.kh, self.kw, self.groups, self.lanes = w.layout.parameters
        _, self.h, self.w = static_extents(signature.outputs[0], "conv_grouped_blocked")
        self.entries = len(group_entries(self.o, self.groups, self.lanes))
        self.grid: PixelGrid = choose_grid(self.h, self.w, 1, target)


class _Emitter:
    def __init__(self, call: KernelCall) -> None:
        self.call, self.b = call, call.builder
        self.plan = _Plan(call.signature, call.target)
        self.x, self.y = image_input(call, 0), image_output(call)
        self.weights, self.table = _present(call.input_pointers[1]), _present(call.input_pointers[2])
        self.program = parse_epilogue(call.attributes.get("epilogue", ()))
        self.operands = BlockedOperands.of(call, 3)

    def emit(self) -> None:
        p, b = self.plan, self.b
        tiles, columns = p.grid.tiles, p.grid.columns.count
        with b.range(self.call.begin, self.call.end) as unit:
            u = b.index(unit)
            tile, rest = u % tiles, u / tiles
            entry, image = rest % p.entries, rest / p.entries
            row_piece, column_piece = tile / columns, tile % columns
            for rows, y in self._cases(p.grid.rows.sizes, p.grid.rows.large_count, row_piece):
                for count, x in self._cases(p.grid.columns.sizes, p.grid.columns.large_count, column_piece):
                    with b.when(y[1] & x[1]):
                        self._tile(image, entry, rows, y[0], count, x[0], column_piece)

    def _cases(
        self, sizes: tuple[int, ...], large_count: int, piece: Value
    ) -> list[tuple[int, tuple[Value, Value]]]:
        """(size, (first element, condition)) of each size that a piece may have."""
        b, large = self.b, sizes[0]
        if len(sizes) == 1:
            return [(large, (piece * large, b.const(DType.BOOL, True)))]
        is_large = piece < large_count
        return [
            (large, (piece * large, is_large)),
            (large - 1, (piece * (large - 1) + large_count, ~is_large)),
        ]

    def _tile(
        self, image: Value, entry: Value, rows: int, y: Index, columns: int, x: Index, piece: Value
    ) -> None:
        p, b = self.plan, self.b
        record = b.offset(self.table, DType.INT64, entry * (HEADER + p.c))
        block, mask = b.load(record, DType.INT64, 0), b.load(record, DType.INT64, 1)
        accumulators = self._reduce(image, entry, record, rows, y, columns, x)
        chosen = self._lane_mask(mask)
        plane, target = self.y.plane(b, image, block), self.y.pixel(b, image, block, y, x)
        starts = self.operands.starts(image, block, y, x)
        ready = self.operands.per_block(image, block, (p.h, p.w))
        for r in range(rows):
            for c in range(columns):
                value = self.operands.apply(self.program, accumulators[r * columns + c], ready, starts, r, c)
                place = target + (r * self.y.row_stride + c * p.lanes)
                b.masked_store(value, self.y.pointer, place, chosen)
        first = b.compare("ne", mask & 1, 0) & b.compare("eq", piece, 0)
        if any(self.y.halo):
            self.y.zero_halo(b, plane, y, rows, guard=first)

    def _reduce(
        self, image: Value, entry: Value, record: Pointer, rows: int, y: Index, columns: int, x: Index
    ) -> list[Value]:
        p, b, a = self.plan, self.b, self.call.attributes
        sh, sw = a["strides"]
        dh, dw = a["dilations"]
        origin = self.x.origin - a["pads"][0] * self.x.row_stride - a["pads"][1] * p.lanes
        at = image * self.x.image_stride + (y * (sh * self.x.row_stride) + x * (sw * p.lanes)) + origin
        source = b.offset(self.x.pointer, FLOAT, at)
        taps = p.kh * p.kw * p.lanes
        stream = b.offset(self.weights, FLOAT, entry * (p.c * taps))
        offsets = [r * sh * self.x.row_stride + c * sw * p.lanes for r in range(rows) for c in range(columns)]
        loops = [
            Reduction(extent=p.kh, input_stride=dh * self.x.row_stride, weight_stride=p.kw * p.lanes),
            Reduction(extent=p.kw, input_stride=dw * p.lanes, weight_stride=p.lanes),
        ]
        zero = [b.const(FLOAT, 0.0, p.lanes)] * len(offsets)

        def channel(k: Index, carried: list[Value]) -> list[Value]:
            number = b.load(record, DType.INT64, b.index(k) + HEADER)
            shift = number / p.lanes * self.x.plane_stride + number % p.lanes
            return accumulate(
                b,
                lanes=p.lanes,
                vectors=1,
                input_pointer=b.offset(source, FLOAT, shift),
                row_offsets=offsets,
                weight_pointer=b.offset(stream, FLOAT, b.index(k) * taps),
                loops=loops,
                inner=[0],
                initial=carried,
                prefetch=False,
            )

        return b.reduce(0, p.c, zero, channel)

    def _lane_mask(self, mask: Value) -> Value:
        """Bits as a vector of bools."""
        b, lanes = self.b, self.plan.lanes
        bits = Value(
            b, "<" + ", ".join(f"i64 {1 << lane}" for lane in range(lanes)) + ">", DType.INT64, lanes
        )
        return b.compare("ne", b.splat(mask, lanes) & bits, 0)


def _present(pointer: Pointer | None) -> Pointer:
    if pointer is None:
        raise ShapeRefused(operation="conv_grouped_blocked", reason="an operand is missing")
    return pointer
