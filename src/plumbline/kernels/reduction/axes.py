"""How axes lie: which are folded, what neighbours merge, and one axis seen as (outer, extent, inner)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.dims import Dim, ceildiv, mul, product
from plumbline.contracts.tensors import Shape
from plumbline.kernels.contract import AttributeRefused, KernelCall
from plumbline.kernels.emit.ir import Index
from plumbline.kernels.reduction.windows import Window, each_window

__all__ = [
    "STRIP",
    "AxisRun",
    "Line",
    "for_each_line",
    "for_each_strip",
    "merge_runs",
    "normal_axes",
    "normal_axis",
    "split_at",
]

STRIP = 64
"""Neighbouring lines (elements of the inner axes) that make one unit of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRun:
    """Neighbouring axes that are all folded or all kept, as one axis."""

    extent: Dim
    folded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A shape around one axis: `outer` times `extent` times `inner` elements, row-major."""

    outer: Dim
    extent: Dim
    inner: Dim
    is_row: bool
    """the axis is the last one: every line is contiguous"""

    @property
    def units(self) -> Dim:
        """Lines one by one where they are contiguous, else strips of neighbouring lines."""
        return self.outer if self.is_row else mul(self.outer, ceildiv(self.inner, STRIP))

    @property
    def lines_per_unit(self) -> int:
        """Lines of one unit at most."""
        if isinstance(self.inner, int):
            return min(self.inner, STRIP)
        return STRIP


def normal_axis(operation: str, axis: int, rank: int) -> int:
    """The axis counted from the front.

    Raises:
        AttributeRefused: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise AttributeRefused(
            operation=operation, attribute="axis", value=str(axis), reason=f"the input has {rank} axes"
        )
    return axis % rank


def normal_axes(operation: str, axes: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Sorted distinct axes counted from the front; None means all.

    Raises:
        AttributeRefused: an axis does not exist or stands twice.
    """
    if axes is None:
        return tuple(range(rank))
    found = sorted(normal_axis(operation, axis, rank) for axis in axes)
    if len(set(found)) != len(found):
        raise AttributeRefused(
            operation=operation, attribute="axes", value=str(tuple(axes)), reason="an axis stands twice"
        )
    return tuple(found)


def merge_runs(shape: Shape, axes: Sequence[int]) -> tuple[AxisRun, ...]:
    """Alternating kept and folded runs, outermost first.

    Axes of extent 1 vanish where that cannot change the order of a fold. A kept one after a folded run
    stays, since the same axis would stay if its extent were known only at run time, and the bits must not
    depend on that.
    """
    runs: list[AxisRun] = []
    for position, extent in enumerate(shape):
        folded = position in axes
        if extent == 1 and (folded or not any(run.folded for run in runs)):
            continue
        if runs and runs[-1].folded is folded:
            runs[-1] = AxisRun(extent=mul(runs[-1].extent, extent), folded=folded)
        else:
            runs.append(AxisRun(extent=extent, folded=folded))
    return tuple(runs)


def split_at(shape: Shape, axis: int) -> Line:
    """A shape around one of its axes."""
    return Line(
        outer=product(shape[:axis]), extent=shape[axis], inner=product(shape[axis + 1 :]),
        is_row=axis == len(shape) - 1,
    )  # fmt: skip


def for_each_line(
    call: KernelCall, line: Line, lanes: int, body: Callable[[Index, Index, int], None]
) -> None:
    """Emit a body for every line of the units of this call.

    Args:
        call: the kernel call.
        line: how the tensor lies around the axis.
        lanes: neighbouring lines to take at once where lines are not contiguous.
        body: gets (element offset of the first element of the first line, distance of elements along a line,
            number of neighbouring lines).
    """
    b = call.builder
    extent, inner = call.dim(line.extent), call.dim(line.inner)
    if line.is_row:
        with b.range(call.begin, call.end) as row:
            body(row * extent, 1, 1)
        return

    def strip(start: Index, window: Window) -> None:
        body(start + window.first, inner, window.lanes)

    for_each_strip(call, line, lanes, False, strip)


def for_each_strip(
    call: KernelCall, line: Line, lanes: int, masks: bool, body: Callable[[Index, Window], None]
) -> None:
    """Emit a body for windows on the strips of neighbouring lines of this call.

    Args:
        call: the kernel call.
        line: how the tensor lies around the axis; its lines are not contiguous.
        lanes: neighbouring lines to take at once.
        masks: whether the rest of a strip may be a partial vector.
        body: gets the element offset of the strip's first line, and a window on the strip.
    """
    b = call.builder
    extent, inner = call.dim(line.extent), call.dim(line.inner)
    strips = call.dim(ceildiv(line.inner, STRIP))
    with b.range(call.begin, call.end) as unit:
        outer, place = b.index(unit) / strips, b.index(unit) % strips
        first = place * STRIP
        start = outer * extent * inner + first
        count = b.minimum(b.index(inner) - first, STRIP)
        each_window(b, count, lanes, masks, lambda window: body(start, window))
