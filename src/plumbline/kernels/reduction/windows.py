"""Windows on a contiguous row: whole vectors, then a partial one whose spare lanes are not touched.

Where the target has no masked access for an element type, the rest of a row goes element by element instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value, is_value, llvm_type
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef

__all__ = ["Window", "each_window", "has_masks", "partial_window", "whole_part"]

_MANGLED = {"half": "f16", "float": "f32", "double": "f64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """`lanes` consecutive positions from `first`; with a mask only those lanes count."""

    builder: FunctionBuilder
    first: Index
    lanes: int
    mask: Value | None = None

    def load(self, tensor: TensorRef, base: Index = 0) -> Value:
        """Elements of a tensor from offset `base` on; zero in lanes that do not count."""
        position = base + self.first
        if self.mask is None:
            return tensor.load_flat(position, lanes=self.lanes)
        b, kind = self.builder, llvm_type(tensor.dtype, self.lanes)
        address = b.offset(tensor.pointer, tensor.dtype, position)
        name = f"llvm.masked.load.{_mangled(tensor.dtype, self.lanes)}.p0"
        b.module.declare(name, f"declare {kind} @{name}(ptr, {self.mask.type}, {kind})")
        return b.emit(
            f"call {kind} @{name}(ptr align {tensor.dtype.size_bytes} {address.text}, "
            f"{self.mask.type} {self.mask.text}, {kind} zeroinitializer)", tensor.dtype, self.lanes,
        )  # fmt: skip

    def store(self, tensor: TensorRef, value: Value, base: Index = 0) -> None:
        """Write the lanes that count, in the element type of the tensor."""
        b, position = self.builder, base + self.first
        stored = b.cast(value, tensor.dtype)
        if self.mask is None:
            tensor.store_flat(stored, position)
            return
        address = b.offset(tensor.pointer, tensor.dtype, position)
        name = f"llvm.masked.store.{_mangled(tensor.dtype, self.lanes)}.p0"
        b.module.declare(name, f"declare void @{name}({stored.type}, ptr, {self.mask.type})")
        b.statement(
            f"call void @{name}({stored.type} {stored.text}, ptr align {tensor.dtype.size_bytes} "
            f"{address.text}, {self.mask.type} {self.mask.text})"
        )


def has_masks(target: TargetDescription, *dtypes: DType) -> bool:
    """Whether partial vectors of these element types are single instructions."""
    if target.architecture != "x86_64" or DType.BOOL in dtypes:
        return False
    return target.vector_bytes == 64 or all(dtype.size_bytes >= 4 for dtype in dtypes)


def whole_part(count: Index, step: int) -> Index:
    """The largest multiple of `step` that is not above `count`."""
    if is_value(count):
        return count - count % step
    return count // step * step


def partial_window(b: FunctionBuilder, first: Index, count: Index, lanes: int) -> Window:
    """The window from `first` whose lanes count up to position `count`; at least one does."""
    numbers = b.load(
        b.module.table(f"lane_numbers_i32_{lanes}", DType.INT32, range(lanes)), DType.INT32, 0, lanes=lanes
    )
    left = b.cast(b.index(count) - b.index(first), DType.INT32)
    return Window(builder=b, first=first, lanes=lanes, mask=b.compare("lt", numbers, left))


def each_window(
    b: FunctionBuilder, count: Index, lanes: int, masks: bool, body: Callable[[Window], None]
) -> None:
    """Call `body` for every window on a row of `count` elements."""
    if not masks:
        b.vectorize(count, lanes, lambda i, width: body(Window(builder=b, first=i, lanes=width)))
        return
    whole = whole_part(count, lanes)
    if is_value(whole) or whole > 0:
        with b.range(0, whole, lanes) as i:
            body(Window(builder=b, first=i, lanes=lanes))
    if is_value(count) or whole < count:
        with b.range(whole, count, lanes) as i:
            body(partial_window(b, i, count, lanes))


def _mangled(dtype: DType, lanes: int) -> str:
    scalar = llvm_type(dtype)
    return f"v{lanes}{_MANGLED.get(scalar, scalar)}"
