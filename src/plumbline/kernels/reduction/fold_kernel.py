"""Native code of reductions over any set of axes.

Neighbouring axes merge into alternating kept and folded runs. Where the innermost run is folded, a unit is
one output element and the run is folded in vector lanes; where it is kept, a unit is a strip of outputs,
vectorised across the strip. `reduce_log_sum_exp` takes two passes: the maximum, then the shifted sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.dims import Dim, ceildiv, mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef, row_major_strides, unflatten
from plumbline.kernels.emit.tensor import product as index_product
from plumbline.kernels.reduction.axes import STRIP, AxisRun, merge_runs, normal_axes
from plumbline.kernels.reduction.folds import FOLDS, Fold, compute_dtype_of, neutral_of
from plumbline.kernels.reduction.rows import RowFold
from plumbline.kernels.reduction.windows import Window, has_masks

__all__ = ["FoldKernel"]

_LOG_SUM_EXP = "reduce_log_sum_exp"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the loops need, in registers."""

    builder: FunctionBuilder
    fold: Fold
    source: TensorRef
    output: TensorRef
    dtype: DType
    lanes: int
    masks: bool
    folded: tuple[tuple[Index, Index], ...]
    """(extent, stride) of each folded run, outermost first"""
    count: Value


class FoldKernel:
    """Native code of every operation in `FOLDS`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one output element, or a strip of `STRIP` of them where outputs are contiguous."""
        runs = _runs(signature)
        kept = [run.extent for run in runs if not run.folded]
        folded = product(run.extent for run in runs if run.folded)
        cost = float(folded if isinstance(folded, int) else 256) / 4 + 4
        if runs and not runs[-1].folded:
            units: Dim = mul(product(kept[:-1]), ceildiv(kept[-1], STRIP))
            return Work(units=units, unit_cost=cost * STRIP / 4)
        return Work(units=product(kept), unit_cost=cost)

    def emit(self, call: KernelCall) -> None:
        """Lane folds of contiguous runs, or strips."""
        b, fold = call.builder, FOLDS[call.signature.operation]
        source, output = call.input(0), call.output()
        runs = _runs(call.signature)
        extents = tuple(call.dim(run.extent) for run in runs)
        strides = row_major_strides(extents)
        dtype = compute_dtype_of(fold, source.dtype)
        pairs = [(extents[k], strides[k]) for k, run in enumerate(runs) if run.folded]
        plan = _Plan(
            builder=b, fold=fold, source=source, output=output, dtype=dtype, folded=tuple(pairs),
            lanes=call.target.vector_bytes // max(dtype.size_bytes, 4),
            masks=has_masks(call.target, source.dtype),
            count=b.index(index_product([extent for extent, _ in pairs])),
        )  # fmt: skip
        kept = [(extents[k], strides[k]) for k, run in enumerate(runs) if not run.folded]
        if runs and not runs[-1].folded:
            _emit_strips(call, plan, kept)
        else:
            _emit_elements(call, plan, kept)


def _runs(signature: StepSignature) -> tuple[AxisRun, ...]:
    source = signature.inputs[0]
    shape = () if source is None else source.shape
    axes = normal_axes(signature.operation, signature.attributes.get("axes"), len(shape))
    return merge_runs(shape, axes)


def _emit_elements(call: KernelCall, plan: _Plan, kept: Sequence[tuple[Index, Index]]) -> None:
    b = plan.builder
    with b.range(call.begin, call.end) as unit:
        start = _start(b, unit, kept)
        result = _fold_rows(plan, start)
        plan.output.store_flat(b.cast(result, plan.output.dtype), unit)


def _emit_strips(call: KernelCall, plan: _Plan, kept: Sequence[tuple[Index, Index]]) -> None:
    b = plan.builder
    width = kept[-1][0]
    strips = b.index(width + (STRIP - 1)) / STRIP
    with b.range(call.begin, call.end) as unit:
        outer, strip = b.index(unit) / strips, b.index(unit) % strips
        first = strip * STRIP
        start = _start(b, outer, kept[:-1])
        start = first + start
        place = outer * width + first

        def body(j: Index, lanes: int) -> None:
            result = _fold_columns(plan, start + j, lanes)
            plan.output.store_flat(b.cast(result, plan.output.dtype), place + j)

        b.vectorize(b.minimum(b.index(width) - first, STRIP), plan.lanes, body)


def _start(b: FunctionBuilder, unit: Index, kept: Sequence[tuple[Index, Index]]) -> Index:
    indices = unflatten(b, unit, [extent for extent, _ in kept])
    total: Index = 0
    for index, (_, stride) in zip(indices, kept, strict=True):
        total = index * stride + total
    return total


def _element(plan: _Plan, position: Index, lanes: int) -> Value:
    return plan.builder.cast(plan.source.load_flat(position, lanes=lanes), plan.dtype)


def _fold_rows(plan: _Plan, start: Index) -> Value:
    """One output whose innermost run is folded."""
    b, fold = plan.builder, plan.fold
    if fold.name != _LOG_SUM_EXP:
        total = _rows(plan, start, fold, lambda x: fold.prepare(b, x))
        return fold.finish(b, total, plan.count)
    shift = _finite(b, _rows(plan, start, FOLDS["reduce_max"], lambda x: x))
    total = _rows(plan, start, fold, lambda x: math.exp(b, x - shift))
    return math.log(b, total) + shift


def _rows(plan: _Plan, start: Index, fold: Fold, prepare: Callable[[Value], Value]) -> Value:
    rows = RowFold(
        builder=plan.builder, dtype=plan.dtype, lanes=plan.lanes, neutral=neutral_of(fold, plan.dtype),
        combine=lambda x, y: fold.combine(plan.builder, x, y), masks=plan.masks,
    )  # fmt: skip
    inner = plan.folded[-1][0] if plan.folded else 1

    def row(base: Index, held: list[Value]) -> list[Value]:
        def term(window: Window) -> Value:
            return prepare(plan.builder.cast(window.load(plan.source, base), plan.dtype))

        return rows.accumulate(held, inner, term)

    return rows.finish(_nest(plan, plan.folded[:-1], start, rows.initial(), row))


def _fold_columns(plan: _Plan, start: Index, lanes: int) -> Value:
    """`lanes` neighbouring outputs whose innermost run is kept."""
    b, fold = plan.builder, plan.fold
    if fold.name != _LOG_SUM_EXP:
        total = _columns(plan, start, lanes, fold, lambda x: fold.prepare(b, x))
        return fold.finish(b, total, b.splat(plan.count, lanes))
    shift = _finite(b, _columns(plan, start, lanes, FOLDS["reduce_max"], lambda x: x))
    total = _columns(plan, start, lanes, fold, lambda x: math.exp(b, x - shift))
    return math.log(b, total) + shift


def _columns(plan: _Plan, start: Index, lanes: int, fold: Fold, prepare: Callable[[Value], Value]) -> Value:
    b = plan.builder
    initial = [b.const(plan.dtype, neutral_of(fold, plan.dtype), lanes)]

    def cell(base: Index, held: list[Value]) -> list[Value]:
        return [fold.combine(b, held[0], prepare(_element(plan, base, lanes)))]

    return _nest(plan, plan.folded, start, initial, cell)[0]


def _nest(
    plan: _Plan,
    loops: Sequence[tuple[Index, Index]],
    base: Index,
    held: list[Value],
    body: Callable[[Index, list[Value]], list[Value]],
) -> list[Value]:
    """Loops over folded runs that carry accumulators."""
    if not loops:
        return body(base, held)
    extent, stride = loops[0]
    return plan.builder.reduce(
        0, extent, held, lambda i, inner: _nest(plan, loops[1:], base + i * stride, inner, body)
    )


def _finite(b: FunctionBuilder, top: Value) -> Value:
    """The maximum, or 0 where it is infinite or NaN, so that the shift makes no NaN of its own."""
    ordinary = b.compare("lt", b.absolute(top), float("inf"))
    return b.select(ordinary, top, 0.0)
