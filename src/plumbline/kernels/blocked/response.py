"""Native code of `local_response_blocked`: local response normalisation across channels of blocked images.

The window of channels around a block reaches into its two neighbours; squares of the three blocks are shifted
past each other in registers. Channels fill whole blocks.
"""

from __future__ import annotations

from plumbline.contracts.dims import mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.blocked.image import BlockedImage, image_input, image_output, images, static_extents
from plumbline.kernels.contract import AttributeRefused, KernelCall, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.normalization.local_response_kernel import inverse_power

__all__ = ["LocalResponseBlockedKernel"]

FLOAT = DType.FLOAT32


class LocalResponseBlockedKernel:
    """Units: images x blocks x rows."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of a block."""
        c, h, w = static_extents(signature.outputs[0], signature.operation)
        size, lanes = int(signature.attributes["size"]), target.float_lanes
        if c % lanes or not 1 <= size <= lanes:
            raise AttributeRefused(
                operation=signature.operation, attribute="size", value=str(size),
                reason=f"channels must fill blocks of {lanes}, which the window must not exceed",
            )  # fmt: skip
        units = mul(images(signature), c // lanes * h)
        return Work(units=units, unit_cost=w * (20.0 + 2 * size))

    def emit(self, call: KernelCall) -> None:
        """Pixel by pixel along a row."""
        b, x, y = call.builder, image_input(call, 0), image_output(call)
        with b.range(call.begin, call.end) as unit:
            u = b.index(unit)
            row, rest = u % y.height, u / y.height
            block, image = rest % y.blocks, rest / y.blocks
            starts = [
                x.pixel(b, image, _neighbour(call, block, step, x.blocks), row, 0) for step in (-1, 0, 1)
            ]
            exists = [block > 0, b.const(DType.BOOL, True), block < x.blocks - 1]
            plane = y.plane(b, image, block)
            with b.range(0, y.width) as column:
                blocks = [
                    self._block(call, x, start, column, there)
                    for start, there in zip(starts, exists, strict=True)
                ]
                place = plane + (row * y.row_stride + b.index(column) * y.lanes)
                b.store(self._normalise(call, blocks), y.pointer, place)
            y.zero_halo(b, plane, row, 1)

    def _block(self, call: KernelCall, x: BlockedImage, start: Value, column: Index, there: Value) -> Value:
        """A pixel of a block, zero where there is no such block."""
        b = call.builder
        value = b.load(x.pointer, FLOAT, start + b.index(column) * x.lanes, lanes=x.lanes)
        return b.select(there, value, b.const(FLOAT, 0.0, x.lanes))

    def _normalise(self, call: KernelCall, blocks: list[Value]) -> Value:
        """x / (bias + alpha / size * sum of squares) ** beta; the window runs from low to high channels."""
        b, a = call.builder, call.attributes
        size, lanes = int(a["size"]), blocks[1].lanes
        before, here, after = (v * v for v in blocks)
        low = (size - 1) // 2
        total = b.const(FLOAT, 0.0, lanes)
        for step in range(-low, size - low):
            if step < 0:
                total = total + b.shuffle(before, range(lanes + step, 2 * lanes + step), here)
            elif step == 0:
                total = total + here
            else:
                total = total + b.shuffle(here, range(step, lanes + step), after)
        alpha, bias = float(a.get("alpha", 1e-4)) / size, float(a.get("bias", 1.0))
        return blocks[1] * inverse_power(b, total * alpha + bias, float(a.get("beta", 0.75)))


def _neighbour(call: KernelCall, block: Value, step: int, blocks: int) -> Value:
    """The block `step` away, kept inside the image."""
    b = call.builder
    return b.minimum(b.maximum(block + step, 0), blocks - 1)
