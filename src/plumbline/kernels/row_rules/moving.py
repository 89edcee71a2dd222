"""How rows pass through operations that move elements."""

from __future__ import annotations

from plumbline.contracts.dims import Dim, floordiv, format_dim, free_symbols, mul, product, symbol
from plumbline.kernels.rows import RowAnswer, RowCall, Rows, same_place

__all__ = [
    "concatenated",
    "expanded",
    "filled",
    "first_rows",
    "of_first",
    "padded",
    "reshaped",
    "sliced",
    "split_rows",
    "tiled",
    "transposed",
    "updated",
]


def first_rows(call: RowCall) -> Rows | str:
    """The rows of operand 0, where no other operand carries any."""
    rows = call.carried[0] if call.carried else None
    if rows is None or len(call.carriers) > 1:
        return "operands other than the first differ from row to row"
    return rows


def of_first(call: RowCall) -> RowAnswer:
    """Every element of operand 0 for itself, with numbers that are the same for all rows."""
    rows = first_rows(call)
    return rows if isinstance(rows, str) else (rows,) * len(call.outputs)


def updated(call: RowCall) -> RowAnswer:
    """Optimiser steps: parameters, gradient and states element by element; rate and count are one for all."""
    if {0, 1} & set(call.carriers):
        return "the rate or the count of updates differs from row to row"
    return same_place(call, call.carriers)


def transposed(call: RowCall) -> RowAnswer:
    """The axis of the rows moves."""
    rows = first_rows(call)
    return rows if isinstance(rows, str) else (rows.at(tuple(call.attributes["perm"]).index(rows.axis)),)


def reshaped(call: RowCall) -> RowAnswer:
    """Rows stay apart where the new axes are cut at the same places around them."""
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    source = call.inputs[0].shape if call.inputs[0] is not None else ()
    before = mul(product(source[: rows.axis]), rows.outer)
    behind = mul(rows.inner, product(source[rows.axis + 1 :]))
    shape = call.outputs[0].shape
    for axis, extent in enumerate(shape):
        if rows.symbol in free_symbols(extent):
            outer, inner = _part(before, shape[:axis]), _part(behind, shape[axis + 1 :])
            if outer is not None and inner is not None:
                return (Rows(symbol=rows.symbol, axis=axis, outer=outer, inner=inner),)
    return f"the new shape {_text(shape)} cuts {_text(source)} across the rows"


def _part(whole: Dim, shape: tuple[Dim, ...]) -> Dim | None:
    """`whole` divided by the extents, where that comes out even for every value of the symbols."""
    divisor = product(shape)
    if divisor == 0:
        return None
    quotient = floordiv(whole, divisor)
    return quotient if mul(quotient, divisor) == whole else None


def _text(shape: tuple[Dim, ...]) -> str:
    return "[" + ", ".join(format_dim(d) for d in shape) + "]"


def concatenated(call: RowCall) -> RowAnswer:
    """All operands carry the rows on one axis, which is not the one that they are joined along."""
    axis = call.attribute_axis("axis", 0, call.rank(0))
    if any(rows.axis == axis for rows in call.carriers.values()):
        return f"it joins along axis {axis}, on which the rows lie"
    if len(call.carriers) != len(call.inputs):
        return "an operand that is the same for all rows has no row to join"
    return same_place(call, call.carriers)


def split_rows(call: RowCall) -> RowAnswer:
    """Parts of another axis."""
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    axis = call.attribute_axis("axis", 0, call.rank(0))
    if axis == rows.axis:
        return f"it splits axis {axis}, on which the rows lie"
    return (rows,) * len(call.outputs)


def sliced(call: RowCall) -> RowAnswer:
    """Parts of other axes, at places that do not depend on the number of rows."""
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    source = call.inputs[0].shape if call.inputs[0] is not None else ()
    parts = zip(*(call.attributes[name] for name in ("starts", "sizes", "steps")), strict=True)
    for axis, (start, size, step) in enumerate(parts):
        if axis == rows.axis:
            if (start, size, step) != (0, source[axis], 1):
                return f"it takes a part of axis {axis}, on which the rows lie"
        elif rows.symbol in free_symbols(start) | free_symbols(size):
            return f"what it takes of axis {axis} depends on the number of rows"
    return (rows,)


def padded(call: RowCall) -> RowAnswer:
    """Pads of other axes."""
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    if (call.attributes["before"][rows.axis], call.attributes["after"][rows.axis]) != (0, 0):
        return f"it pads axis {rows.axis}, on which the rows lie"
    return (rows,)


def tiled(call: RowCall) -> RowAnswer:
    """Repeats; those of the rows' own axis stand around them."""
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    repeats = call.attributes["repeats"][rows.axis]
    return (Rows(symbol=rows.symbol, axis=rows.axis, outer=mul(repeats, rows.outer), inner=rows.inner),)


def expanded(call: RowCall) -> RowAnswer:
    """A broadcast: rows stay, and what is the same for all rows may be repeated once for each."""
    if call.carriers:
        rows = call.carriers[0]
        return (rows.at(rows.axis + call.outputs[0].rank - call.rank(0)),)
    return filled(call)


def filled(call: RowCall) -> RowAnswer:
    """One thing for every row; the symbol is found in the extents of the result."""
    if call.carriers:
        return "what it is filled with differs from row to row"
    shape = call.outputs[0].shape
    found = [
        Rows(symbol=name, axis=axis, inner=inner)
        for axis, extent in enumerate(shape)
        for name in sorted(free_symbols(extent) & call.symbols)
        if (inner := _part(extent, (symbol(name),))) is not None
    ]
    return tuple(found) if len(found) == 1 else f"no one axis of {_text(shape)} has the rows"
