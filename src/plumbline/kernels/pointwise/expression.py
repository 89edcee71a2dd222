"""A chain of pointwise functions as data: the body of `fused_map` and the epilogue of structured kernels.

Registers are numbered: first the operands in order, then one per instruction. The last one is the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Value
from plumbline.kernels.pointwise.functions import FUNCTIONS, Result

__all__ = ["Instruction", "compute_dtype", "cost_of", "emit_program", "program_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """`function(registers...)` with constant parameters."""

    function: str
    arguments: tuple[int, ...]
    params: Mapping[str, Any] = field(default_factory=dict)


def program_of(operation: str, attributes: Mapping[str, Any], operands: int) -> tuple[Instruction, ...]:
    """The instructions of a pointwise operation. `fused_map` carries them in attribute `program`; they are
    stored as plain tuples `(function, arguments, ((name, value), ...))`."""
    if operation != "fused_map":
        return (Instruction(function=operation, arguments=tuple(range(operands)), params=attributes),)
    return tuple(
        Instruction(function=name, arguments=tuple(arguments), params=dict(params))
        for name, arguments, params in attributes["program"]
    )


def compute_dtype(dtype: DType) -> DType:
    """The type in which values of `dtype` are computed: half-width floats in float32."""
    return DType.FLOAT32 if dtype in (DType.FLOAT16, DType.BFLOAT16) else dtype


def emit_program(
    b: FunctionBuilder, program: Sequence[Instruction], operands: Sequence[tuple[Value, DType]]
) -> tuple[Value, DType]:
    """Emit a chain.

    Args:
        b: function that receives the code.
        program: the instructions.
        operands: (value as loaded, element type in memory) of each operand; every value has the same lanes.

    Returns:
        The result in the element type of memory, and that type.
    """
    registers = list(operands)
    for instruction in program:
        function = FUNCTIONS[instruction.function]
        chosen = [registers[a] for a in instruction.arguments]
        values = tuple(v if function.raw else b.cast(v, compute_dtype(v.dtype)) for v, _ in chosen)
        result = function.emit(b, values, instruction.params)
        stored = _stored_dtype(instruction, chosen[-1][1])
        registers.append((b.cast(result, stored), stored))
    return registers[-1]


def _stored_dtype(instruction: Instruction, last: DType) -> DType:
    match FUNCTIONS[instruction.function].result:
        case Result.BOOL:
            return DType.BOOL
        case Result.PARAMETER:
            return DType(instruction.params["to"])
        case Result.SAME:
            return last


def cost_of(program: Sequence[Instruction]) -> float:
    """Rough floating-point operations of one element."""
    return sum(FUNCTIONS[i.function].cost for i in program)
