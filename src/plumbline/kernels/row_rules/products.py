"""How rows pass through matrix products."""

from __future__ import annotations

from plumbline.kernels.rows import RowAnswer, RowCall, RowRule, Rows, same_place

__all__ = ["SUMMED", "gemm_rows", "packed_gemm_rows", "product_rows"]

SUMMED = "the rows lie on the axis that the product sums over"


def product_rows(left: int, right: int) -> RowRule:
    """`matmul` of the operands at two positions; all others are the same for all rows."""

    def rule(call: RowCall) -> RowAnswer:
        if set(call.carriers) - {left, right}:
            return "scales or zero points differ from row to row"
        placed = {p: _placed(call, p, left, right) for p in call.carriers}
        if any(rows is None for rows in placed.values()):
            return SUMMED
        return same_place(call, {p: rows for p, rows in placed.items() if rows is not None})

    return rule


def _placed(call: RowCall, position: int, left: int, right: int) -> Rows | None:
    """Where the rows of a factor lie in the product; None on the axis that is summed."""
    rows, rank, result = call.carriers[position], call.rank(position), call.outputs[0].rank
    columns = call.rank(right) > 1
    if rank == 1:
        return None
    from_end = rank - rows.axis
    if from_end > 2:
        dropped = (call.rank(left) == 1) + (not columns)
        return rows.at(result + dropped - from_end)
    if position == left:
        return rows.at(result - 1 - columns) if from_end == 2 else None
    return rows.at(result - 1) if from_end == 1 else None


def gemm_rows(call: RowCall) -> RowAnswer:
    """`gemm`: rows of the left matrix, columns of the right one, and a bias that goes with them."""
    placed: dict[int, Rows] = {}
    for position, rows in call.carriers.items():
        if position == 2:
            placed[2] = rows.at(rows.axis + 2 - call.rank(2))
            continue
        turned = bool(call.attributes.get("transpose_b" if position else "transpose_a", False))
        axis = 1 - rows.axis if turned else rows.axis
        if axis != position:
            return SUMMED
        placed[position] = rows.at(position)
    return same_place(call, placed)


def packed_gemm_rows(call: RowCall) -> RowAnswer:
    """`packed_gemm`: any axis of the left operand but the last; epilogue operands broadcast."""
    rank = call.outputs[0].rank
    for position, rows in call.carriers.items():
        if position == 1 or (position == 0 and rows.axis == call.rank(0) - 1):
            return SUMMED
    return same_place(call, {p: r.at(r.axis + rank - call.rank(p)) for p, r in call.carriers.items()})
