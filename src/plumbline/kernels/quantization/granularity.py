"""Which scale belongs to which element: one for all, one for each index of an axis, one for each block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plumbline.contracts.dims import Dim, ceildiv, mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import TensorType
from plumbline.kernels.contract import KernelCall, ShapeRefused
from plumbline.kernels.emit.ir import Index
from plumbline.kernels.reduction.axes import normal_axis

__all__ = ["Granularity", "for_each_run", "granularity_of"]

RUN = 1024
"""Elements of one unit where a single scale covers the whole tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granularity:
    """The tensor as `[outer, extent, inner]` around the axis of the scales.

    `block` elements along the axis share a scale (0: one scale for all). Scales lie as `[outer?, blocks,
    inner?]`, with the bracketed axes where `blocked`.
    """

    outer: Dim
    extent: Dim
    inner: Dim
    block: int
    blocked: bool

    @property
    def blocks(self) -> Dim:
        """Scales along the axis."""
        return ceildiv(self.extent, self.block) if self.block else 1

    @property
    def units(self) -> Dim:
        """Independent pieces of work: rows of `inner`, rows along the axis, or runs of a flat tensor."""
        if not self.block:
            return ceildiv(product((self.outer, self.extent, self.inner)), RUN)
        return self.outer if self.inner == 1 else mul(self.outer, self.extent)


def granularity_of(signature: StepSignature) -> Granularity:
    """How the scales of a step lie.

    Raises:
        ShapeRefused: operands are missing.
    """
    source, scale = signature.inputs[0], signature.inputs[1]
    if source is None or scale is None:
        raise ShapeRefused(operation=signature.operation, reason="input or scale is missing")
    return granularity(signature.operation, source, scale, signature.attributes.get("axis", 1),
                       int(signature.attributes.get("block_size", 0)))  # fmt: skip


def granularity(operation: str, source: TensorType, scale: TensorType, axis: int, block: int) -> Granularity:
    """How scales of a type lie over a tensor.

    Raises:
        ShapeRefused: the shape of the scales fits no granularity.
        AttributeRefused: there is no such axis.
    """
    if scale.elements == 1 and scale.rank <= 1 and not block:
        return Granularity(outer=1, extent=1, inner=source.elements, block=0, blocked=False)
    place = normal_axis(operation, int(axis), source.rank)
    extent = source.shape[place]
    wanted: tuple[Dim, ...] = (extent,)
    if block:
        wanted = (*source.shape[:place], ceildiv(extent, block), *source.shape[place + 1 :])
    if scale.shape != wanted:
        raise ShapeRefused(operation=operation, reason=f"scale has shape {scale.shape}, not {wanted}")
    return Granularity(
        outer=product(source.shape[:place]), extent=extent, inner=product(source.shape[place + 1 :]),
        block=block or 1, blocked=bool(block),
    )  # fmt: skip


Run = Callable[[Index, Index, int, bool], None]


def for_each_run(call: KernelCall, plan: Granularity, lanes: int, body: Run) -> None:
    """Emit `body(position, scale position, lanes, one_scale)` over the units of a call.

    `one_scale` says that all lanes share the scale at that position; else scales are as consecutive as
    elements.
    """
    b = call.builder
    outer, extent, inner = call.dim(plan.outer), call.dim(plan.extent), call.dim(plan.inner)
    blocks = call.dim(plan.blocks)
    with b.range(call.begin, call.end) as unit:
        if not plan.block:
            first = unit * RUN
            count = b.minimum(b.index(outer * extent * inner) - first, RUN)
            b.vectorize(count, lanes, lambda i, width: body(first + i, 0, width, True))
        elif plan.inner != 1:
            row, along = b.index(unit) / extent, b.index(unit) % extent
            place = along / plan.block
            base = unit * inner
            if plan.blocked:
                scales = (row * blocks + place) * inner
                b.vectorize(inner, lanes, lambda i, width: body(base + i, scales + i, width, False))
            else:
                b.vectorize(inner, lanes, lambda i, width: body(base + i, place, width, True))
        elif not plan.blocked:
            base = unit * extent
            b.vectorize(extent, lanes, lambda i, width: body(base + i, i, width, False))
        else:
            with b.range(0, blocks) as block:
                base = unit * extent + block * plan.block
                count = b.minimum(b.index(extent) - block * plan.block, plan.block)
                scale = unit * blocks + block
                b.vectorize(count, lanes, lambda i, width: body(base + i, scale, width, True))
