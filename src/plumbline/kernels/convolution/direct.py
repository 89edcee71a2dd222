"""The direct convolution: a vector of output columns times a block of output channels.

Each output element is one chain over input channels, then taps in row-major order. Padding contributes
nothing (a tap outside the image is skipped, it is not a product with zero).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.dims import Dim, ceildiv, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, Shape
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.convolution.masks import (
    lane_numbers,
    load_lanes,
    power_of_two_lanes,
    store_lanes,
    within,
)
from plumbline.kernels.convolution.windows import Tap, Window, loop_taps
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.tensor import TensorRef, unflatten
from plumbline.kernels.matrix.tile import multiply_add

__all__ = ["Convolution", "Plan", "convolution_work", "emit_convolution", "plan_of"]

CHANNELS = 8
"""Output channels that share the loads of a unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Extents of a convolution: `groups x channels_out` outputs, each from `channels_in` inputs."""

    batch: Dim
    groups: int
    channels_in: int
    channels_out: int
    output: Shape
    window: Window

    @property
    def block(self) -> int:
        """Output channels of one unit."""
        return min(CHANNELS, self.channels_out)

    @property
    def units(self) -> Shape:
        """Units by image, group, channel block and output row."""
        return (self.batch, self.groups, ceildiv(self.channels_out, self.block), *self.output[:-1])


def plan_of(signature: StepSignature, images: int, weights: int, window: Window) -> Plan:
    """The plan of a step whose shapes were checked by its shape rule."""
    image, weight = signature.inputs[images], signature.inputs[weights]
    output = signature.outputs[0].shape
    groups = int(signature.attributes.get("group", 1))
    channels_in, channels = weight.shape[1] if weight else 0, output[1]
    if image is None or not isinstance(channels_in, int) or not isinstance(channels, int):
        raise TypeError("channels are checked by the shape rule")
    return Plan(
        batch=image.shape[0], groups=groups, channels_in=channels_in, channels_out=channels // groups,
        output=output[2:], window=window,
    )  # fmt: skip


def convolution_work(plan: Plan) -> Work:
    """One unit is a row of outputs for a block of channels."""
    width = plan.output[-1] if isinstance(plan.output[-1], int) else 64
    cost = 2.0 * plan.block * plan.channels_in * plan.window.taps * max(width, 8) / 8
    return Work(units=product(plan.units), unit_cost=cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """What differs between element types.

    Attributes:
        dtype: type of the sums.
        pixel: turn a loaded vector into the type of the sums.
        weight: read the weight of (output channel, flat position) as a scalar of that type.
        first: sum before the first tap, for an output channel.
        finish: turn a finished sum into what is stored, for an output channel.
    """

    dtype: DType
    pixel: Callable[[Value], Value]
    weight: Callable[[Index, Index], Value]
    first: Callable[[Index], Value]
    finish: Callable[[Value, Index], Value]


def emit_convolution(call: KernelCall, plan: Plan, images: TensorRef, kind: Convolution) -> None:
    """Emit every unit of a convolution.

    Args:
        call: the step.
        plan: its extents.
        images: `[N, C, *spatial]`.
        kind: loads, sums and stores of the element type.
    """
    b = call.builder
    output = call.output()
    units = tuple(call.dim(d) for d in plan.units)
    before = plan.window.emit_before(call.dim)
    extents = images.shape[2:]
    width = output.shape[-1]
    lanes = power_of_two_lanes(width, call.target.lanes(kind.dtype))
    taps = plan.window.taps
    with b.range(call.begin, call.end) as unit:
        batch, group, block, *outer = unflatten(b, unit, units)
        channels = _channels(call, plan, group, block)
        firsts = [kind.first(c) for c in channels]
        image = batch * images.strides[0] + group * plan.channels_in * images.strides[1]
        with b.range(0, width, lanes) as x:

            def channel(c: Index, sums: list[Value], x: Index = x) -> Sequence[Value]:
                plane = c * images.strides[1] + image

                def tap(t: Tap, values: list[Value]) -> Sequence[Value]:
                    return _accumulate(
                        call, plan, images, kind, channels, plane, c * taps + t.number, t, values
                    )

                return loop_taps(b, plan.window, before, extents, outer, x, lanes, sums, tap)

            start = [b.splat(first, lanes) for first in firsts]
            sums = b.reduce(0, plan.channels_in, start, channel)
            inside = within(
                b, b.splat(b.cast(b.index(x), DType.INT32), lanes) + lane_numbers(b, lanes), width
            )
            for c, total in zip(channels, sums, strict=True):
                row = output.offset((batch, c, *outer, x))
                store_lanes(b, kind.finish(total, c), output.pointer, row, inside)


def _accumulate(
    call: KernelCall,
    plan: Plan,
    images: TensorRef,
    kind: Convolution,
    channels: Sequence[Index],
    plane: Index,
    number: Index,
    tap: Tap,
    sums: list[Value],
) -> list[Value]:
    """Add one tap of one input channel to the sums of all output channels of the block."""
    b = call.builder
    other = b.const(images.dtype, 0, tap.positions.lanes)
    loaded = load_lanes(b, images, tap.row + plane, tap.positions, tap.valid, tap.step, other)
    pixel = kind.pixel(loaded)
    per_channel = plan.channels_in * plan.window.taps
    results = []
    for c, total in zip(channels, sums, strict=True):
        weight = kind.weight(c, c * per_channel + number)
        results.append(b.select(tap.valid, multiply_add(b, pixel, weight, total), total))
    return results


def _channels(call: KernelCall, plan: Plan, group: Index, block: Index) -> list[Index]:
    """Output channels of a unit; those past the group's end repeat its last one."""
    b = call.builder
    exact = plan.channels_out % plan.block == 0
    found: list[Index] = []
    for c in range(plan.block):
        local: Index = block * plan.block + c
        if not exact and c > 0:
            local = b.minimum(b.index(local), plan.channels_out - 1)
        found.append(group * plan.channels_out + local)
    return found
