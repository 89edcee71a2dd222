"""Typed builder of LLVM IR text.

`FunctionBuilder` gives kernels a small vocabulary: typed values with Python operators, loads and stores, counted
loops, selects and the arithmetic of ONNX. Everything is static single assignment text; mutable `Variable`s are
stack slots that LLVM's SROA pass turns into registers. A plain Python `int` stands for an index constant wherever
an index is wanted, so extents may be integers (static) or values (symbolic) without a second code path.

No fast-math flag is ever written: results are those of the operations in the order in which they stand
(design, section 3: bits do not depend on threads, batch mix or bounds).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.rounding import (
    bfloat16_to_float32,
    float32_to_bfloat16,
    float64_to_float32_odd,
    float_to_integer,
)

__all__ = ["FunctionBuilder", "Index", "ModuleBuilder", "Pointer", "Value", "Variable", "is_value"]

_SCALARS = {
    DType.BOOL: "i1", DType.UINT8: "i8", DType.INT8: "i8", DType.UINT16: "i16", DType.INT16: "i16",
    DType.UINT32: "i32", DType.INT32: "i32", DType.UINT64: "i64", DType.INT64: "i64", DType.FLOAT16: "half",
    DType.BFLOAT16: "i16", DType.FLOAT32: "float", DType.FLOAT64: "double",
}  # fmt: skip
_SUFFIXES = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}


def llvm_type(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type of a value in a register."""
    scalar = _SCALARS[dtype]
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def _memory_type(dtype: DType, lanes: int) -> str:
    scalar = "i8" if dtype is DType.BOOL else _SCALARS[dtype]
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


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


class ModuleBuilder:
    """The text of one LLVM module: functions, external declarations and constant tables."""

    def __init__(self) -> None:
        self._functions: list[str] = []
        self._declarations: dict[str, str] = {}
        self._globals: dict[str, str] = {}

    def function(
        self, name: str, parameters: Sequence[tuple[str, str]], *, result: str = "void", internal: bool = True
    ) -> FunctionBuilder:
        """Start a function; `finish()` on the builder adds its text to this module.

        Args:
            name: symbol name.
            parameters: (LLVM type with attributes, name) of each parameter.
            result: LLVM return type.
            internal: whether the symbol stays private to the module.
        """
        return FunctionBuilder(self, name, parameters, result, internal)

    def declare(self, name: str, signature: str) -> None:
        """Declare an external function once, `signature` being its whole `declare` line."""
        self._declarations.setdefault(name, signature)

    def add_text(self, text: str) -> None:
        """Add a finished definition."""
        self._functions.append(text)

    def table(self, name: str, dtype: DType, numbers: Sequence[int | float]) -> Pointer:
        """A private constant array; equal names must hold equal tables."""
        scalar = _memory_type(dtype, 1)
        items = ", ".join(f"{scalar} {_literal(dtype, n)}" for n in numbers)
        self._globals.setdefault(
            name, f"@{name} = private unnamed_addr constant [{len(numbers)} x {scalar}] [{items}], align 64"
        )
        return Pointer(f"@{name}")

    def text(self) -> str:
        """The whole module."""
        parts = [*self._globals.values(), *self._declarations.values(), *self._functions, ATTRIBUTES]
        return "\n".join(parts)


ATTRIBUTES = 'attributes #0 = { nounwind "no-trapping-math"="true" "frame-pointer"="none" }\n'


class Variable:
    """A mutable scalar or vector: a stack slot made in the entry block, promoted to a register by SROA."""

    def __init__(self, builder: FunctionBuilder, slot: Pointer, dtype: DType, lanes: int) -> None:
        self._builder, self._slot, self.dtype, self.lanes = builder, slot, dtype, lanes

    def get(self) -> Value:
        """The current value."""
        kind = llvm_type(self.dtype, self.lanes)
        return self._builder.emit(f"load {kind}, ptr {self._slot.text}", self.dtype, self.lanes)

    def set(self, value: Operand) -> None:
        """Replace the value."""
        stored = self._builder.coerce(value, self.dtype, self.lanes)
        self._builder.statement(f"store {stored.type} {stored.text}, ptr {self._slot.text}")


class FunctionBuilder:
    """Emits one LLVM function."""

    def __init__(
        self,
        module: ModuleBuilder,
        name: str,
        parameters: Sequence[tuple[str, str]],
        result: str,
        internal: bool,
    ) -> None:
        self.module, self.name = module, name
        arguments = ", ".join(f"{kind} %{label}" for kind, label in parameters)
        linkage = "internal" if internal else ""
        self._head = f"define {linkage} {result} @{name}({arguments}) #0 {{"
        self._allocas: list[str] = []
        self._lines: list[str] = []
        self._counter = 0
        self._block = "body"

    # -- text -------------------------------------------------------------------------------------------------

    def fresh(self, prefix: str = "v") -> str:
        """A new register or label name without sigil."""
        self._counter += 1
        return f"{prefix}{self._counter}"

    def emit(self, text: str, dtype: DType, lanes: int = 1) -> Value:
        """Emit an instruction that yields a value."""
        name = f"%{self.fresh()}"
        self._lines.append(f"  {name} = {text}")
        return Value(self, name, dtype, lanes)

    def statement(self, text: str) -> None:
        """Emit an instruction without a result."""
        self._lines.append(f"  {text}")

    def label(self, name: str) -> None:
        """Start a basic block."""
        self._lines.append(f"{name}:")
        self._block = name

    @property
    def block(self) -> str:
        """Name of the basic block that is being filled (for hand-written phi nodes)."""
        return self._block

    def reserve_line(self) -> int:
        """Keep a place for a line that is known only later (a phi)."""
        self._lines.append("")
        return len(self._lines) - 1

    def fill_line(self, place: int, text: str) -> None:
        """Fill a place from `reserve_line`."""
        self._lines[place] = f"  {text}"

    def finish(self, result: Value | None = None) -> None:
        """Return from the function and hand its text to the module."""
        self.statement("ret void" if result is None else f"ret {result.type} {result.text}")
        lines = [self._head, "entry:", *self._allocas, "  br label %body", "body:", *self._lines, "}", ""]
        self.module.add_text("\n".join(lines))

    # -- constants and conversions ----------------------------------------------------------------------------

    def const(self, dtype: DType, number: int | float | bool, lanes: int = 1) -> Value:
        """A constant, splat over the lanes."""
        literal = _literal(dtype, number)
        if lanes == 1:
            return Value(self, literal, dtype)
        return Value(self, f"splat ({_SCALARS[dtype]} {literal})", dtype, lanes)

    def index(self, number: Index) -> Value:
        """An index as a value."""
        return number if isinstance(number, Value) else self.const(DType.INT64, number)

    def coerce(self, operand: Operand, dtype: DType, lanes: int) -> Value:
        """A constant or value as `dtype` x `lanes`; scalars are splat, types are never changed silently."""
        if not isinstance(operand, Value):
            return self.const(dtype, operand, lanes)
        if operand.dtype is not dtype:
            raise TypeError(f"{operand.dtype} where {dtype} is expected in {self.name}")
        return self.splat(operand, lanes)

    def splat(self, value: Value, lanes: int) -> Value:
        """A scalar repeated over the lanes; a vector of that many lanes stays as it is."""
        if value.lanes == lanes:
            return value
        if value.lanes != 1:
            raise TypeError(f"{value.lanes} lanes where {lanes} are expected in {self.name}")
        if not value.text.startswith("%"):
            return Value(self, f"splat ({_SCALARS[value.dtype]} {value.text})", value.dtype, lanes)
        kind = llvm_type(value.dtype, lanes)
        first = self.emit(
            f"insertelement {kind} poison, {value.type} {value.text}, i64 0", value.dtype, lanes
        )
        return self.emit(
            f"shufflevector {kind} {first.text}, {kind} poison, <{lanes} x i32> zeroinitializer",
            value.dtype,
            lanes,
        )

    def _pair(self, a: Operand, b: Operand) -> tuple[Value, Value]:
        like = a if isinstance(a, Value) else b
        if not isinstance(like, Value):
            raise TypeError("at least one operand must be a value")
        lanes = max(x.lanes for x in (a, b) if isinstance(x, Value))
        return self.coerce(a, like.dtype, lanes), self.coerce(b, like.dtype, lanes)

    def cast(self, value: Value, dtype: DType) -> Value:
        """Numeric conversion. Float to integer truncates and saturates; NaN becomes 0; to bool is `!= 0`."""
        source = value.dtype
        if source is dtype:
            return value
        if dtype is DType.BOOL:
            wide = self.cast(value, DType.FLOAT32) if source is DType.BFLOAT16 else value
            return self.compare("ne", wide, 0)
        target = llvm_type(dtype, value.lanes)
        if source.is_float and dtype.is_float:
            return self._cast_float(value, dtype)
        if source.is_float:
            wide = self.cast(value, DType.FLOAT32) if source.size_bytes == 2 else value
            return float_to_integer(self, wide, dtype)
        if dtype.is_float:
            narrow = dtype if dtype.size_bytes > 2 else DType.FLOAT32
            opcode = "sitofp" if source.is_signed else "uitofp"
            kind = llvm_type(narrow, value.lanes)
            number = self.emit(f"{opcode} {value.type} {value.text} to {kind}", narrow, value.lanes)
            return self.cast(number, dtype)
        if source.size_bytes == dtype.size_bytes and source is not DType.BOOL:
            return Value(self, value.text, dtype, value.lanes)
        if source is DType.BOOL or source.size_bytes < dtype.size_bytes:
            opcode = "sext" if source.is_signed else "zext"
        else:
            opcode = "trunc"
        return self.emit(f"{opcode} {value.type} {value.text} to {target}", dtype, value.lanes)

    def _cast_float(self, value: Value, dtype: DType) -> Value:
        if value.dtype.size_bytes == dtype.size_bytes:
            return self._cast_float(self._cast_float(value, DType.FLOAT32), dtype)
        if value.dtype is DType.FLOAT64 and dtype.size_bytes == 2:
            nearest = self._cast_float(value, DType.FLOAT32)
            return self._cast_float(float64_to_float32_odd(self, value, nearest), dtype)
        if dtype is DType.BFLOAT16:
            return float32_to_bfloat16(self, value)
        if value.dtype is DType.BFLOAT16:
            return self.cast(bfloat16_to_float32(self, value), dtype)
        opcode = "fpext" if value.dtype.size_bytes < dtype.size_bytes else "fptrunc"
        kind = llvm_type(dtype, value.lanes)
        return self.emit(f"{opcode} {value.type} {value.text} to {kind}", dtype, value.lanes)

    def bitcast(self, value: Value, dtype: DType) -> Value:
        """The same bits under another type of the same size."""
        kind = llvm_type(dtype, value.lanes)
        if kind == value.type:
            return Value(self, value.text, dtype, value.lanes)
        return self.emit(f"bitcast {value.type} {value.text} to {kind}", dtype, value.lanes)

    # -- arithmetic -------------------------------------------------------------------------------------------

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
        full = f"{name}.{_mangle(first.type)}"
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
        """The smaller; a NaN operand gives NaN."""
        return self._extreme("lt", "llvm.minimum", a, b)

    def maximum(self, a: Operand, b: Operand) -> Value:
        """The larger; a NaN operand gives NaN."""
        return self._extreme("gt", "llvm.maximum", a, b)

    def _extreme(self, predicate: str, intrinsic: str, a: Operand, b: Operand) -> Value:
        left, right = self._pair(a, b)
        if left.dtype.is_float:
            return self.intrinsic(intrinsic, left, right)
        return self.select(self.compare(predicate, left, right), left, right)

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

    # -- memory -----------------------------------------------------------------------------------------------

    def offset(self, pointer: Pointer, dtype: DType, index: Index) -> Pointer:
        """The address of element `index`."""
        if not isinstance(index, Value) and index == 0:
            return pointer
        text = index.text if isinstance(index, Value) else str(index)
        name = f"%{self.fresh('p')}"
        self._lines.append(
            f"  {name} = getelementptr {_memory_type(dtype, 1)}, ptr {pointer.text}, i64 {text}"
        )
        return Pointer(name)

    def load(
        self, pointer: Pointer, dtype: DType, index: Index = 0, *, lanes: int = 1, align: int | None = None
    ) -> Value:
        """Read `lanes` consecutive elements from element `index`. Default alignment: one element."""
        address = self.offset(pointer, dtype, index)
        kind = _memory_type(dtype, lanes)
        raw = self.emit(
            f"load {kind}, ptr {address.text}, align {align or dtype.size_bytes}",
            DType.UINT8 if dtype is DType.BOOL else dtype, lanes,
        )  # fmt: skip
        return self.compare("ne", raw, 0) if dtype is DType.BOOL else raw

    def store(self, value: Value, pointer: Pointer, index: Index = 0, *, align: int | None = None) -> None:
        """Write a scalar or a vector of consecutive elements."""
        stored = self.cast(value, DType.UINT8) if value.dtype is DType.BOOL else value
        address = self.offset(pointer, stored.dtype, index)
        alignment = align or stored.dtype.size_bytes
        self.statement(f"store {stored.type} {stored.text}, ptr {address.text}, align {alignment}")

    def load_partial(self, pointer: Pointer, dtype: DType, index: Index, *, lanes: int, valid: int) -> Value:
        """Read the first `valid` of `lanes` consecutive elements; the other lanes are zero and not touched."""
        address = self.offset(pointer, dtype, index)
        kind = llvm_type(dtype, lanes)
        name = f"llvm.masked.load.{_mangle(kind)}.p0"
        self.module.declare(name, f"declare {kind} @{name}(ptr, <{lanes} x i1>, {kind})")
        return self.emit(
            f"call {kind} @{name}(ptr align {dtype.size_bytes} {address.text}, {_mask(lanes, valid)}, "
            f"{kind} zeroinitializer)", dtype, lanes,
        )  # fmt: skip

    def store_partial(self, value: Value, pointer: Pointer, index: Index, *, valid: int) -> None:
        """Write the first `valid` lanes of a vector; nothing else is touched."""
        address = self.offset(pointer, value.dtype, index)
        name = f"llvm.masked.store.{_mangle(value.type)}.p0"
        self.module.declare(name, f"declare void @{name}({value.type}, ptr, <{value.lanes} x i1>)")
        self.statement(
            f"call void @{name}({value.type} {value.text}, ptr align {value.dtype.size_bytes} {address.text}, "
            f"{_mask(value.lanes, valid)})"
        )

    def masked_store(self, value: Value, pointer: Pointer, index: Index, mask: Value) -> None:
        """Write the lanes of a vector where `mask` holds; nothing else is touched."""
        address = self.offset(pointer, value.dtype, index)
        name = f"llvm.masked.store.{_mangle(value.type)}.p0"
        self.module.declare(name, f"declare void @{name}({value.type}, ptr, <{value.lanes} x i1>)")
        self.statement(
            f"call void @{name}({value.type} {value.text}, ptr align {value.dtype.size_bytes} {address.text}, "
            f"{mask.type} {mask.text})"
        )

    def prefetch(self, pointer: Pointer, dtype: DType, index: Index) -> None:
        """Ask for a cache line that will be read soon."""
        address = self.offset(pointer, dtype, index)
        self.module.declare("llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.statement(f"call void @llvm.prefetch.p0(ptr {address.text}, i32 0, i32 3, i32 1)")

    def variable(self, dtype: DType, initial: Operand, lanes: int = 1) -> Variable:
        """A mutable variable, set to `initial` here."""
        name = f"%{self.fresh('slot')}"
        self._allocas.append(f"  {name} = alloca {llvm_type(dtype, lanes)}, align {64 if lanes > 1 else 8}")
        variable = Variable(self, Pointer(name), dtype, lanes)
        variable.set(initial)
        return variable

    def stack_array(self, dtype: DType, count: int) -> Pointer:
        """A small uninitialised array on the stack of this call."""
        name = f"%{self.fresh('array')}"
        self._allocas.append(f"  {name} = alloca [{count} x {_memory_type(dtype, 1)}], align 64")
        return Pointer(name)

    # -- control ----------------------------------------------------------------------------------------------

    @contextmanager
    def range(self, low: Index, high: Index, step: int = 1) -> Iterator[Index]:
        """`for i in range(low, high, step)`; a single static trip is emitted in line, zero trips are legal."""
        if not is_value(low) and not is_value(high) and low < high <= low + step:
            yield low
            return
        header, body, done = self.fresh("head"), self.fresh("loop"), self.fresh("done")
        start, stop = self.index(low), self.index(high)
        before = self.block
        self.statement(f"br label %{header}")
        self.label(header)
        place = self.reserve_line()
        counter = Value(self, f"%{self.fresh('i')}", DType.INT64)
        again = self.compare("lt", counter, stop)
        self.statement(f"br i1 {again.text}, label %{body}, label %{done}")
        self.label(body)
        yield counter
        following = self.emit(f"add nsw i64 {counter.text}, {step}", DType.INT64)
        self.fill_line(
            place,
            f"{counter.text} = phi i64 [ {start.text}, %{before} ], [ {following.text}, %{self.block} ]",
        )
        self.statement(f"br label %{header}")
        self.label(done)

    def reduce(
        self,
        low: Index,
        high: Index,
        initial: Sequence[Value],
        body: Callable[[Index, list[Value]], Sequence[Value]],
        step: int = 1,
    ) -> list[Value]:
        """A loop that carries values in registers; zero trips return `initial`.

        The loop test stands at the bottom, guarded by one test before the first trip where the bounds are not
        static.
        """
        carried = list(initial)
        if not is_value(low) and not is_value(high):
            if high <= low:
                return carried
            if high <= low + step:
                return list(body(low, carried))
        loop, done = self.fresh("loop"), self.fresh("done")
        start, stop = self.index(low), self.index(high)
        guarded = is_value(low) or is_value(high)
        before = self.block
        if guarded:
            enter = self.compare("lt", start, stop)
            self.statement(f"br i1 {enter.text}, label %{loop}, label %{done}")
        else:
            self.statement(f"br label %{loop}")
        self.label(loop)
        places = [self.reserve_line() for _ in range(len(carried) + 1)]
        counter = Value(self, f"%{self.fresh('i')}", DType.INT64)
        phis = [Value(self, f"%{self.fresh('acc')}", v.dtype, v.lanes) for v in carried]
        results = list(body(counter, list(phis)))
        following = self.emit(f"add nsw i64 {counter.text}, {step}", DType.INT64)
        again = self.compare("lt", following, stop)
        latch = self.block
        self.statement(f"br i1 {again.text}, label %{loop}, label %{done}")
        self.fill_line(
            places[0], f"{counter.text} = phi i64 [ {start.text}, %{before} ], [ {following.text}, %{latch} ]"
        )
        for place, phi, first, last in zip(places[1:], phis, carried, results, strict=True):
            self.fill_line(
                place, f"{phi.text} = phi {phi.type} [ {first.text}, %{before} ], [ {last.text}, %{latch} ]"
            )
        self.label(done)
        if not guarded:
            return results
        return [
            self.emit(f"phi {r.type} [ {i.text}, %{before} ], [ {r.text}, %{latch} ]", r.dtype, r.lanes)
            for i, r in zip(carried, results, strict=True)
        ]

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Emit a block that runs only where the scalar condition holds."""
        yes, done = self.fresh("then"), self.fresh("endif")
        self.statement(f"br i1 {condition.text}, label %{yes}, label %{done}")
        self.label(yes)
        yield
        self.statement(f"br label %{done}")
        self.label(done)

    def vectorize(self, count: Index, lanes: int, body: Callable[[Index, int], None]) -> None:
        """Call `body(first, lanes)` over whole vectors, then `body(i, 1)` over the rest.

        The two bodies apply the same operations element by element, so results do not depend on where the
        vectors end.
        """
        if lanes == 1:
            if is_value(count) or count > 0:
                with self.range(0, count) as i:
                    body(i, 1)
            return
        if not is_value(count):
            whole: Index = count // lanes * lanes
        else:
            whole = count - count % lanes
        if is_value(whole) or whole > 0:
            with self.range(0, whole, lanes) as i:
                body(i, lanes)
        if is_value(count) or whole < count:
            with self.range(whole, count) as i:
                body(i, 1)


def _mask(lanes: int, valid: int) -> str:
    bits = ", ".join("i1 true" if lane < valid else "i1 false" for lane in range(lanes))
    return f"<{lanes} x i1> <{bits}>"


def _mangle(kind: str) -> str:
    if kind.startswith("<"):
        count, _, scalar = kind[1:-1].split(" ")
        return f"v{count}{_SUFFIXES.get(scalar, scalar)}"
    return _SUFFIXES.get(kind, kind)


def _literal(dtype: DType, number: int | float | bool) -> str:
    if dtype is DType.BOOL:
        return "true" if number else "false"
    if not dtype.is_float:
        return str(_wrap(dtype, int(number)))
    if dtype is DType.FLOAT64:
        bits = struct.unpack("<Q", struct.pack("<d", number))[0]
        return f"0x{bits:016X}"
    if dtype is DType.FLOAT32:
        rounded = _to_float32(float(number))
        return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"
    if dtype is DType.FLOAT16:
        return f"0xH{struct.unpack('<H', struct.pack('<e', number))[0]:04X}"
    return str(_wrap(DType.INT16, _bfloat16_bits(float(number))))


def _bfloat16_bits(number: float) -> int:
    """Bits of a constant rounded to bfloat16, ties to even; NaN stays NaN."""
    bits = int(struct.unpack("<I", struct.pack("<f", _to_float32(number)))[0])
    if number != number:
        return 0x7FC0
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def _to_float32(number: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _wrap(dtype: DType, number: int) -> int:
    bits = dtype.size_bytes * 8
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number
