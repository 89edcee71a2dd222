"""Native code of `conv_blocked`: implicit matrix products on blocked images.

A unit is one pixel tile times one panel of output channels. Units walk either all tiles of a panel (large
weights: the panel stays in cache) or all panels of a tile (small weights: the pixels stay in cache).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plumbline.contracts.dims import mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import ROW_MAJOR, DType, Packed, TensorType
from plumbline.kernels.blocked.image import BlockedImage, image_output, images, static_extents
from plumbline.kernels.blocked.operands import BlockedOperands
from plumbline.kernels.blocked.tiling import Tiling, choose_grid, choose_tiling
from plumbline.kernels.contract import DTypeRefused, KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tile import Reduction, Split, accumulate
from plumbline.kernels.pointwise.epilogue import is_heavy, parse_epilogue

__all__ = ["ConvBlockedKernel", "conv_tiling"]

FLOAT = DType.FLOAT32
UNROLL = 4
SMALL_WEIGHTS_BYTES = 400_000
FLOPS_PER_COST = 6.0


def is_flat(
    x: TensorType, y: TensorType, attributes: Mapping[str, Any], operands: Sequence[TensorType]
) -> bool:
    """Whether pixels can be walked as one long row: a 1x1 kernel, stride 1 and no halo anywhere."""
    kernel, strides = attributes["kernel"], attributes["strides"]
    plain = tuple(kernel) == (1, 1) and tuple(strides) == (1, 1) and x.layout != ROW_MAJOR
    images_ = [t for t in (x, y, *operands) if t.rank == 4 and t.layout != ROW_MAJOR]
    return plain and not any(any(getattr(t.layout, "halo", ())) for t in images_)


def conv_tiling(signature: StepSignature, target: TargetDescription) -> Tiling:
    """The tiling of a convolution whose weights are not packed yet."""
    x, y = signature.inputs[0], signature.outputs[0]
    if x is None:
        raise ShapeRefused(operation=signature.operation, reason="input 0 is missing")
    o, h, w = static_extents(y, signature.operation)
    operands = [t for t in signature.inputs[2:] if t is not None]
    if is_flat(x, y, signature.attributes, operands):
        h, w = 1, h * w
    return choose_tiling(h, w, -(-o // target.float_lanes), target)


class ConvBlockedKernel:
    """Convolution of a blocked (or, for few channels, row-major and padded) image."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """Units: images x panels x tiles."""
        plan = _Plan(signature, target)
        pixels = plan.h * plan.w / plan.grid.tiles
        flops = 2.0 * pixels * plan.panel_width * plan.c * plan.kh * plan.kw
        units = mul(images(signature), plan.panels * plan.grid.tiles)
        return Work(units=units, unit_cost=flops / FLOPS_PER_COST)

    def emit(self, call: KernelCall) -> None:
        """Loop over units."""
        _Emitter(call).emit()


class _Plan:
    """Numbers of one convolution."""

    def __init__(self, signature: StepSignature, target: TargetDescription) -> None:
        x, w = signature.inputs[0], signature.inputs[1]
        if x is None or w is None or not isinstance(w.layout, Packed):
            raise DTypeRefused(operation="conv_blocked", dtype=str(w), needed="an image and packed weights")
        self.planar = w.layout.scheme == "conv_planar"
        self.o, self.c, self.kh, self.kw, self.vectors, self.lanes = w.layout.parameters
        self.x_type, self.y_type = x, signature.outputs[0]
        _, self.h, self.w = static_extents(self.y_type, "conv_blocked")
        operands = [t for t in signature.inputs[2:] if t is not None]
        self.flat = is_flat(x, self.y_type, signature.attributes, operands)
        self.strides = tuple(signature.attributes["strides"])
        self.dilations = tuple(signature.attributes["dilations"])
        self.pads = tuple(signature.attributes["pads"])
        self.panel_width = self.vectors * self.lanes
        self.panels = -(-self.o // self.panel_width)
        h, w_ = (1, self.h * self.w) if self.flat else (self.h, self.w)
        self.grid = choose_grid(h, w_, self.vectors, target)

    @property
    def panel_elements(self) -> int:
        """Floats of one panel of weights."""
        return self.panel_width * self.c * self.kh * self.kw

    @property
    def panels_outside(self) -> bool:
        """Whether units walk all tiles of a panel before the next panel."""
        return 4 * self.panels * self.panel_elements > SMALL_WEIGHTS_BYTES


class _Emitter:
    def __init__(self, call: KernelCall) -> None:
        self.call, self.b = call, call.builder
        self.plan = _Plan(call.signature, call.target)
        self.y = image_output(call)
        self.program = parse_epilogue(call.attributes.get("epilogue", ()))
        self.heavy = is_heavy(self.program)
        self._read_input()
        self.operands = BlockedOperands.of(call, 2)

    def _read_input(self) -> None:
        p, call = self.plan, self.call
        pointer = call.input_pointers[0]
        if pointer is None:
            raise ShapeRefused(operation="conv_blocked", reason="input 0 is missing")
        self.x_pointer = pointer
        if p.planar:
            _, _, h, w = p.x_type.shape
            if not (isinstance(h, int) and isinstance(w, int)):
                raise ShapeRefused(operation="conv_blocked", reason="height and width must be known at build")
            self.pixel, self.row, self.block = 1, w, h * w
            self.image_stride, self.origin = p.c * h * w, 0
            return
        image = BlockedImage.of(pointer, p.x_type, "conv_blocked")
        self.pixel, self.row, self.block = image.lanes, image.row_stride, image.plane_stride
        self.image_stride = image.image_stride
        self.origin = image.origin - p.pads[0] * image.row_stride - p.pads[1] * image.lanes

    def emit(self) -> None:
        p, b = self.plan, self.b
        tiles = p.grid.tiles
        with b.range(self.call.begin, self.call.end) as unit:
            u = b.index(unit)
            image, rest = u / (p.panels * tiles), u % (p.panels * tiles)
            if p.panels_outside:
                panel, tile = rest / tiles, rest % tiles
            else:
                tile, panel = rest / p.panels, rest % p.panels
            row_piece, column_piece = tile / p.grid.columns.count, tile % p.grid.columns.count
            self._choose_rows(image, panel, row_piece, column_piece)

    def _choose_rows(self, image: Value, panel: Value, row_piece: Value, column_piece: Value) -> None:
        rows = self.plan.grid.rows
        self._cases(
            rows, row_piece, lambda size, y: self._choose_columns(image, panel, size, y, column_piece)
        )

    def _choose_columns(self, image: Value, panel: Value, rows: int, y: Index, piece: Value) -> None:
        columns = self.plan.grid.columns
        self._cases(columns, piece, lambda size, x: self._tile(image, panel, rows, y, size, x, piece))

    def _cases(self, split: Split, piece: Value, body: Callable[[int, Index], None]) -> None:
        """Call `body(size, first)` for the size of a piece."""
        b = self.b
        if len(split.sizes) == 1:
            body(split.large, piece * split.large)
            return
        is_large = piece < split.large_count
        with b.when(is_large):
            body(split.large, piece * split.large)
        with b.when(~is_large):
            first = piece * (split.large - 1) + split.large_count
            body(split.large - 1, first)

    def _tile(
        self, image: Value, panel: Value, rows: int, y: Index, columns: int, x: Index, piece: Value
    ) -> None:
        p, b = self.plan, self.b
        sh, sw = (1, 1) if p.flat else p.strides
        source = (
            b.index(image * self.image_stride + y * (sh * self.row) + x * (sw * self.pixel)) + self.origin
        )
        offsets = [r * sh * self.row + c * sw * self.pixel for r in range(rows) for c in range(columns)]
        accumulators = self._reduce(source, panel, offsets)
        self._finish(accumulators, image, panel, rows, y, columns, x)
        guard = None if p.grid.columns.count == 1 else b.compare("eq", piece, 0)
        if any(self.y.halo):
            for j in range(p.vectors):
                plane = self.y.plane(b, image, panel * p.vectors + j)
                self.y.zero_halo(b, plane, y, rows, guard=guard)

    def _reduce(self, source: Value, panel: Value, offsets: Sequence[int]) -> list[Value]:
        p, b = self.plan, self.b
        weights_pointer = self.call.input_pointers[1]
        if weights_pointer is None:
            raise ShapeRefused(operation="conv_blocked", reason="weights are missing")
        weights = b.offset(weights_pointer, FLOAT, panel * p.panel_elements)
        start = b.offset(self.x_pointer, FLOAT, source)
        width, taps = p.panel_width, p.kh * p.kw
        dh, dw = p.dilations[0] * self.row, p.dilations[1] * self.pixel
        common: dict[str, Any] = {"lanes": p.lanes, "vectors": p.vectors, "row_offsets": offsets}
        if p.planar:
            loops = [
                Reduction(extent=p.c, input_stride=self.block, weight_stride=taps * width),
                Reduction(extent=p.kh, input_stride=dh, weight_stride=p.kw * width),
            ]
            inner = [k * dw for k in range(p.kw)]
            return accumulate(
                b, input_pointer=start, weight_pointer=weights, loops=loops, inner=inner, **common
            )
        whole, tail = p.c // p.lanes, p.c % p.lanes
        accumulators: list[Value] | None = None
        if whole:
            unroll = min(UNROLL, p.lanes)
            loops = [
                Reduction(extent=whole, input_stride=self.block, weight_stride=taps * p.lanes * width),
                Reduction(extent=p.kh, input_stride=dh, weight_stride=p.kw * p.lanes * width),
                Reduction(extent=p.kw, input_stride=dw, weight_stride=p.lanes * width),
                Reduction(extent=p.lanes // unroll, input_stride=unroll, weight_stride=unroll * width),
            ]
            accumulators = accumulate(
                b, input_pointer=start, weight_pointer=weights, loops=loops, inner=range(unroll), **common
            )
        if tail:
            loops = [
                Reduction(extent=p.kh, input_stride=dh, weight_stride=p.kw * tail * width),
                Reduction(extent=p.kw, input_stride=dw, weight_stride=tail * width),
            ]
            accumulators = accumulate(
                b, input_pointer=b.offset(start, FLOAT, whole * self.block),
                weight_pointer=b.offset(weights, FLOAT, whole * taps * p.lanes * width), loops=loops,
                inner=range(tail), initial=accumulators, **common,
            )  # fmt: skip
        return accumulators or []

    def _finish(
        self,
        accumulators: Sequence[Value],
        image: Value,
        panel: Value,
        rows: int,
        y: Index,
        columns: int,
        x: Index,
    ) -> None:
        """Epilogue and stores; a heavy epilogue runs over the tile after it was stored."""
        p, b, extent = self.plan, self.b, (self.plan.h, self.plan.w)
        for j in range(p.vectors):
            block = panel * p.vectors + j
            target = self.y.pixel(b, image, block, y, x)
            starts = self.operands.starts(image, block, y, x)
            ready = self.operands.per_block(image, block, extent)
            for r in range(rows):
                for c in range(columns):
                    value = accumulators[(r * columns + c) * p.vectors + j]
                    if not self.heavy:
                        value = self.operands.apply(self.program, value, ready, starts, r, c)
                    place = target + (r * self.y.row_stride + c * p.lanes)
                    b.store(value, self.y.pointer, place, align=4 * p.lanes)
            if self.heavy:
                self._finish_stored(target, starts, ready, rows, columns)

    def _finish_stored(
        self,
        target: Value,
        starts: Sequence[Value | None],
        ready: Sequence[Value | None],
        rows: int,
        columns: int,
    ) -> None:
        """Run the epilogue over the tile that was just stored: it is in the first-level cache."""
        b, lanes = self.b, self.plan.lanes
        for r in range(rows):
            with b.range(0, columns) as c:
                place = target + (r * self.y.row_stride + b.index(c) * lanes)
                value = b.load(self.y.pointer, FLOAT, place, lanes=lanes)
                b.store(
                    self.operands.apply(self.program, value, ready, starts, r, b.index(c)),
                    self.y.pointer,
                    place,
                )
