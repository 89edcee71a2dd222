"""`If`, `Loop` and `Scan`, resolved at build: one branch is inlined, loops are unrolled.

A condition or trip count that is known only at run time is refused: graphs are static. Branches and bodies
see the values around them; each iteration adds its own operators, so carried values may change their shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx_wire import OnnxGraph
from plumbline.contracts.dims import Dim, Expr, format_dim

__all__ = ["CONTROL_FLOW", "MAX_ITERATIONS", "Scope", "SubgraphWalker", "resolve_control_flow"]

MAX_ITERATIONS = 4096
"""Longest loop that is unrolled."""

Scope = Mapping[str, TensorID | None]
Values = Sequence[TensorID | None]


class SubgraphWalker(Protocol):
    """Whoever can convert a nested graph."""

    def subgraph(
        self, graph: OnnxGraph, outer: Scope, arguments: Values, opsets: Mapping[str, int]
    ) -> tuple[TensorID | None, ...]:
        """Inline a nested graph that sees the values of `outer`; its outputs."""
        ...


def resolve_control_flow(
    walk: SubgraphWalker, view: NodeView, scope: Scope, opsets: Mapping[str, int]
) -> Sequence[TensorID | None]:
    """Results of a control-flow node.

    Raises:
        DataDependentShape: its condition or trip count is not known at build.
        NodeRefused: it would be unrolled too often, or a graph attribute does not fit.
    """
    resolver = _Resolver(walk, view, scope, opsets)
    return {"If": resolver.branch, "Loop": resolver.loop, "Scan": resolver.scan}[view.operator]()


CONTROL_FLOW = frozenset(("If", "Loop", "Scan"))


class _Resolver:
    def __init__(self, walk: SubgraphWalker, view: NodeView, scope: Scope, opsets: Mapping[str, int]) -> None:
        self._walk, self._view, self._scope, self._opsets = walk, view, scope, opsets

    def branch(self) -> Sequence[TensorID | None]:
        """The taken branch of an `If`."""
        view = self._view
        known = self._find_bool(view.input(0))
        if known is None:
            view.refuse_data_dependent("the condition of a branch must be known at build")
        return self._inline(view.graph("then_branch" if known else "else_branch"), ())

    def loop(self) -> Sequence[TensorID | None]:
        """An unrolled `Loop`."""
        view, body = self._view, self._view.graph("body")
        limit = self._trip_count()
        condition = view.optional(1)
        carried: list[TensorID | None] = list(view.inputs[2:])
        if len(body.inputs) != len(carried) + 2 or len(body.outputs) < len(carried) + 1:
            view.refuse("the body does not take and return the carried values")
        rows: list[tuple[TensorID | None, ...]] = []
        while (limit is None or len(rows) < limit) and self._continues(condition):
            if len(rows) >= MAX_ITERATIONS:
                view.refuse(f"it runs more than {MAX_ITERATIONS} times; larger loops are not unrolled")
            results = self._iteration(body, len(rows), condition, carried)
            condition, carried = results[0], list(results[1 : 1 + len(carried)])
            rows.append(tuple(results[1 + len(carried) :]))
        scanned = self._stack(rows) if rows else self._empty_scans(body, condition, carried)
        return [*carried, *scanned]

    def scan(self) -> Sequence[TensorID | None]:
        """An unrolled `Scan`."""
        view = self._view
        return _scan_batches(self) if view.opset < 9 else self._scan_once(list(view.inputs))

    # -- loops ---------------------------------------------------------------------------------------------

    def _trip_count(self) -> int | None:
        """Iterations allowed at most; None without limit."""
        view = self._view
        if view.optional(0) is None:
            return None
        (count,) = view.dims(0)
        if isinstance(count, Expr):
            view.refuse_data_dependent(f"the trip count is the symbolic dimension {format_dim(count)}")
        return int(count)

    def _continues(self, condition: TensorID | None) -> bool:
        if condition is None:
            return True
        known = self._find_bool(condition)
        if known is None:
            self._view.refuse_data_dependent("the condition of a loop must be known at build")
        return known

    def _iteration(
        self, body: OnnxGraph, index: int, condition: TensorID | None, carried: Values
    ) -> tuple[TensorID | None, ...]:
        view = self._view
        number = view.constant(np.array(index, np.int64))
        again = view.constant(np.array(True)) if condition is None else condition
        return self._inline(body, (number, again, *carried))

    def _empty_scans(
        self, body: OnnxGraph, condition: TensorID | None, carried: Values
    ) -> list[TensorID | None]:
        """Scan outputs of a loop that never runs. One iteration is converted for its types, and not read."""
        if len(body.outputs) == 1 + len(carried):
            return []
        results = self._iteration(body, 0, condition, carried)
        return [self._no_rows(t) for t in results[1 + len(carried) :]]

    def _no_rows(self, tensor: TensorID | None) -> TensorID | None:
        if tensor is None:
            return None
        type_ = self._view.builder.type_of(tensor)
        if not all(isinstance(d, int) for d in type_.shape):
            self._view.refuse_data_dependent("an empty scan output has a symbolic shape")
        shape = (0, *(int(d) for d in type_.shape if isinstance(d, int)))
        return self._view.constant(np.zeros(shape, type_.dtype.numpy), type_.dtype)

    # -- scans ---------------------------------------------------------------------------------------------

    def _scan_once(self, inputs: Values) -> list[TensorID | None]:
        """Unroll over one sequence: states first, then scanned inputs."""
        view, body = self._view, self._view.graph("body")
        scans = view.int("num_scan_inputs")
        states, sequences = list(inputs[: len(inputs) - scans]), inputs[len(inputs) - scans :]
        if len(body.inputs) != len(inputs) or len(body.outputs) < len(states) or not 0 < scans <= len(inputs):
            view.refuse("the body does not take the states and scanned inputs")
        outputs = len(body.outputs) - len(states)
        axes = view.ints("scan_input_axes", (0,) * scans)
        backwards = view.ints(_directions(view, "input"), (0,) * scans)
        length = self._length(sequences, axes)
        rows = []
        for step in range(length):
            items = [
                self._item(t, axis, length - 1 - step if back else step)
                for t, axis, back in zip(sequences, axes, backwards, strict=True)
            ]
            results = self._inline(body, (*states, *items))
            states = list(results[: len(states)])
            rows.append(results[len(states) :])
        reversed_outputs = view.ints(_directions(view, "output"), (0,) * outputs)
        return [*states, *self._stack(rows, view.ints("scan_output_axes", (0,) * outputs), reversed_outputs)]

    def _length(self, sequences: Values, axes: Sequence[int]) -> int:
        found = {self._extent(t, axis) for t, axis in zip(sequences, axes, strict=True)}
        if len(found) != 1:
            self._view.refuse("the scanned inputs have different lengths")
        length = next(iter(found))
        if isinstance(length, Expr):
            self._view.refuse_data_dependent(f"the number of steps is the dimension {format_dim(length)}")
        if not 0 < length <= MAX_ITERATIONS:
            self._view.refuse(f"{length} steps cannot be unrolled (1 to {MAX_ITERATIONS} can)")
        return int(length)

    def _extent(self, tensor: TensorID | None, axis: int) -> Dim:
        if tensor is None:
            self._view.refuse("a scanned input is missing")
        type_ = self._view.builder.type_of(tensor)
        if not -type_.rank <= axis < type_.rank:
            self._view.refuse(f"axis {axis} is outside of a scanned input with {type_.rank} axes")
        return type_.shape[axis]

    def _item(self, tensor: TensorID | None, axis: int, index: int) -> TensorID:
        """One slice of a scanned input, without its axis."""
        view = self._view
        if tensor is None:
            view.refuse("a scanned input is missing")
        axis %= view.builder.type_of(tensor).rank
        position = view.constant(np.array(index, np.int64))
        return view.add1("gather", [tensor, position], {"axis": axis})

    # -- both ----------------------------------------------------------------------------------------------

    def _stack(
        self, rows: Sequence[Values], axes: Sequence[int] = (), backwards: Sequence[int] = ()
    ) -> list[TensorID | None]:
        """Scan outputs: the rows of every iteration along a new axis."""
        columns: list[TensorID | None] = []
        for position, column in enumerate(zip(*rows, strict=True)):
            axis = axes[position] if axes else 0
            ordered = column[::-1] if backwards and backwards[position] else column
            columns.append(self._stack_one([t for t in ordered if t is not None], axis))
        return columns

    def _stack_one(self, parts: Sequence[TensorID], axis: int) -> TensorID | None:
        if not parts:
            return None
        view = self._view
        shapes = [view.builder.type_of(t).shape for t in parts]
        if any(s != shapes[0] for s in shapes):
            view.refuse("a scan output changes its shape from one iteration to the next")
        rank = len(shapes[0]) + 1
        if not -rank <= axis < rank:
            view.refuse(f"scan output axis {axis} is outside of {rank} axes")
        axis %= rank
        grown = (*shapes[0][:axis], 1, *shapes[0][axis:])
        return view.add1("concat", [view.reshape(t, grown) for t in parts], {"axis": axis})

    def _inline(self, graph: OnnxGraph, arguments: Values) -> tuple[TensorID | None, ...]:
        return self._walk.subgraph(graph, self._scope, arguments, self._opsets)

    def _find_bool(self, tensor: TensorID) -> bool | None:
        known = self._view.builder.find_value(tensor)
        if known is None or known.size != 1 or isinstance(known.ravel()[0], Expr):
            return None
        return bool(known.ravel()[0])


def _directions(view: NodeView, role: str) -> str:
    """`Scan` names directions of its inputs alone before opset 9."""
    return "directions" if view.opset < 9 and role == "input" else f"scan_{role}_directions"


def _scan_batches(resolver: _Resolver) -> list[TensorID | None]:
    """Opset 8: a sequence for each row of a leading batch axis, preceded by an optional length of each."""
    view = resolver._view
    if view.optional(0) is not None:
        view.refuse("sequence_lens is not supported; pad the sequences or use opset 9")
    batch = resolver._length(view.inputs[1:], (0,) * len(view.inputs[1:]))
    rows = [
        tuple(resolver._scan_once([resolver._item(t, 0, b) for t in view.inputs[1:]])) for b in range(batch)
    ]
    return resolver._stack(rows)
