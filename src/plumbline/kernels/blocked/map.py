"""Native code of pointwise programs, layout changes and global means on blocked images."""

from __future__ import annotations

from plumbline.contracts.dims import mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import Blocked, DType
from plumbline.kernels.blocked.image import BlockedImage, image_input, image_output, images, static_extents
from plumbline.kernels.blocked.operands import BlockedOperands
from plumbline.kernels.contract import KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.pointwise.epilogue import parse_epilogue
from plumbline.kernels.pointwise.expression import cost_of

__all__ = ["BlockKernel", "ConcatBlockedKernel", "GlobalMeanKernel", "MapBlockedKernel", "UnblockKernel"]

FLOAT = DType.FLOAT32


def _row_work(signature: StepSignature, target: TargetDescription, cost: float, image: int = 0) -> Work:
    """Units: images x blocks x rows of the image that is walked."""
    type_ = (
        signature.outputs[0] if isinstance(signature.outputs[0].layout, Blocked) else signature.inputs[image]
    )
    if type_ is None:
        raise ShapeRefused(operation=signature.operation, reason="no image operand")
    c, h, w = static_extents(type_, signature.operation)
    return Work(units=mul(images(signature), -(-c // target.float_lanes) * h), unit_cost=max(w, 1) * cost)


class MapBlockedKernel:
    """A pointwise program over blocked images, per-channel vectors and numbers (attribute `program`)."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of a block."""
        return _row_work(signature, target, 4.0 + cost_of(parse_epilogue(signature.attributes["program"])))

    def emit(self, call: KernelCall) -> None:
        """Row by row."""
        b, y = call.builder, image_output(call)
        program = parse_epilogue(call.attributes["program"])
        operands = BlockedOperands.of(call, 0)
        with b.range(call.begin, call.end) as unit:
            u = b.index(unit)
            row, rest = u % y.height, u / y.height
            block, image = rest % y.blocks, rest / y.blocks
            starts = operands.starts(image, block, row, 0)
            ready = operands.per_block(image, block, (y.height, y.width))
            plane = y.plane(b, image, block)
            start = plane + row * y.row_stride
            with b.range(0, y.width) as column:
                at = b.index(column)
                value = operands.apply(program, None, ready, starts, 0, at)
                b.store(value, y.pointer, start + at * y.lanes)
            y.zero_halo(b, plane, row, 1)


class BlockKernel:
    """Row-major [N, C, H, W] into a blocked image; channels past C are zero."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of a block."""
        return _row_work(signature, target, target.float_lanes * 1.5)

    def emit(self, call: KernelCall) -> None:
        """Gather the channels of each pixel."""
        b, x, y = call.builder, call.input(0), image_output(call)
        with b.range(call.begin, call.end) as unit:
            u = b.index(unit)
            row, rest = u % y.height, u / y.height
            block, image = rest % y.blocks, rest / y.blocks
            plane = y.plane(b, image, block)
            start = plane + row * y.row_stride
            whole, tail = divmod(y.channels, y.lanes)
            if whole:
                with b.when(block < whole):
                    self._row(call, x, y, image, block, row, start, y.lanes)
            if tail:
                with b.when(b.compare("eq", block, whole)):
                    self._row(call, x, y, image, block, row, start, tail)
            y.zero_halo(b, plane, row, 1)

    def _row(
        self, call: KernelCall, x: TensorRef, y: BlockedImage,
        image: Value, block: Value, row: Value, start: Value, channels: int,
    ) -> None:  # fmt: skip
        b = call.builder
        first = x.offset([image, block * y.lanes, row, 0])
        with b.range(0, y.width) as column:
            vector = b.const(FLOAT, 0.0, y.lanes)
            for lane in range(channels):
                vector = b.insert(vector, x.load_flat(column + (first + lane * y.height * y.width)), lane)
            b.store(vector, y.pointer, start + b.index(column) * y.lanes)


class UnblockKernel:
    """A blocked image into row-major [N, C, H, W]."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of a block."""
        return _row_work(signature, target, target.float_lanes * 1.5)

    def emit(self, call: KernelCall) -> None:
        """Scatter the channels of each pixel."""
        b, x, y = call.builder, image_input(call, 0), call.output()
        with b.range(call.begin, call.end) as unit:
            u = b.index(unit)
            row, rest = u % x.height, u / x.height
            block, image = rest % x.blocks, rest / x.blocks
            start = x.plane(b, image, block) + row * x.row_stride
            whole, tail = divmod(x.channels, x.lanes)
            if whole:
                with b.when(block < whole):
                    self._row(call, x, y, image, block, row, start, x.lanes)
            if tail:
                with b.when(b.compare("eq", block, whole)):
                    self._row(call, x, y, image, block, row, start, tail)

    def _row(
        self, call: KernelCall, x: BlockedImage, y: TensorRef,
        image: Value, block: Value, row: Value, start: Value, channels: int,
    ) -> None:  # fmt: skip
        b = call.builder
        first = y.offset([image, block * x.lanes, row, 0])
        with b.range(0, x.width) as column:
            at = start + b.index(column) * x.lanes
            vector = b.load(x.pointer, FLOAT, at, lanes=x.lanes)
            for lane in range(channels):
                y.store_flat(b.extract(vector, lane), column + (first + lane * x.height * x.width))


class GlobalMeanKernel:
    """Mean over all pixels of each channel; the result is a blocked image of one pixel."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a channel block."""
        x = signature.inputs[0]
        if x is None:
            raise ShapeRefused(operation="global_mean_blocked", reason="input 0 is missing")
        c, h, w = static_extents(x, "global_mean_blocked")
        return Work(units=mul(images(signature), -(-c // target.float_lanes)), unit_cost=2.0 * h * w)

    def emit(self, call: KernelCall) -> None:
        """Four running sums over the columns of each row, folded in a fixed order."""
        b, x, y = call.builder, image_input(call, 0), image_output(call)
        with b.range(call.begin, call.end) as unit:
            u = b.index(unit)
            block, image = u % x.blocks, u / x.blocks
            plane = x.plane(b, image, block)
            zero = b.const(FLOAT, 0.0, x.lanes)

            def row(r: Index, sums: list[Value], plane: Value = plane) -> list[Value]:
                start = plane + r * x.row_stride
                whole = x.width // 4

                def group(g: Index, inner: list[Value]) -> list[Value]:
                    at = start + g * (4 * x.lanes)
                    return [
                        s + b.load(x.pointer, FLOAT, at + k * x.lanes, lanes=x.lanes)
                        for k, s in enumerate(inner)
                    ]

                sums = b.reduce(0, whole, sums, group)
                for k in range(x.width % 4):
                    place = start + (whole * 4 + k) * x.lanes
                    sums = [
                        *sums[:k],
                        sums[k] + b.load(x.pointer, FLOAT, place, lanes=x.lanes),
                        *sums[k + 1 :],
                    ]
                return sums

            sums = b.reduce(0, x.height, [zero] * 4, row)
            mean = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / float(x.height * x.width)
            target = y.plane(b, image, block)
            b.store(mean, y.pointer, target)
            y.zero_halo(b, target, 0, 1)


class ConcatBlockedKernel:
    """Channel blocks one after another. Parts named in attribute `placed` were written in place already."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is an image."""
        c, h, w = static_extents(signature.outputs[0], "concat_blocked")
        return Work(units=images(signature), unit_cost=2.0 * c * h * w / target.float_lanes)

    def emit(self, call: KernelCall) -> None:
        """Copy whole planes, halo included; every part has the halo of the result."""
        b, y = call.builder, image_output(call)
        placed = frozenset(call.attributes.get("placed", ()))
        with b.range(call.begin, call.end) as image:
            first = 0
            for position in range(len(call.signature.inputs)):
                x = image_input(call, position)
                if position not in placed:
                    self._copy(call, x, y, b.index(image), first)
                first += x.blocks

    def _copy(self, call: KernelCall, x: BlockedImage, y: BlockedImage, image: Value, first: int) -> None:
        if x.halo != y.halo:
            raise ShapeRefused(operation="concat_blocked", reason="a part has another halo than the whole")
        b = call.builder
        source = image * x.image_stride
        target = image * y.image_stride + first * y.plane_stride
        with b.range(0, x.image_stride, x.lanes) as at:
            value = b.load(x.pointer, FLOAT, source + at, lanes=x.lanes)
            b.store(value, y.pointer, target + at)
