"""Native code of sliding windows within a channel block: depthwise convolution, maximum and average.

A unit is one output row of one channel block. A row is cut into pieces of a few pixels whose inputs are read
once into registers; taps are visited row by row, left to right, for every pixel alike.
"""

from __future__ import annotations

from typing import Any

from plumbline.contracts.dims import mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, Packed
from plumbline.kernels.blocked.image import image_input, image_output, images, static_extents
from plumbline.kernels.blocked.operands import BlockedOperands
from plumbline.kernels.contract import AttributeRefused, KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import Index, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tile import even_split
from plumbline.kernels.pointwise.epilogue import parse_epilogue
from plumbline.kernels.pointwise.expression import cost_of

__all__ = ["DepthwiseKernel", "PoolBlockedKernel"]

FLOAT = DType.FLOAT32
RESIDENT_TAPS = 9
"""Depthwise weights up to this many taps stay in registers for a whole row."""


class _WindowKernel:
    """What the kernels of this module share."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """Units: images x blocks x rows."""
        c, h, w = static_extents(signature.outputs[0], signature.operation)
        blocks = -(-c // target.float_lanes)
        kh, kw = signature.attributes["kernel"]
        cost = w * (kh * kw + 2.0 + cost_of(parse_epilogue(signature.attributes.get("epilogue", ())))) * 2
        return Work(units=mul(images(signature), blocks * h), unit_cost=cost)


class DepthwiseKernel(_WindowKernel):
    """Convolution of every channel with its own kernel."""

    def emit(self, call: KernelCall) -> None:
        """Rows of a block; few weights are kept in registers."""
        _Window(call, "depthwise").emit()


class PoolBlockedKernel(_WindowKernel):
    """Maximum or average over windows, by `mode`: `max` or `average`.

    Windows that leave the image count only the pixels inside, unless `include_pad`.
    """

    def emit(self, call: KernelCall) -> None:
        """Rows of a block; windows are clamped to the image where the halo is no neutral element."""
        mode = call.attributes["mode"]
        if mode not in ("max", "average"):
            raise AttributeRefused(
                operation="pool_blocked", attribute="mode", value=str(mode), reason="expected max or average"
            )
        _Window(call, mode).emit()


class _Window:
    def __init__(self, call: KernelCall, mode: str) -> None:
        self.call, self.b, self.mode = call, call.builder, mode
        self.x, self.y = image_input(call, 0), image_output(call)
        a = call.attributes
        self.kh, self.kw = (int(k) for k in a["kernel"])
        self.sh, self.sw = (int(s) for s in a["strides"])
        self.dh, self.dw = (int(d) for d in a["dilations"])
        self.top, self.left = a["pads"][0], a["pads"][1]
        self.program = parse_epilogue(a.get("epilogue", ()))
        self.lanes = self.y.lanes
        self.clamped = mode != "depthwise" and not a.get("halo_is_neutral", False)
        self.weights: Pointer | None = None
        first_operand = 1
        if mode == "depthwise":
            weights = call.signature.inputs[1]
            if weights is None or not isinstance(weights.layout, Packed):
                raise ShapeRefused(operation="depthwise_blocked", reason="weights must be packed")
            self.weights = call.input_pointers[1]
            first_operand = 2
        self.operands = BlockedOperands.of(call, first_operand)

    def emit(self) -> None:
        b, y = self.b, self.y
        with b.range(self.call.begin, self.call.end) as unit:
            u = b.index(unit)
            row, rest = u % y.height, u / y.height
            block, image = rest % y.blocks, rest / y.blocks
            self._row(image, block, row)

    def _row(self, image: Value, block: Value, row: Value) -> None:
        b, x, y = self.b, self.x, self.y
        target = y.plane(b, image, block)
        start = target + row * y.row_stride
        loaded = self.operands.per_block(image, block, (y.height, y.width))
        taps = self._resident_weights(block)
        if self.clamped:
            self._clamped_row(x.plane(b, image, block), row, start, image, block, loaded)
        else:
            source = x.plane(b, image, block) + (row * self.sh + -self.top) * x.row_stride
            source = source + -self.left * self.lanes
            split = even_split(y.width, self._pixels())
            first = 0
            for size, count in (
                (split.large, split.large_count),
                (split.large - 1, split.count - split.large_count),
            ):
                if count == 0:
                    continue
                with b.range(0, count) as piece:
                    column = b.index(piece) * size + first
                    self._piece(source, start, column, size, block, taps, loaded, image, row)
                first += size * count
        y.zero_halo(b, target, row, 1)

    def _pixels(self) -> int:
        """Pixels of a piece: accumulators, a row of inputs and resident weights must fit the registers."""
        registers = int(self.call.target.vector_registers)
        resident = min(self.kh * self.kw, RESIDENT_TAPS) if self.mode == "depthwise" else 0
        span = self.sw if self.kw > 1 else 1
        return max(1, min(14, (registers - resident - self.kw - 2) // (1 + span)))

    def _resident_weights(self, block: Value) -> list[Value] | None:
        if self.mode != "depthwise" or self.kh * self.kw > RESIDENT_TAPS:
            return None
        return [self._weight(block, tap) for tap in range(self.kh * self.kw)]

    def _weight(self, block: Value, tap: int) -> Value:
        if self.weights is None:
            raise ShapeRefused(operation="depthwise_blocked", reason="weights are missing")
        place = block * (self.kh * self.kw * self.lanes) + tap * self.lanes
        return self.b.load(self.weights, FLOAT, place, lanes=self.lanes, align=4 * self.lanes)

    def _piece(
        self, source: Value, start: Value, column: Value, size: int, block: Value, taps: list[Value] | None,
        loaded: list[Value | None], image: Value, row: Value,
    ) -> None:  # fmt: skip
        b, lanes = self.b, self.lanes
        origin = source + column * (self.sw * lanes)
        accumulators: list[Value | None] = [None] * size
        for ky in range(self.kh):
            read: dict[int, Value] = {}
            for kx in range(self.kw):
                weight = None
                if self.mode == "depthwise":
                    weight = (
                        taps[ky * self.kw + kx]
                        if taps is not None
                        else self._weight(block, ky * self.kw + kx)
                    )
                for pixel in range(size):
                    offset = pixel * self.sw + kx * self.dw
                    if offset not in read:
                        place = origin + (ky * self.dh * self.x.row_stride + offset * lanes)
                        read[offset] = b.load(self.x.pointer, FLOAT, place, lanes=lanes, align=4 * lanes)
                    accumulators[pixel] = self._combine(accumulators[pixel], read[offset], weight)
        for pixel, value in enumerate(accumulators):
            if value is None:
                continue
            if self.mode == "average":
                value = value * (1.0 / (self.kh * self.kw))
            self._store(value, start, column + pixel, loaded, image, block, row)

    def _combine(self, accumulator: Value | None, value: Value, weight: Value | None) -> Value:
        b = self.b
        if weight is not None:
            return value * weight if accumulator is None else b.fma(value, weight, accumulator)
        if accumulator is None:
            return value
        return b.maximum(accumulator, value) if self.mode == "max" else accumulator + value

    def _store(
        self, value: Value, start: Value, column: Value, loaded: list[Value | None],
        image: Value, block: Value, row: Value,
    ) -> None:  # fmt: skip
        starts = self.operands.starts(image, block, row, column)
        result = self.operands.apply(self.program, value, loaded, starts)
        self.b.store(result, self.y.pointer, start + column * self.lanes, align=4 * self.lanes)

    # -- windows that leave the image ------------------------------------------------------------------------

    def _clamped_row(
        self, plane: Value, row: Value, start: Value, image: Value, block: Value, loaded: list[Value | None]
    ) -> None:
        """Every pixel visits the taps inside the image only, in the same order."""
        b, x = self.b, self.x
        y0 = row * self.sh + -self.top
        low_y, high_y = self._inside(y0, self.kh, self.dh, x.height)
        with b.range(0, self.y.width) as column:
            x0 = b.index(column) * self.sw + -self.left
            low_x, high_x = self._inside(x0, self.kw, self.dw, x.width)
            first = float("-inf") if self.mode == "max" else 0.0
            initial = b.const(FLOAT, first, self.lanes)

            def visit_row(
                ky: Index, carried: list[Value], x0: Value = x0, lo: Value = low_x, hi: Value = high_x
            ) -> Any:
                line = plane + (y0 + ky * self.dh) * x.row_stride

                def visit(kx: Index, inner: list[Value]) -> list[Value]:
                    place = line + (x0 + kx * self.dw) * self.lanes
                    value = b.load(x.pointer, FLOAT, place, lanes=self.lanes)
                    return [self._combine(inner[0], value, None)]

                return b.reduce(lo, hi, carried, visit)

            result = b.reduce(low_y, high_y, [initial], visit_row)[0]
            if self.mode == "average":
                result = result / self._divisor(low_y, high_y, low_x, high_x, y0, x0)
            self._store(result, start, b.index(column), loaded, image, block, row)

    def _inside(self, origin: Value, taps: int, dilation: int, extent: int) -> tuple[Value, Value]:
        """First tap inside the image and one past the last."""
        b = self.b
        before = b.maximum(b.neg(origin) + (dilation - 1), 0)
        low = b.minimum(b.div(before, dilation), taps)
        after = b.maximum(b.index(extent) - origin + (dilation - 1), 0)
        return low, b.maximum(b.minimum(b.div(after, dilation), taps), low)

    def _divisor(
        self, low_y: Value, high_y: Value, low_x: Value, high_x: Value, y0: Value, x0: Value
    ) -> Value:
        b = self.b
        if self.call.attributes.get("include_pad", False):
            pads = self.call.attributes["pads"]
            low_y, high_y = self._inside(y0 + pads[0], self.kh, self.dh, self.x.height + pads[0] + pads[2])
            low_x, high_x = self._inside(x0 + pads[1], self.kw, self.dw, self.x.width + pads[1] + pads[3])
        count = b.maximum((high_y - low_y) * (high_x - low_x), 1)
        return b.splat(b.cast(count, FLOAT), self.lanes)
