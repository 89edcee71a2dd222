"""Composition of pointwise programs: the result of one becomes an operand of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.kernels.pointwise.expression import program_of
from plumbline.kernels.pointwise.functions import FUNCTIONS

__all__ = ["StoredInstruction", "compose_programs", "reference_epilogue", "stored_program"]

StoredInstruction = tuple[str, tuple[int, ...], tuple[tuple[str, object], ...]]


def stored_program(
    operation: str, attributes: Mapping[str, Any], operands: int
) -> tuple[StoredInstruction, ...]:
    """The program of a pointwise operation in the form of attributes."""
    program = program_of(operation, attributes, operands)
    return tuple((i.function, i.arguments, tuple(sorted(i.params.items()))) for i in program)


def compose_programs(
    first: Sequence[StoredInstruction],
    first_operands: int,
    second: Sequence[StoredInstruction],
    second_operands: int,
    position: int,
) -> tuple[StoredInstruction, ...]:
    """Feed the result of `first` into operand `position` of `second`.

    The operands of the result are those of `first`, then those of `second` without `position`, in order.
    An empty program stands for the identity of its operand 0.

    >>> compose_programs((("relu", (0,), ()),), 1, (("add", (0, 1), ()),), 2, 0)
    (('relu', (0,), ()), ('add', (2, 1), ()))
    """
    total = first_operands + second_operands - 1
    moved = [_shift(i, first_operands, total) for i in first]
    result = total + len(first) - 1 if first else 0

    def register(number: int) -> int:
        if number == position:
            return result
        if number < second_operands:
            return first_operands + number - (1 if number > position else 0)
        return total + len(first) + (number - second_operands)

    return (
        *moved,
        *((name, tuple(register(a) for a in arguments), params) for name, arguments, params in second),
    )


def _shift(instruction: StoredInstruction, operands: int, total: int) -> StoredInstruction:
    name, arguments, params = instruction
    return name, tuple(a if a < operands else a - operands + total for a in arguments), params


def reference_epilogue(
    value: np.ndarray, operands: Sequence[np.ndarray], program: Sequence[Any]
) -> np.ndarray:
    """The numpy twin of an epilogue, in float64; operands broadcast against the value."""
    registers: list[np.ndarray] = [value, *(np.asarray(o, np.float64) for o in operands)]
    with np.errstate(all="ignore"):
        for name, arguments, params in program:
            chosen = [registers[a] for a in arguments]
            registers.append(np.asarray(FUNCTIONS[name].reference(*chosen, dict(params))))
    return registers[-1]
