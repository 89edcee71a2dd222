"""What happens to a tile after its reduction: a pointwise program over the accumulator and further operands.

Register 0 of the program is the accumulator; registers 1.. are the operands, each seen as one of: the same
place of a tensor shaped like the output, a vector along the columns (channels), or one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from plumbline.contracts.dims import Dim
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value
from plumbline.kernels.pointwise.expression import Instruction, cost_of, emit_program

__all__ = ["Access", "EpilogueOperand", "apply", "epilogue_access", "is_heavy", "parse_epilogue"]

FLOAT = DType.FLOAT32
HEAVY_COST = 12.0


class Access(StrEnum):
    """How an operand is read for element (row, column)."""

    FULL = "full"
    COLUMN = "column"
    SCALAR = "scalar"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpilogueOperand:
    """An operand: its access, and its address."""

    access: Access
    pointer: Pointer


def epilogue_access(operand: TensorType, output: TensorType, column: Dim) -> Access | None:
    """How an epilogue reads an operand where the output's columns have extent `column`; None: not at all."""
    if operand.elements == 1:
        return Access.SCALAR
    if operand.shape == output.shape:
        return Access.FULL
    if operand.elements == column and operand.rank >= 1 and operand.shape[-1] == column:
        return Access.COLUMN
    return None


def parse_epilogue(stored: Sequence[Any]) -> tuple[Instruction, ...]:
    """The program of an `epilogue` attribute (tuples as in `fused_map`)."""
    return tuple(
        Instruction(function=name, arguments=tuple(arguments), params=dict(params))
        for name, arguments, params in stored
    )


def is_heavy(program: Sequence[Instruction]) -> bool:
    """Whether the program needs so many registers that it is better run over the stored tile."""
    return cost_of(program) > HEAVY_COST


def apply(
    b: FunctionBuilder,
    program: Sequence[Instruction],
    value: Value,
    operands: Sequence[EpilogueOperand],
    full_offsets: Sequence[Index],
    column: Index,
) -> Value:
    """Run the program on one vector.

    Args:
        b: receives the code.
        program: instructions; none returns `value`.
        value: the accumulator.
        operands: registers 1.. of the program.
        full_offsets: for each operand, element offset of this place (used for FULL operands only).
        column: element offset along the columns (used for COLUMN operands).
    """
    if not program:
        return value
    registers = [(value, FLOAT)]
    for operand, place in zip(operands, full_offsets, strict=True):
        registers.append((_load(b, operand, place, column, value.lanes), FLOAT))
    return emit_program(b, program, registers)[0]


def _load(b: FunctionBuilder, operand: EpilogueOperand, place: Index, column: Index, lanes: int) -> Value:
    match operand.access:
        case Access.FULL:
            return b.load(operand.pointer, FLOAT, place, lanes=lanes)
        case Access.COLUMN:
            return b.load(operand.pointer, FLOAT, column, lanes=lanes)
        case Access.SCALAR:
            return b.splat(b.load(operand.pointer, FLOAT), lanes)
