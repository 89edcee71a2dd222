"""How the rows of a batch pass through an operation.

A tensor carries rows when its part for row i depends on row i of the batch alone, in the same way for every
i and for any number of rows. `Rows` says where such a part lies. Each `OperationContract` has a rule that
tells, from where its operands carry rows, where its results do, or why they do not. What no rule covers is
refused.

A rule may rely on this: an operand that carries no rows has no extent with the symbol in it, so an axis that
meets the rows of another operand has extent 1 there. Who asks checks the answer against the extents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plumbline.contracts.dims import Dim
from plumbline.contracts.tensors import TensorType

__all__ = [
    "NeverRows",
    "RowAnswer",
    "RowCall",
    "RowRule",
    "Rows",
    "along_axis",
    "elementwise",
    "images",
    "no_row_rule",
    "rows_first",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Where the rows of a batch lie in a tensor.

    The axis has extent `outer * rows * inner`; position `(o * rows + i) * inner + j` belongs to row i.

    Attributes:
        symbol: that counts the rows.
        axis: on which they lie.
        outer: repetitions around the rows, from axes merged in front of them.
        inner: elements of one row on this axis, from axes merged behind it.
    """

    symbol: str
    axis: int
    outer: Dim = 1
    inner: Dim = 1

    def at(self, axis: int) -> Rows:
        """The same rows on another axis."""
        return replace(self, axis=axis)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCall:
    """What a rule sees of one operator.

    Attributes:
        operation: its name.
        inputs: types of the operands, None for absent ones.
        outputs: types of the results.
        attributes: as in the graph.
        carried: for each operand the rows that it carries, or None for one that is the same for all rows.
        symbols: that count rows, for a rule that finds them in the extents of a result.
    """

    operation: str
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    attributes: Mapping[str, Any]
    carried: tuple[Rows | None, ...]
    symbols: frozenset[str] = frozenset()

    @property
    def carriers(self) -> dict[int, Rows]:
        """Positions of the operands that carry rows."""
        return {position: rows for position, rows in enumerate(self.carried) if rows is not None}

    def rank(self, position: int) -> int:
        """Axes of an operand; 0 for an absent one."""
        found = self.inputs[position] if position < len(self.inputs) else None
        return 0 if found is None else found.rank

    def attribute_axis(self, name: str, default: int, rank: int) -> int:
        """An axis attribute, counted from the front."""
        return int(self.attributes.get(name, default)) % max(rank, 1)


RowAnswer = str | Sequence[Rows | str]
"""For each result its rows or why it has none; one text where that holds for all results."""

RowRule = Callable[[RowCall], RowAnswer]


@dataclass(frozen=True, slots=True)
class NeverRows:
    """The rule of an operation that keeps no rows apart, whatever it is given.

    It is asked only where rows meet the operation: an operand carries them, or their symbol stands in a
    result or an attribute. An operation on what is the same for all rows needs no rule.

    Attributes:
        reason: why, in plain words.
    """

    reason: str

    def __call__(self, call: RowCall) -> RowAnswer:
        """The reason."""
        return self.reason


no_row_rule = NeverRows("no rule says how its rows depend on each other")
"""The rule of operations that were given none: plug-ins, until they say more."""


def elementwise(call: RowCall) -> RowAnswer:
    """Operands broadcast against each other; every result element depends on its own operand elements."""
    rank = max((call.rank(position) for position in range(len(call.inputs))), default=0)
    return same_place(call, {p: r.at(r.axis + rank - call.rank(p)) for p, r in call.carriers.items()})


def same_place(call: RowCall, placed: Mapping[int, Rows]) -> RowAnswer:
    """The rows of all results, where every carrier has its rows at one place of the result."""
    places = set(placed.values())
    if len(places) != 1:
        return "operands carry rows on different axes, so one row meets another"
    return tuple(places) * len(call.outputs)


def rows_first(*positions: int) -> RowRule:
    """Every row of axis 0 for itself, from these operands; the others are the same for all rows."""

    def rule(call: RowCall) -> RowAnswer:
        for position, rows in call.carriers.items():
            if position not in positions:
                return f"operand {position} differs from row to row, which it cannot"
            if rows.axis != 0:
                return f"operand {position} carries rows on axis {rows.axis}, not on axis 0"
        return same_place(call, call.carriers)

    return rule


def images(call: RowCall) -> RowAnswer:
    """Blocked images `[N, C, H, W]`, each for itself; vectors by channel are the same for all."""
    for position, rows in call.carriers.items():
        if rows.axis != 0 or call.rank(position) != 4:
            return f"operand {position} carries rows on axis {rows.axis} of {call.rank(position)}"
    return same_place(call, call.carriers)


def along_axis(default: int) -> RowRule:
    """Works along attribute `axis` of operand 0 and keeps all axes; other axes are independent."""

    def rule(call: RowCall) -> RowAnswer:
        rows = call.carried[0]
        if rows is None or len(call.carriers) > 1:
            return "operands other than the first differ from row to row"
        if len(call.inputs) > 1 and call.inputs[1] is not None:
            return "its axis is known only at run time"
        axis = call.attribute_axis("axis", default, call.rank(0))
        if axis == rows.axis:
            return f"it works along axis {axis}, on which the rows lie"
        return (rows,) * len(call.outputs)

    return rule
