"""Loads, stores, prefetches and mutable variables."""

from __future__ import annotations

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.arithmetic import Arithmetic
from plumbline.kernels.emit.conversion import Conversion
from plumbline.kernels.emit.spelling import lane_mask, llvm_type, mangle, memory_type
from plumbline.kernels.emit.value import Index, Operand, Pointer, Value

__all__ = ["MemoryAccess", "Variable"]


class Variable:
    """A mutable scalar or vector: a stack slot made in the entry block, promoted to a register by SROA."""

    def __init__(self, builder: Conversion, slot: Pointer, dtype: DType, lanes: int) -> None:
        self._builder, self._slot, self.dtype, self.lanes = builder, slot, dtype, lanes

    def get(self) -> Value:
        """The current value."""
        kind = llvm_type(self.dtype, self.lanes)
        return self._builder.emit(f"load {kind}, ptr {self._slot.text}", self.dtype, self.lanes)

    def set(self, value: Operand) -> None:
        """Replace the value."""
        stored = self._builder.coerce(value, self.dtype, self.lanes)
        self._builder.statement(f"store {stored.type} {stored.text}, ptr {self._slot.text}")


class MemoryAccess(Arithmetic):
    """Instructions that touch memory."""

    def offset(self, pointer: Pointer, dtype: DType, index: Index) -> Pointer:
        """The address of element `index`."""
        if not isinstance(index, Value) and index == 0:
            return pointer
        text = index.text if isinstance(index, Value) else str(index)
        name = f"%{self.fresh('p')}"
        self._lines.append(
            f"  {name} = getelementptr {memory_type(dtype, 1)}, ptr {pointer.text}, i64 {text}"
        )
        return Pointer(name)

    def load(
        self, pointer: Pointer, dtype: DType, index: Index = 0, *, lanes: int = 1, align: int | None = None
    ) -> Value:
        """Read `lanes` consecutive elements from element `index`. Default alignment: one element."""
        address = self.offset(pointer, dtype, index)
        kind = memory_type(dtype, lanes)
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
        """Read the first `valid` of `lanes` consecutive elements; other lanes are zero, not read."""
        address = self.offset(pointer, dtype, index)
        kind = llvm_type(dtype, lanes)
        name = f"llvm.masked.load.{mangle(kind)}.p0"
        self.module.declare(name, f"declare {kind} @{name}(ptr, <{lanes} x i1>, {kind})")
        return self.emit(
            f"call {kind} @{name}(ptr align {dtype.size_bytes} {address.text}, {lane_mask(lanes, valid)}, "
            f"{kind} zeroinitializer)", dtype, lanes,
        )  # fmt: skip

    def store_partial(self, value: Value, pointer: Pointer, index: Index, *, valid: int) -> None:
        """Write the first `valid` lanes of a vector; nothing else is touched."""
        address = self.offset(pointer, value.dtype, index)
        name = f"llvm.masked.store.{mangle(value.type)}.p0"
        self.module.declare(name, f"declare void @{name}({value.type}, ptr, <{value.lanes} x i1>)")
        self.statement(
            f"call void @{name}({value.type} {value.text}, "
            f"ptr align {value.dtype.size_bytes} {address.text}, {lane_mask(value.lanes, valid)})"
        )

    def masked_store(self, value: Value, pointer: Pointer, index: Index, mask: Value) -> None:
        """Write the lanes of a vector where `mask` holds; nothing else is touched."""
        address = self.offset(pointer, value.dtype, index)
        name = f"llvm.masked.store.{mangle(value.type)}.p0"
        self.module.declare(name, f"declare void @{name}({value.type}, ptr, <{value.lanes} x i1>)")
        self.statement(
            f"call void @{name}({value.type} {value.text}, "
            f"ptr align {value.dtype.size_bytes} {address.text}, {mask.type} {mask.text})"
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
        self._allocas.append(f"  {name} = alloca [{count} x {memory_type(dtype, 1)}], align 64")
        return Pointer(name)
