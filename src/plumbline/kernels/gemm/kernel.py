"""Native code of `packed_gemm`.

A unit is one register tile: some rows times one panel of columns. Units of one panel follow each other, so
that its weights stay in cache. Row counts that are known are split evenly; others pick the tile of the right
height at run time.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.dims import Dim, ceildiv, mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, Packed
from plumbline.kernels.contract import DTypeRefused, KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value, is_value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tile import Reduction, accumulate, even_split, widest_rows
from plumbline.kernels.gemm.packing import PanelLayout
from plumbline.kernels.pointwise.epilogue import (
    Access,
    EpilogueOperand,
    apply,
    epilogue_access,
    is_heavy,
    parse_epilogue,
)
from plumbline.kernels.pointwise.expression import Instruction, emit_program

__all__ = ["PackedGemmKernel", "choose_vectors"]

FLOAT = DType.FLOAT32
UNROLL = 4
NEAR_BYTES = 600_000
"""Weights up to this size stay near enough to the core that asking for them early only costs load slots."""
FLOPS_PER_COST = 6.0
"""A vector core does about this many floating-point operations of a tile in the time of one unit of cost."""


def choose_vectors(rows: Dim, n: int, target: TargetDescription) -> int:
    """Vectors of a panel: few rows want many vectors, to keep the multiply-add units busy."""
    lanes = target.float_lanes
    needed = -(-n // lanes)
    if isinstance(rows, int) and rows <= 4:
        widest = max(1, (target.vector_registers - 2) // (rows + 1))
        preferred = min(8, widest)
    else:
        preferred = target.tiles[0][1]
    return max(1, min(preferred, needed))


class PackedGemmKernel:
    """Register tiles over packed panels."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """Units: tiles of rows x panels."""
        panel = _panel(signature)
        rows = _rows(signature)
        height = _height(panel, target)
        tiles = ceildiv(rows, height)
        depth = min(height, rows) if isinstance(rows, int) else height
        return Work(
            units=mul(tiles, panel.panels), unit_cost=2.0 * depth * panel.width * panel.k / FLOPS_PER_COST
        )

    def emit(self, call: KernelCall) -> None:
        """Loop over units; find panel and rows of each."""
        _Emitter(call).emit()


def _panel(signature: StepSignature) -> PanelLayout:
    weights = signature.inputs[1]
    if weights is None or not isinstance(weights.layout, Packed) or weights.layout.scheme != "gemm":
        raise DTypeRefused(operation="packed_gemm", dtype="weights", needed="weights in a gemm packed layout")
    return PanelLayout.of(weights.layout)


def _rows(signature: StepSignature) -> Dim:
    a = signature.inputs[0]
    return product(a.shape[:-1]) if a is not None else 0


def _height(panel: PanelLayout, target: TargetDescription) -> int:
    return widest_rows(panel.vectors, target.vector_registers, target.spare_registers)


class _Emitter:
    def __init__(self, call: KernelCall) -> None:
        self.call, self.b, self.target = call, call.builder, call.target
        self.panel = _panel(call.signature)
        self.rows = call.dim(_rows(call.signature))
        self.height = _height(self.panel, call.target)
        self.program = parse_epilogue(call.attributes.get("epilogue", ()))
        self.operands = self._epilogue_operands()
        pointers = call.input_pointers
        self.a, self.w = _present(pointers[0]), _present(pointers[1])
        self.y = call.output_pointers[0]

    def _epilogue_operands(self) -> list[EpilogueOperand]:
        found = []
        output = self.call.signature.outputs[0]
        for pointer, type_ in zip(self.call.input_pointers[2:], self.call.signature.inputs[2:], strict=True):
            if pointer is None or type_ is None:
                continue
            access = epilogue_access(type_, output, self.panel.n)
            if access is None:
                raise DTypeRefused(
                    operation="packed_gemm", dtype=str(type_), needed="an operand like y, [N] or one number"
                )
            found.append(EpilogueOperand(access=access, pointer=pointer))
        return found

    def emit(self) -> None:
        b = self.b
        rows = b.index(self.rows)
        tiles = b.div(rows + (self.height - 1), self.height)
        with b.range(self.call.begin, self.call.end) as unit:
            unit_value = b.index(unit)
            panel, tile = unit_value / tiles, unit_value % tiles
            if self.panel.tail_columns == 0:
                self._panel_tile(panel, tile, tiles, self.panel.vectors, None)
            elif self.panel.whole_panels == 0:
                self._panel_tile(panel, tile, tiles, self.panel.tail_vectors, self.panel.tail_columns)
            else:
                is_tail = b.compare("eq", panel, self.panel.whole_panels)
                with b.when(~is_tail):
                    self._panel_tile(panel, tile, tiles, self.panel.vectors, None)
                with b.when(is_tail):
                    self._panel_tile(panel, tile, tiles, self.panel.tail_vectors, self.panel.tail_columns)

    def _panel_tile(self, panel: Value, tile: Value, tiles: Value, vectors: int, columns: int | None) -> None:
        """One tile of known width: pick the code of its height."""
        b = self.b
        if not is_value(self.rows) and isinstance(self.rows, int):
            if self.rows == 0:
                return
            split = even_split(self.rows, self.height)
            first = b.minimum(tile, split.large_count) * split.large + b.maximum(
                tile - split.large_count, 0
            ) * (split.large - 1)
            if len(split.sizes) == 1:
                self._tile(split.large, first, panel, vectors, columns)
                return
            is_large = tile < split.large_count
            with b.when(is_large):
                self._tile(split.large, first, panel, vectors, columns)
            with b.when(~is_large):
                self._tile(split.large - 1, first, panel, vectors, columns)
            return
        rows = b.index(self.rows)
        first = rows * tile / tiles
        height = rows * (tile + 1) / tiles - first
        for candidate in range(1, self.height + 1):
            with b.when(b.compare("eq", height, candidate)):
                self._tile(candidate, first, panel, vectors, columns)

    def _tile(self, height: int, first: Value, panel: Value, vectors: int, columns: int | None) -> None:
        b, k, lanes = self.b, self.panel.k, self.panel.lanes
        source = b.offset(self.a, FLOAT, first * k)
        weights = b.offset(self.w, FLOAT, panel * (k * self.panel.width))
        offsets = [row * k for row in range(height)]
        whole = k // UNROLL
        accumulators: list[Value] | None = None
        if whole:
            accumulators = accumulate(
                b, lanes=lanes, vectors=vectors,
                input_pointer=source, row_offsets=offsets, weight_pointer=weights,
                loops=[Reduction(extent=whole, input_stride=UNROLL, weight_stride=UNROLL * vectors * lanes)],
                inner=range(UNROLL), prefetch=4 * self.panel.elements > NEAR_BYTES or height > 2,
            )  # fmt: skip
        if k % UNROLL or accumulators is None:
            rest = range(k % UNROLL)
            accumulators = accumulate(
                b, lanes=lanes, vectors=vectors,
                input_pointer=b.offset(source, FLOAT, whole * UNROLL), row_offsets=offsets,
                weight_pointer=b.offset(weights, FLOAT, whole * UNROLL * vectors * lanes),
                loops=[], inner=rest, initial=accumulators, prefetch=False,
            )  # fmt: skip
        self._store(accumulators, height, first, panel * self.panel.width, vectors, columns)

    def _store(
        self,
        accumulators: Sequence[Value],
        height: int,
        first: Value,
        column: Value,
        vectors: int,
        columns: int | None,
    ) -> None:
        n, lanes = self.panel.n, self.panel.lanes
        heavy = is_heavy(self.program)
        base = first * n + column
        for row in range(height):
            for j in range(vectors):
                value = accumulators[row * vectors + j]
                place = base + (row * n + j * lanes)
                valid = lanes if columns is None else min(lanes, columns - j * lanes)
                if not heavy:
                    value = self._finish(value, place, column + j * lanes, valid)
                self._write(value, place, valid)
        if heavy:
            self._finish_stored(height, base, column, vectors, columns)

    def _finish_stored(
        self, height: int, base: Value, column: Value, vectors: int, columns: int | None
    ) -> None:
        """Run a heavy epilogue over the tile that was just stored: it is in the first-level cache."""
        b, n, lanes = self.b, self.panel.n, self.panel.lanes
        with b.range(0, height) as row:
            for j in range(vectors):
                valid = lanes if columns is None else min(lanes, columns - j * lanes)
                place = base + (b.index(row) * n + j * lanes)
                value = self._read(self.y, place, valid)
                self._write(self._finish(value, place, column + j * lanes, valid), place, valid)

    def _finish(self, value: Value, place: Value, column: Value, valid: int) -> Value:
        if valid == self.panel.lanes:
            return apply(self.b, self.program, value, self.operands, [place] * len(self.operands), column)
        loaded = [self._masked_operand(o, place, column, valid) for o in self.operands]
        return _run(self.b, self.program, value, loaded)

    def _masked_operand(self, operand: EpilogueOperand, place: Value, column: Value, valid: int) -> Value:
        if operand.access is Access.SCALAR:
            return self.b.splat(self.b.load(operand.pointer, FLOAT), self.panel.lanes)
        return self._read(operand.pointer, place if operand.access is Access.FULL else column, valid)

    def _read(self, pointer: Pointer, place: Index, valid: int) -> Value:
        lanes = self.panel.lanes
        if valid == lanes:
            return self.b.load(pointer, FLOAT, place, lanes=lanes)
        return self.b.load_partial(pointer, FLOAT, place, lanes=lanes, valid=valid)

    def _write(self, value: Value, place: Index, valid: int) -> None:
        if valid == self.panel.lanes:
            self.b.store(value, self.y, place)
        else:
            self.b.store_partial(value, self.y, place, valid=valid)


def _run(b: FunctionBuilder, program: Sequence[Instruction], value: Value, loaded: Sequence[Value]) -> Value:
    if not program:
        return value
    return emit_program(b, program, [(v, FLOAT) for v in (value, *loaded)])[0]


def _present(pointer: Pointer | None) -> Pointer:
    if pointer is None:
        raise DTypeRefused(operation="packed_gemm", dtype="none", needed="both matrices")
    return pointer
