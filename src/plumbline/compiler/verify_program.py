"""Whether a planned program from elsewhere may be lowered: it is data, and nothing in it is taken on trust.

Addresses are checked by `planning.program_text.verify_addresses`; here every step is inferred again from its
operand types by the operation's own rule, with symbols and with numbers at corners of their ranges; packed
weights, workspace and spaces are held to what the kernel will touch.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from plumbline.compiler.planning.program_text import ProgramRefused
from plumbline.contracts import dims
from plumbline.contracts.dims import Expr
from plumbline.contracts.program import (
    MAX_THREADS,
    Operand,
    PlannedProgram,
    PlannedStep,
    Space,
    StepSignature,
)
from plumbline.contracts.tensors import Blocked, Packed, TensorType
from plumbline.errors import PlumblineError
from plumbline.kernels.blocked.packing import conv_elements, depthwise_elements, grouped_elements
from plumbline.kernels.contract import Inference
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.gemm.packing import PanelLayout
from plumbline.kernels.registry import find_operation

__all__ = ["DAMAGE", "packed_bytes", "verify_program"]

DAMAGE = (PlumblineError, KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)
"""What rules and kernels raise on attributes and types that no importer of ours would make."""

MAX_BYTES = 2**48
MAX_CORNERS = 16
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")

_PACKED: Mapping[str, Callable[[Packed], int]] = {
    "gemm": lambda layout: PanelLayout.of(layout).elements,
    "conv": lambda layout: conv_elements(layout.parameters),
    "conv_planar": lambda layout: conv_elements(layout.parameters),
    "conv_grouped": lambda layout: grouped_elements(layout.parameters),
    "depthwise": lambda layout: depthwise_elements(layout.parameters),
}
"""Elements of a packed weight, by scheme."""


def verify_program(program: PlannedProgram, target: TargetDescription) -> None:
    """Check everything about a program that lowering relies on.

    Raises:
        ProgramRefused: naming the place and the rule that it breaks.
    """
    _verify_header(program)
    _verify_ports(program)
    corners = tuple(_corners(program.symbols))
    for step in program.steps:
        place = f"step {step.name!r}"
        try:
            _verify_step(program, step, target)
            for values in corners:
                _infer(_concrete_step(step, values), place)
        except ProgramRefused:
            raise
        except DAMAGE as error:
            raise ProgramRefused(place=place, reason=f"{type(error).__name__}: {error}") from error


def packed_bytes(type_: TensorType, most: int) -> int:
    """Bytes of a weight in a packed layout.

    Args:
        type_: logical shape and layout, which must agree: kernels read the extents from the layout.
        most: bytes of the space that holds it.

    Raises:
        ProgramRefused: the scheme is unknown, or its parameters make no sense.
    """
    layout = type_.layout
    place = f"layout {layout}"
    if not isinstance(layout, Packed) or layout.scheme not in _PACKED:
        raise ProgramRefused(place=place, reason="is no packing that this runtime knows")
    parameters = layout.parameters
    in_range = all(1 <= p <= max(most, 1) for p in parameters)
    extents = tuple(d for d in type_.shape if not (layout.scheme == "depthwise" and d == 1))
    stated = tuple(p for p in parameters if not (layout.scheme == "depthwise" and p == 1))
    _require(in_range and stated[: len(extents)] == extents, place, f"does not fit the shape {type_.shape}")
    try:
        return _PACKED[layout.scheme](layout) * type_.dtype.size_bytes
    except ValueError as error:
        raise ProgramRefused(place=place, reason="has another number of parameters") from error


def _verify_header(program: PlannedProgram) -> None:
    _require(1 <= program.threads <= MAX_THREADS, "header", f"{program.threads} threads")
    sizes = (program.weights_bytes, program.state_bytes, program.arena_bytes)
    _require(all(0 <= s <= MAX_BYTES for s in sizes), "header", f"sizes of the spaces are {sizes}")
    for name, bound in program.symbols.items():
        _require(_SYMBOL.fullmatch(name) is not None, "header", f"{name!r} is no name of a symbol")
        _require(1 <= bound <= MAX_BYTES, "header", f"symbol {name} has bound {bound}")
    starts = program.segments
    rising = all(a < b for a, b in itertools.pairwise(starts))
    inside = bool(starts) and starts[0] == 0 and (starts[-1] == 0 or starts[-1] < len(program.steps))
    _require(rising and inside, "header", f"segments start at {list(starts)[:8]}")


def _verify_ports(program: PlannedProgram) -> None:
    for name, operand in (*program.inputs.items(), *program.outputs.items()):
        _require(operand.space is Space.ARENA, f"port {name!r}", "does not lie in the arena")
        _verify_operand(program, operand, f"port {name!r}")
    for name, operand in program.states.items():
        _require(operand.space is Space.STATE, f"state {name!r}", "does not lie in the state space")
        _verify_operand(program, operand, f"state {name!r}")


def _verify_step(program: PlannedProgram, step: PlannedStep, target: TargetDescription) -> None:
    place = f"step {step.name!r}"
    contract = find_operation(step.operation)
    if contract is None or contract.kernel is None:
        raise ProgramRefused(place=place, reason=f"operation {step.operation!r} has no native code here")
    for operand in (*step.inputs, *step.outputs):
        if operand is not None:
            _verify_operand(program, operand, f"{place}, operand {operand.value!r}")
    for operand in step.outputs:
        _require(operand.space is not Space.WEIGHTS, place, f"writes {operand.value!r} into the weights")
    _infer(step.signature, place)
    needed = contract.kernel.work(step.signature, target).workspace_bytes
    reason = f"has {step.workspace_bytes} of {needed} bytes of workspace"
    _require(step.workspace_bytes >= needed, place, reason)


def _verify_operand(program: PlannedProgram, operand: Operand, place: str) -> None:
    for dim in operand.type.shape:
        missing = dims.free_symbols(dim) - program.symbols.keys()
        _require(not missing, place, f"symbols without bound: {', '.join(sorted(missing))}")
    layout = operand.type.layout
    if isinstance(layout, Blocked):
        sensible = operand.type.rank == 4 and layout.block >= 1 and min(layout.halo) >= 0
        _require(sensible, place, f"layout {layout}")
    if isinstance(layout, Packed):
        _require(operand.space is Space.WEIGHTS, place, "a packed layout is for weights only")
        end = operand.offset + packed_bytes(operand.type, program.weights_bytes)
        _require(operand.offset >= 0 and end <= program.weights_bytes, place, "lies outside the weights")


def _infer(signature: StepSignature, place: str) -> None:
    """The operation's own rule gives the stated output types; layouts are the planner's choice."""
    contract = find_operation(signature.operation)
    if contract is None:
        raise ProgramRefused(place=place, reason=f"operation {signature.operation!r} is unknown")
    inference = Inference(
        operation=signature.operation, inputs=signature.inputs, attributes=signature.attributes
    )
    made = [(t.dtype, t.shape) for t in contract.infer(inference)]
    stated = [(t.dtype, t.shape) for t in signature.outputs]
    extents = [d for t in (*signature.inputs, *signature.outputs) if t is not None for d in t.shape]
    _require(not any(isinstance(d, int) and d < 0 for d in extents), place, "has a negative extent")
    _require(made == stated, place, f"states {stated}, the operation makes {made}")


def _corners(symbols: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Values at the ends of every symbol's range, at most `MAX_CORNERS` combinations."""
    if not symbols:
        return
    ranges = [tuple(dict.fromkeys((bound, 1))) for bound in symbols.values()]
    for values in itertools.islice(itertools.product(*ranges), MAX_CORNERS):
        yield dict(zip(symbols, values, strict=True))


def _concrete_step(step: PlannedStep, values: Mapping[str, int]) -> StepSignature:
    return StepSignature(
        operation=step.operation,
        inputs=tuple(None if o is None else _concrete_type(o.type, values) for o in step.inputs),
        outputs=tuple(_concrete_type(o.type, values) for o in step.outputs),
        attributes={name: _concrete(value, values) for name, value in step.attributes.items()},
    )


def _concrete_type(type_: TensorType, values: Mapping[str, int]) -> TensorType:
    return TensorType(type_.dtype, tuple(dims.evaluate(d, values) for d in type_.shape), type_.layout)


def _concrete(attribute: Any, values: Mapping[str, int]) -> Any:
    if isinstance(attribute, Expr):
        return dims.evaluate(attribute, values)
    return tuple(_concrete(a, values) for a in attribute) if isinstance(attribute, tuple) else attribute


def _require(condition: bool, place: str, reason: str) -> None:
    if not condition:
        raise ProgramRefused(place=place, reason=reason)
