"""How rows pass through folds and normalisations."""

from __future__ import annotations

from plumbline.kernels.row_rules.moving import first_rows
from plumbline.kernels.rows import RowAnswer, RowCall, RowRule

__all__ = ["before_axis", "extreme_axis", "fold_axes", "matrices", "vectors"]


def fold_axes(call: RowCall) -> RowAnswer:
    """`reduce_*` over other axes."""
    rank, axes = call.rank(0), call.attributes.get("axes")
    return _folded(call, frozenset(range(rank) if axes is None else (int(a) % max(rank, 1) for a in axes)))


def extreme_axis(call: RowCall) -> RowAnswer:
    """`arg_max` and `arg_min` along another axis."""
    return _folded(call, frozenset({call.attribute_axis("axis", 0, call.rank(0))}))


def _folded(call: RowCall, axes: frozenset[int]) -> RowAnswer:
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    if rows.axis in axes:
        return f"it folds axis {rows.axis}, on which the rows lie"
    kept = bool(call.attributes.get("keepdims", True))
    return (rows if kept else rows.at(rows.axis - sum(a < rows.axis for a in axes)),)


def before_axis(default: int) -> RowRule:
    """Normalises all axes from attribute `axis` on; axes before it are independent."""

    def rule(call: RowCall) -> RowAnswer:
        rows = first_rows(call)
        if isinstance(rows, str):
            return rows
        axis = call.attribute_axis("axis", default, call.rank(0))
        if rows.axis >= axis:
            return f"it normalises axes from {axis} on, the rows lie on axis {rows.axis}"
        return (rows,) * len(call.outputs)

    return rule


def matrices(call: RowCall) -> RowAnswer:
    """Matrices in the last two axes, each for itself."""
    return _trailing(call, 2)


def vectors(call: RowCall) -> RowAnswer:
    """Vectors in the last axis, each for itself."""
    return _trailing(call, 1)


def _trailing(call: RowCall, count: int) -> RowAnswer:
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    if rows.axis >= call.rank(0) - count:
        return f"the rows lie on axis {rows.axis}, inside what it works on as a whole"
    return (rows,) * len(call.outputs)
