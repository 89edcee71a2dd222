"""Values in registers: typed, with the operators of Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.spelling import llvm_type

if TYPE_CHECKING:
    from plumbline.kernels.emit.ir import FunctionBuilder

__all__ = ["Index", "Operand", "Pointer", "Value", "is_value"]


@dataclass(frozen=True, slots=True)
class Pointer:
    """An address in a register."""

    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar or vector in a register. Operators emit into the function that made it."""

    builder: FunctionBuilder = field(repr=False, compare=False)
    text: str
    dtype: DType
    lanes: int = 1

    @property
    def type(self) -> str:
        """LLVM type text."""
        return llvm_type(self.dtype, self.lanes)

    def __add__(self, other: Operand) -> Value:
        return self.builder.add(self, other)

    def __radd__(self, other: Operand) -> Value:
        return self.builder.add(other, self)

    def __sub__(self, other: Operand) -> Value:
        return self.builder.sub(self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.builder.sub(other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.builder.mul(self, other)

    def __rmul__(self, other: Operand) -> Value:
        return self.builder.mul(other, self)

    def __truediv__(self, other: Operand) -> Value:
        return self.builder.div(self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self.builder.div(other, self)

    def __floordiv__(self, other: Operand) -> Value:
        """Division of non-negative integers (indices)."""
        return self.builder.div(self, other)

    def __mod__(self, other: Operand) -> Value:
        """Remainder of non-negative integers (indices)."""
        return self.builder.rem(self, other)

    def __neg__(self) -> Value:
        return self.builder.neg(self)

    def __lt__(self, other: Operand) -> Value:
        return self.builder.compare("lt", self, other)

    def __le__(self, other: Operand) -> Value:
        return self.builder.compare("le", self, other)

    def __gt__(self, other: Operand) -> Value:
        return self.builder.compare("gt", self, other)

    def __ge__(self, other: Operand) -> Value:
        return self.builder.compare("ge", self, other)

    def __and__(self, other: Operand) -> Value:
        return self.builder.bitwise("and", self, other)

    def __or__(self, other: Operand) -> Value:
        return self.builder.bitwise("or", self, other)

    def __xor__(self, other: Operand) -> Value:
        return self.builder.bitwise("xor", self, other)

    def __invert__(self) -> Value:
        return self.builder.bitwise("xor", self, True if self.dtype is DType.BOOL else -1)


Operand = Value | int | float | bool
Index = Value | int


def is_value(index: Index) -> bool:
    """Whether an index is known only at run time."""
    return isinstance(index, Value)
