"""Proof that the rows of a batch are independent, so that requests may share a launch (requirement L4-62).

The proof is made on the optimised graph: that is what runs, fused operators included. It starts at the
inputs, follows where every tensor carries the rows by the rule of each operation (see `kernels.rows`), and
ends at the outputs. Each step is checked against the extents: the symbol of the rows stands in the shape of a
result exactly where its rows are said to lie, and nowhere else, so a rule that forgets something refuses
more, not less. What is not covered is refused, naming the operator.

Packed text is the second form: tokens of all rows on one axis, and offsets that say where rows begin. There a
tensor carries tokens until `packed_pool` makes rows of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.contracts.dims import Dim, Expr, format_dim, free_symbols, product, sub, symbol
from plumbline.contracts.tensors import Shape, TensorType
from plumbline.kernels.registry import get_operation
from plumbline.kernels.rows import RowAnswer, RowCall, Rows

__all__ = ["RowProof", "check_rows", "prove_rows"]

Carried = dict[TensorID, Rows | str]
"""Rows of a tensor, or why it has none; a tensor that is the same for all rows is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProof:
    """What was proved of a graph.

    Attributes:
        symbol: that counts the rows, on axis 0 of all `inputs` and `outputs`; empty where nothing is proved.
        inputs: input name -> axis of the rows.
        outputs: output name -> axis of the rows; an output that is missing is the same for every row.
        packed: symbol of the token axis of packed text; empty for plain rows. Packed inputs are joined by
            their offsets, not stacked.
        refused_because: why requests cannot share a launch, in plain words; empty where they can.
    """

    symbol: str = ""
    inputs: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, int] = field(default_factory=dict)
    packed: str = ""
    refused_because: str = ""


def prove_rows(graph: ExecutionGraph) -> RowProof:
    """Where the rows of a graph lie, or why it cannot be said."""
    start = _start(graph)
    if isinstance(start, str):
        return RowProof(refused_because=start)
    rows, packed, carried = start
    symbols = frozenset({rows, packed} - {""})
    for node in graph.nodes:
        _follow(graph, node, carried, symbols)
    outputs: dict[str, int] = {}
    for name, tensor in graph.outputs.items():
        found = carried.get(tensor)
        if found is None:
            continue
        if isinstance(found, str):
            return RowProof(refused_because=found)
        if found != Rows(symbol=rows, axis=0):
            shape = _text(graph.type_of(tensor).shape)
            return RowProof(
                refused_because=f"output {name} of shape {shape} does not have its rows on axis 0 alone"
            )
        outputs[name] = 0
    if not outputs:
        return RowProof(refused_because="no output depends on the rows of the inputs")
    return RowProof(symbol=rows, packed=packed, inputs=dict.fromkeys(graph.inputs, 0), outputs=outputs)


# -- where rows begin ----------------------------------------------------------------------------------------


def _start(graph: ExecutionGraph) -> tuple[str, str, Carried] | str:
    """Symbols of the rows and of packed tokens, and what the inputs carry."""
    if graph.states:
        return f"state {next(iter(graph.states))} persists from one run to the next"
    if not graph.inputs:
        return "there is no input"
    types = {name: graph.type_of(tensor) for name, tensor in graph.inputs.items()}
    offsets = {name: counted for name, t in types.items() if (counted := _offset_symbol(t))}
    leading = {name: _leading_symbol(t) for name, t in types.items() if name not in offsets}
    chosen = next((s for s in leading.values() if s), "")
    if not chosen:
        return _static_reason(types)
    carried: Carried = {}
    for name, type_ in types.items():
        wanted = offsets.get(name, chosen)
        if name not in offsets and leading[name] != chosen:
            return (
                f"input {name} of shape {_text(type_.shape)} has no leading axis {chosen}: it would have to "
                "be equal in all requests of a launch"
            )
        if any(wanted in free_symbols(d) for d in type_.shape[1:]):
            return f"input {name} of shape {_text(type_.shape)} has {wanted} on more axes than the first"
        carried[graph.inputs[name]] = Rows(symbol=wanted, axis=0)
    if len(set(offsets.values())) > 1 or chosen in offsets.values():
        return "row offsets and what they cut are counted by one symbol, or two inputs hold offsets"
    return (next(iter(offsets.values())), chosen, carried) if offsets else (chosen, "", carried)


def _leading_symbol(type_: TensorType) -> str:
    return _lone_symbol(type_.shape[0]) if type_.rank else ""


def _offset_symbol(type_: TensorType) -> str:
    """The symbol R of integer offsets `[R + 1]`."""
    if type_.rank != 1 or not type_.dtype.is_integer:
        return ""
    return _lone_symbol(sub(type_.shape[0], 1)) if isinstance(type_.shape[0], Expr) else ""


def _lone_symbol(dim: Dim) -> str:
    names = free_symbols(dim)
    (name,) = names if len(names) == 1 else ("",)
    return name if name and dim == symbol(name) else ""


def _static_reason(types: Mapping[str, TensorType]) -> str:
    name, type_ = next(iter(types.items()))
    axes = "no axis" if not type_.rank else f"the leading extent {format_dim(type_.shape[0])}"
    return (
        f"input {name} has {axes}: export the model with a dynamic batch axis, a first dimension that is a "
        f"symbol (in PyTorch: dynamic_axes={{{name!r}: {{0: 'batch'}}}})"
    )


# -- from operator to operator -------------------------------------------------------------------------------


def _follow(graph: ExecutionGraph, node: OperatorNode, carried: Carried, symbols: frozenset[str]) -> None:
    """Note what the results of a node carry."""
    operands = [None if t is None else carried.get(t) for t in node.inputs]
    refused = next((o for o in operands if isinstance(o, str)), None)
    if refused is not None:
        carried.update(dict.fromkeys(node.outputs, refused))
        return
    rows = tuple(o for o in operands if not isinstance(o, str))
    outputs = tuple(graph.type_of(t) for t in node.outputs)
    named = bool(symbols & _mentioned(node.attributes.values()))
    if not any(rows) and not named and not any(symbols & _mentioned(t.shape) for t in outputs):
        return
    call = RowCall(
        operation=node.operation, inputs=tuple(None if t is None else graph.type_of(t) for t in node.inputs),
        outputs=outputs, attributes=node.attributes, carried=rows, symbols=symbols,
    )  # fmt: skip
    answers = check_rows(call, get_operation(node.operation).rows(call))
    for tensor, answer in zip(node.outputs, answers, strict=True):
        carried[tensor] = _refusal(node, answer) if isinstance(answer, str) else answer


def check_rows(call: RowCall, answer: RowAnswer) -> Sequence[Rows | str]:
    """The answer of a rule for each result, held against extents and attributes.

    Returns:
        For each result its rows, or why it has none.
    """
    count = len(call.outputs)
    if isinstance(answer, str):
        return [answer] * count
    for name, value in call.attributes.items():
        if call.symbols & _mentioned((value,)) and value != call.outputs[0].shape:
            return [f"attribute {name} depends on the number of rows"] * count
    if len(answer) != count:
        return [f"its rule speaks of {len(answer)} results"] * count
    return [_checked(a, t, call.symbols) for a, t in zip(answer, call.outputs, strict=True)]


def _checked(answer: Rows | str, type_: TensorType, symbols: frozenset[str]) -> Rows | str:
    """The answer, where the extents of the result agree with it."""
    if isinstance(answer, str):
        return answer
    expected = product((answer.outer, symbol(answer.symbol), answer.inner))
    elsewhere = [d for axis, d in enumerate(type_.shape) if axis != answer.axis]
    clean = not symbols & _mentioned((*elsewhere, answer.outer, answer.inner))
    if clean and 0 <= answer.axis < type_.rank and type_.shape[answer.axis] == expected:
        return answer
    return f"its result of shape {_text(type_.shape)} does not have the rows on one axis"


def _refusal(node: OperatorNode, reason: str) -> str:
    sources = f" (from {', '.join(node.sources[:3])})" if node.sources else ""
    return f"operator {node.name} ({node.operation}){sources}: {reason}"


def _mentioned(values: Any) -> frozenset[str]:
    """Symbols in dimensions, however deep they lie in tuples."""
    return frozenset(name for value in _flat(values) for name in free_symbols(value))


def _flat(values: Any) -> Iterator[Expr]:
    for value in values:
        if isinstance(value, Expr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _flat(value)


def _text(shape: Shape) -> str:
    return "[" + ", ".join(format_dim(d) for d in shape) + "]"
