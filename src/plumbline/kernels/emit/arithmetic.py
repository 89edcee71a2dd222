"""Arithmetic, comparisons and lanes, with the meaning that ONNX gives them."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.conversion import Conversion
from plumbline.kernels.emit.spelling import llvm_type, mangle
from plumbline.kernels.emit.value import Operand, Value

__all__ = ["Arithmetic"]


class Arithmetic(Conversion):
    """Instructions that compute."""

    def binary(self, integer: str, floating: str, a: Operand, b: Operand) -> Value:
        """Emit one of two opcodes by element type."""
        left, right = self._pair(a, b)
        opcode = floating if left.dtype.is_float else integer
        return self.emit(f"{opcode} {left.type} {left.text}, {right.text}", left.dtype, left.lanes)

    def add(self, a: Operand, b: Operand) -> Value:
        """Sum; integers wrap. Adding the index constant 0 emits nothing."""
        if isinstance(a, Value) and b is not True and b == 0 and not a.dtype.is_float:
            return a
        if isinstance(b, Value) and a == 0 and not b.dtype.is_float:
            return b
        return self.binary("add", "fadd", a, b)

    def sub(self, a: Operand, b: Operand) -> Value:
        """Difference; integers wrap."""
        return self.binary("sub", "fsub", a, b)

    def mul(self, a: Operand, b: Operand) -> Value:
        """Product; integers wrap. Multiplying an index by the constant 1 emits nothing."""
        if isinstance(a, Value) and b == 1 and not isinstance(b, Value) and not a.dtype.is_float:
            return a
        if isinstance(b, Value) and a == 1 and not isinstance(a, Value) and not b.dtype.is_float:
            return b
        return self.binary("mul", "fmul", a, b)

    def div(self, a: Operand, b: Operand) -> Value:
        """Quotient; integers truncate towards zero. The caller guards against a zero integer divisor."""
        left, right = self._pair(a, b)
        opcode = "fdiv" if left.dtype.is_float else "sdiv" if left.dtype.is_signed else "udiv"
        return self.emit(f"{opcode} {left.type} {left.text}, {right.text}", left.dtype, left.lanes)

    def rem(self, a: Operand, b: Operand) -> Value:
        """Remainder with the sign of the dividend. The caller guards against a zero integer divisor."""
        left, right = self._pair(a, b)
        opcode = "frem" if left.dtype.is_float else "srem" if left.dtype.is_signed else "urem"
        return self.emit(f"{opcode} {left.type} {left.text}, {right.text}", left.dtype, left.lanes)

    def neg(self, a: Value) -> Value:
        """Negation."""
        if a.dtype.is_float:
            return self.emit(f"fneg {a.type} {a.text}", a.dtype, a.lanes)
        return self.sub(0, a)

    def fma(self, a: Operand, b: Operand, c: Value) -> Value:
        """`a * b + c` with one rounding."""
        return self.intrinsic(
            "llvm.fma", self.coerce(a, c.dtype, c.lanes), self.coerce(b, c.dtype, c.lanes), c
        )

    def intrinsic(self, name: str, *operands: Value) -> Value:
        """Call an LLVM intrinsic overloaded on the type that all operands share."""
        first = operands[0]
        full = f"{name}.{mangle(first.type)}"
        types = ", ".join([first.type] * len(operands))
        self.module.declare(full, f"declare {first.type} @{full}({types})")
        arguments = ", ".join(f"{first.type} {o.text}" for o in operands)
        return self.emit(f"call {first.type} @{full}({arguments})", first.dtype, first.lanes)

    def call_external(self, name: str, *operands: Value) -> Value:
        """Call a scalar C library function lane by lane (`sinf`, `pow`, ...)."""
        first = operands[0]
        scalar = llvm_type(first.dtype)
        self.module.declare(name, f"declare {scalar} @{name}({', '.join([scalar] * len(operands))})")
        if first.lanes == 1:
            arguments = ", ".join(f"{scalar} {o.text}" for o in operands)
            return self.emit(f"call {scalar} @{name}({arguments})", first.dtype)
        result = self.const(first.dtype, 0, first.lanes)
        for lane in range(first.lanes):
            scalars = [self.extract(o, lane) for o in operands]
            result = self.insert(result, self.call_external(name, *scalars), lane)
        return result

    def extract(self, value: Value, lane: int) -> Value:
        """One lane of a vector."""
        return self.emit(f"extractelement {value.type} {value.text}, i64 {lane}", value.dtype)

    def insert(self, vector: Value, scalar: Value, lane: int) -> Value:
        """A vector with one lane replaced."""
        return self.emit(
            f"insertelement {vector.type} {vector.text}, {scalar.type} {scalar.text}, i64 {lane}",
            vector.dtype, vector.lanes,
        )  # fmt: skip

    def sqrt(self, a: Value) -> Value:
        """Correctly rounded square root."""
        return self.intrinsic("llvm.sqrt", a)

    def absolute(self, a: Value) -> Value:
        """Absolute value; the most negative integer wraps to itself."""
        if a.dtype.is_float:
            return self.intrinsic("llvm.fabs", a)
        if not a.dtype.is_signed:
            return a
        return self.select(a < 0, self.neg(a), a)

    def minimum(self, a: Operand, b: Operand) -> Value:
        """The smaller; a NaN operand gives NaN. Of two zeros either may be returned."""
        return self._extreme("lt", a, b)

    def maximum(self, a: Operand, b: Operand) -> Value:
        """The larger; a NaN operand gives NaN. Of two zeros either may be returned."""
        return self._extreme("gt", a, b)

    def _extreme(self, predicate: str, a: Operand, b: Operand) -> Value:
        """Select by comparison: the operand that stands last is kept where the comparison fails, as with NaN.

        With a number on one side this is one instruction where the machine has a float maximum; else a NaN on
        the left must be put back.
        """
        if not isinstance(b, Value):
            a, b = b, a
        left, right = self._pair(a, b)
        chosen = self.select(self.compare(predicate, left, right), left, right)
        if not left.dtype.is_float or not isinstance(a, Value):
            return chosen
        return self.select(self.builder.is_nan(left), left, chosen)

    def compare(self, predicate: str, a: Operand, b: Operand) -> Value:
        """`lt le gt ge eq ne`; with NaN every ordered comparison is false and `ne` is true."""
        left, right = self._pair(a, b)
        if left.dtype.is_float:
            code = "une" if predicate == "ne" else f"o{predicate}"
            return self.emit(f"fcmp {code} {left.type} {left.text}, {right.text}", DType.BOOL, left.lanes)
        if predicate not in ("eq", "ne"):
            predicate = ("s" if left.dtype.is_signed else "u") + predicate
        return self.emit(f"icmp {predicate} {left.type} {left.text}, {right.text}", DType.BOOL, left.lanes)

    def is_nan(self, a: Value) -> Value:
        """Whether a float is NaN."""
        return self.emit(f"fcmp uno {a.type} {a.text}, {a.text}", DType.BOOL, a.lanes)

    def select(self, condition: Value, a: Operand, b: Operand) -> Value:
        """`a` where the condition holds, else `b`."""
        left, right = self._pair(a, b)
        lanes = max(left.lanes, condition.lanes)
        left, right, condition = (
            self.splat(left, lanes),
            self.splat(right, lanes),
            self.splat(condition, lanes),
        )
        return self.emit(
            f"select {condition.type} {condition.text}, {left.type} {left.text}, {right.type} {right.text}",
            left.dtype, lanes,
        )  # fmt: skip

    def bitwise(self, opcode: str, a: Operand, b: Operand) -> Value:
        """`and or xor` of integers or bools."""
        return self.binary(opcode, opcode, a, b)

    def shift_left(self, a: Value, b: Operand) -> Value:
        """Left shift; the caller keeps the amount under the width."""
        return self.binary("shl", "shl", a, b)

    def shift_right(self, a: Value, b: Operand) -> Value:
        """Right shift, arithmetic for signed types; the caller keeps the amount under the width."""
        opcode = "ashr" if a.dtype.is_signed else "lshr"
        return self.binary(opcode, opcode, a, b)

    def reduce_lanes(self, kind: str, value: Value) -> Value:
        """Fold the lanes of a vector in a fixed tree: halves are combined until one lane is left.

        Args:
            kind: `add`, `mul`, `max` or `min`.
        """
        operations = {"add": self.add, "mul": self.mul, "max": self.maximum, "min": self.minimum}
        while value.lanes > 1:
            half = value.lanes // 2
            low = self.shuffle(value, range(half))
            value = operations[kind](low, self.shuffle(value, range(half, value.lanes)))
        return value

    def shuffle(self, value: Value, lanes: Sequence[int], other: Value | None = None) -> Value:
        """Choose lanes of one vector (or of two, the second numbered after the first)."""
        if len(lanes) == 1:
            return self.extract(value, lanes[0])
        mask = ", ".join(f"i32 {lane}" for lane in lanes)
        second = f"{value.type} {other.text}" if other is not None else f"{value.type} poison"
        return self.emit(
            f"shufflevector {value.type} {value.text}, {second}, <{len(lanes)} x i32> <{mask}>",
            value.dtype, len(lanes),
        )  # fmt: skip
