"""How rows pass through `einsum`."""

from __future__ import annotations

from plumbline.kernels.matrix.equation import parse_equation
from plumbline.kernels.row_rules.products import SUMMED
from plumbline.kernels.rows import RowAnswer, RowCall, Rows, same_place

__all__ = ["einsum_rows"]


def einsum_rows(call: RowCall) -> RowAnswer:
    """The label of the rows is one and the same in all operands that have it, and stays in the result."""
    ranks = tuple(call.rank(position) for position in range(len(call.inputs)))
    equation = parse_equation(call.attributes["equation"], ranks)
    placed: dict[int, Rows] = {}
    for position, rows in call.carriers.items():
        label = equation.operands[position][rows.axis]
        if label not in equation.result:
            return SUMMED
        placed[position] = rows.at(equation.result.index(label))
    return same_place(call, placed)
