"""How rows pass through whole layers: recurrence, attention, pools with places, resizing, packed text."""

from __future__ import annotations

from plumbline.kernels.row_rules.moving import first_rows
from plumbline.kernels.rows import RowAnswer, RowCall, Rows, rows_first, same_place

__all__ = [
    "attention_rows",
    "max_pool_rows",
    "packed_token_rows",
    "pooled_rows",
    "recurrent_rows",
    "resized",
    "transformed",
]

_BATCH_FIRST = {0: 0, 4: 0, 5: 0, 6: 0}
_TIME_FIRST = {0: 1, 4: 0, 5: 1, 6: 1}


def recurrent_rows(call: RowCall) -> RowAnswer:
    """Every sequence for itself: `x`, `lengths` and the first states by row, weights the same for all."""
    first = bool(call.attributes.get("batch_first", False))
    expected = _BATCH_FIRST if first else _TIME_FIRST
    for position, rows in call.carriers.items():
        if expected.get(position) != rows.axis:
            return f"operand {position} carries rows on axis {rows.axis}, which is not its batch axis"
    if len({rows.at(0) for rows in call.carriers.values()}) != 1:
        return "its operands carry rows in different ways"
    rows = next(iter(call.carriers.values()))
    return (rows.at(0 if first else 2), *(rows.at(0 if first else 1) for _ in call.outputs[1:]))


def attention_rows(call: RowCall) -> RowAnswer:
    """Every batch element for itself; a mask by row has four axes."""
    mask = call.carried[3] if len(call.carried) > 3 else None
    if mask is not None and call.rank(3) != 4:
        return "its mask carries rows on an axis that is not the batch"
    return rows_first(0, 1, 2, 3, 4)(call)


def max_pool_rows(call: RowCall) -> RowAnswer:
    """Images for themselves; the places of the maxima count through the whole batch."""
    answer = rows_first(0)(call)
    if isinstance(answer, str) or len(call.outputs) == 1:
        return answer
    return (answer[0], "its indices count elements through the whole batch")


def resized(call: RowCall) -> RowAnswer:
    """Other axes are resized."""
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    source = call.inputs[0].shape if call.inputs[0] is not None else ()
    cropped = call.attributes["coordinates"] == "tf_crop_and_resize"
    kept = call.attributes["shape"][rows.axis] == source[rows.axis]
    if cropped or not kept or call.attributes["scales"][rows.axis] not in (None, 1.0):
        return f"it resizes axis {rows.axis}, on which the rows lie"
    return (rows,)


def transformed(call: RowCall) -> RowAnswer:
    """`dft` along another axis; the last axis holds the parts of a number."""
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    if rows.axis in (int(call.attributes["axis"]), call.rank(0) - 1):
        return f"it transforms axis {rows.axis}, on which the rows lie"
    return (rows,)


def packed_token_rows(call: RowCall) -> RowAnswer:
    """`packed_embedding` and `packed_attention`: tokens see tokens between the same two row offsets."""
    tokens = call.carried[0]
    return (tokens,) if tokens is not None and _packed(call) else "its rows do not lie between row offsets"


def pooled_rows(call: RowCall) -> RowAnswer:
    """`packed_pool`: the tokens between two row offsets become one row."""
    offsets = call.carried[1]
    if offsets is None or not _packed(call):
        return "its rows do not lie between row offsets"
    return (Rows(symbol=offsets.symbol, axis=0),)


def _packed(call: RowCall) -> bool:
    """Tokens on axis 0 of operand 0, row offsets in operand 1, nothing else by row."""
    tokens, offsets = call.carried[:2]
    if set(call.carriers) != {0, 1} or tokens is None or offsets is None:
        return False
    plain = same_place(call, {0: tokens, 1: Rows(symbol=tokens.symbol, axis=0)})
    return not isinstance(plain, str) and offsets.symbol != tokens.symbol
