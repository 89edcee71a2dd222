"""Constants, splats and conversions between element types."""

from __future__ import annotations

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.function_text import FunctionText
from plumbline.kernels.emit.rounding import (
    bfloat16_to_float32,
    float32_to_bfloat16,
    float64_to_float32_odd,
    float_to_integer,
)
from plumbline.kernels.emit.spelling import SCALARS, literal, llvm_type
from plumbline.kernels.emit.value import Index, Operand, Value

__all__ = ["Conversion"]


class Conversion(FunctionText):
    """Instructions that make constants and change types."""

    def const(self, dtype: DType, number: int | float | bool, lanes: int = 1) -> Value:
        """A constant, splat over the lanes."""
        text = literal(dtype, number)
        if lanes == 1:
            return self.value(text, dtype)
        return self.value(f"splat ({SCALARS[dtype]} {text})", dtype, lanes)

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
            return self.value(f"splat ({SCALARS[value.dtype]} {value.text})", value.dtype, lanes)
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
            return self.builder.compare("ne", wide, 0)
        target = llvm_type(dtype, value.lanes)
        if source.is_float and dtype.is_float:
            return self._cast_float(value, dtype)
        if source.is_float:
            wide = self.cast(value, DType.FLOAT32) if source.size_bytes == 2 else value
            return float_to_integer(self.builder, wide, dtype)
        if dtype.is_float:
            narrow = dtype if dtype.size_bytes > 2 else DType.FLOAT32
            opcode = "sitofp" if source.is_signed else "uitofp"
            kind = llvm_type(narrow, value.lanes)
            number = self.emit(f"{opcode} {value.type} {value.text} to {kind}", narrow, value.lanes)
            return self.cast(number, dtype)
        if source.size_bytes == dtype.size_bytes and source is not DType.BOOL:
            return self.value(value.text, dtype, value.lanes)
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
            return self._cast_float(float64_to_float32_odd(self.builder, value, nearest), dtype)
        if dtype is DType.BFLOAT16:
            return float32_to_bfloat16(self.builder, value)
        if value.dtype is DType.BFLOAT16:
            return self.cast(bfloat16_to_float32(self.builder, value), dtype)
        opcode = "fpext" if value.dtype.size_bytes < dtype.size_bytes else "fptrunc"
        kind = llvm_type(dtype, value.lanes)
        return self.emit(f"{opcode} {value.type} {value.text} to {kind}", dtype, value.lanes)

    def bitcast(self, value: Value, dtype: DType) -> Value:
        """The same bits under another type of the same size."""
        kind = llvm_type(dtype, value.lanes)
        if kind == value.type:
            return self.value(value.text, dtype, value.lanes)
        return self.emit(f"bitcast {value.type} {value.text} to {kind}", dtype, value.lanes)
