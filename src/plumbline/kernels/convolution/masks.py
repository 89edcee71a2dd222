"""Vectors along the last axis of an image with lanes switched off: borders and row ends without scalar code.

A lane that is off touches no memory.
"""

from __future__ import annotations

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value, llvm_type
from plumbline.kernels.emit.tensor import TensorRef

__all__ = ["lane_numbers", "load_lanes", "power_of_two_lanes", "scatter_lanes", "store_lanes", "within"]

_SUFFIX = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}


def lane_numbers(b: FunctionBuilder, lanes: int, step: int = 1) -> Value:
    """The int32 vector 0, step, 2 * step, ..."""
    items = ", ".join(f"i32 {lane * step}" for lane in range(lanes))
    return Value(b, f"<{items}>", DType.INT32, lanes)


def power_of_two_lanes(extent: object, most: int) -> int:
    """Lanes for rows of `extent` elements: the smallest power of two, at least 2, that holds a short row."""
    if not isinstance(extent, int):
        return most
    lanes = 2
    while lanes < min(extent, most):
        lanes *= 2
    return lanes


def within(b: FunctionBuilder, positions: Value, extent: Index) -> Value:
    """Which int32 positions lie in `[0, extent)`."""
    limit = b.cast(b.index(extent), DType.UINT32)
    return b.compare("lt", b.cast(positions, DType.UINT32), b.splat(limit, positions.lanes))


def load_lanes(
    b: FunctionBuilder,
    tensor: TensorRef,
    row: Index,
    positions: Value,
    valid: Value,
    step: Index,
    other: Value,
) -> Value:
    """Read elements `row + positions` where `valid`, else take `other`.

    Args:
        b: function that receives the code.
        tensor: source.
        row: element offset of the row.
        positions: int32 positions in the row, evenly spaced by `step`.
        valid: bool per lane.
        step: distance of neighbouring positions; 1 allows one contiguous read.
        other: value of lanes that are off, in the element type of the tensor.
    """
    if isinstance(step, int) and step == 1:
        first = b.cast(b.extract(positions, 0), DType.INT64)
        address = b.offset(tensor.pointer, tensor.dtype, first + row)
        return _masked_read(b, "load", address.text, "ptr", "p0", tensor.dtype, valid, other)
    base = b.offset(tensor.pointer, tensor.dtype, row)
    scalar, lanes = llvm_type(tensor.dtype), positions.lanes
    name = b.emit(
        f"getelementptr {scalar}, ptr {base.text}, {positions.type} {positions.text}", DType.INT64, lanes
    )
    kind = f"<{lanes} x ptr>"
    return _masked_read(b, "gather", name.text, kind, f"v{lanes}p0", tensor.dtype, valid, other)


def _masked_read(
    b: FunctionBuilder,
    verb: str,
    address: str,
    kind: str,
    suffix: str,
    dtype: DType,
    valid: Value,
    other: Value,
) -> Value:
    lanes = valid.lanes
    vector = llvm_type(dtype, lanes)
    scalar = llvm_type(dtype)
    full = f"llvm.masked.{verb}.v{lanes}{_SUFFIX.get(scalar, scalar)}.{suffix}"
    b.module.declare(full, f"declare {vector} @{full}({kind}, <{lanes} x i1>, {vector})")
    return b.emit(
        f"call {vector} @{full}({kind} align {dtype.size_bytes} {address}, {valid.type} {valid.text}, "
        f"{vector} {other.text})",
        dtype, lanes,
    )  # fmt: skip


def store_lanes(b: FunctionBuilder, value: Value, pointer: Pointer, position: Index, valid: Value) -> None:
    """Write consecutive elements from `position` where `valid`."""
    address = b.offset(pointer, value.dtype, position)
    scalar = llvm_type(value.dtype)
    full = f"llvm.masked.store.v{value.lanes}{_SUFFIX.get(scalar, scalar)}.p0"
    b.module.declare(full, f"declare void @{full}({value.type}, ptr, <{value.lanes} x i1>)")
    b.statement(
        f"call void @{full}({value.type} {value.text}, ptr align {value.dtype.size_bytes} {address.text}, "
        f"{valid.type} {valid.text})"
    )


def scatter_lanes(
    b: FunctionBuilder, value: Value, pointer: Pointer, row: Index, positions: Value, valid: Value
) -> None:
    """Write elements to `row + positions` (int32) where `valid`."""
    base = b.offset(pointer, value.dtype, row)
    scalar, lanes = llvm_type(value.dtype), value.lanes
    place = b.emit(
        f"getelementptr {scalar}, ptr {base.text}, {positions.type} {positions.text}", DType.INT64, lanes
    )
    full = f"llvm.masked.scatter.v{lanes}{_SUFFIX.get(scalar, scalar)}.v{lanes}p0"
    b.module.declare(full, f"declare void @{full}({value.type}, <{lanes} x ptr>, i32 immarg, <{lanes} x i1>)")
    operands = f"{value.type} {value.text}, <{lanes} x ptr> {place.text}"
    b.statement(f"call void @{full}({operands}, i32 {value.dtype.size_bytes}, {valid.type} {valid.text})")
