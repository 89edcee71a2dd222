"""Operations that make tensors from a rule: fill, range, identity-like matrices, one-hot lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Expr, ceildiv, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    AttributeRefused,
    DTypeRefused,
    Inference,
    KernelCall,
    OperationContract,
    Work,
)
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.movement.operands import array, reference_dtype, required_shape
from plumbline.kernels.movement.runs import RowSplit, bits_of, fill_run
from plumbline.kernels.row_rules.choosing import one_hot_rows
from plumbline.kernels.row_rules.moving import filled
from plumbline.kernels.rows import NeverRows

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


_RUN = 4096


def _infer_fill(inference: Inference) -> tuple[TensorType, ...]:
    """Input 0: a scalar. Attribute `shape`."""
    source = inference.type(0)
    inference.require(source.elements == 1, f"one element is needed, not {source}")
    return (TensorType(source.dtype, required_shape(inference, inference.attributes["shape"])),)


class _FillKernel:
    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        return Work(units=ceildiv(signature.outputs[0].elements, _RUN), unit_cost=_RUN / 8)

    def emit(self, call: KernelCall) -> None:
        b, output = call.builder, call.output()
        bits = bits_of(output.dtype)
        value, total = b.load(call.input(0).pointer, bits), b.index(output.elements)
        with b.range(call.begin, call.end) as unit:
            first = b.index(unit) * _RUN
            fill_run(b, call.target, value, (output.pointer, first), b.minimum(total - first, _RUN))


def _infer_range(inference: Inference) -> tuple[TensorType, ...]:
    """Optional inputs: start and step, scalars of one type.

    Attributes: `size`; without inputs also `dtype` and the dimensions `start` and `step`.
    """
    size = inference.attributes["size"]
    inference.require(isinstance(size, Expr) or size >= 0, f"negative size {size}")
    if not inference.inputs:
        return (TensorType(DType(inference.attributes["dtype"]), (size,)),)
    start, step = inference.type(0), inference.type(1)
    inference.require(start.elements == step.elements == 1, "start and step are scalars")
    if start.dtype is not step.dtype or start.dtype is DType.BOOL:
        raise DTypeRefused(operation="range", dtype=start.dtype.value, needed="one numeric type")
    return (TensorType(start.dtype, (size,)),)


class _RangeKernel:
    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        return Work(units=ceildiv(signature.outputs[0].elements, _RUN), unit_cost=_RUN)

    def emit(self, call: KernelCall) -> None:
        b, output = call.builder, call.output()
        wide = _wide(output.dtype)
        if call.signature.inputs:
            start, step = (b.cast(call.input(i).load_flat(0), wide) for i in (0, 1))
        else:
            numbers = (call.dim(call.attributes["start"]), call.dim(call.attributes["step"]))
            start, step = (b.cast(b.index(n), wide) for n in numbers)
        total = b.index(output.elements)
        with b.range(call.begin, call.end) as unit:
            first = b.index(unit) * _RUN
            with b.range(first, b.minimum(first + _RUN, total)) as i:
                value = start + b.cast(b.index(i), wide) * step
                output.store_flat(b.cast(value, output.dtype), i)


def _wide(dtype: DType) -> DType:
    """Integers count in int64, half-width floats in float32."""
    if dtype.is_integer:
        return DType.INT64
    return DType.FLOAT32 if dtype.size_bytes == 2 else dtype


def _reference_range(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    steps = np.arange(attributes["size"])
    if not inputs:
        return (
            (attributes["start"] + steps * attributes["step"]).astype(
                reference_dtype(DType(attributes["dtype"]))
            ),
        )
    start, step = array(inputs, 0).reshape(()), array(inputs, 1).reshape(())
    wide = np.dtype(_wide(DType.of(start)).value)
    return ((start.astype(wide) + steps.astype(wide) * step.astype(wide)).astype(start.dtype),)


def _infer_eye(inference: Inference) -> tuple[TensorType, ...]:
    """Attributes: `shape` (two dimensions), `k` (diagonal), `dtype`."""
    shape = required_shape(inference, inference.attributes["shape"])
    inference.require(len(shape) == 2, f"a matrix is needed, not {shape}")
    return (TensorType(DType(inference.attributes["dtype"]), shape),)


class _EyeKernel:
    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        return Work(units=signature.outputs[0].shape[0], unit_cost=64)

    def emit(self, call: KernelCall) -> None:
        b, output = call.builder, call.output()
        zero, one = b.const(bits_of(output.dtype), 0), b.const(output.dtype, 1)
        columns = output.shape[1]
        with b.range(call.begin, call.end) as row:
            start = b.index(row) * columns
            fill_run(b, call.target, zero, (output.pointer, start), columns)
            column = b.index(row) + int(call.attributes["k"])
            with b.when((column >= 0) & (column < columns)):
                output.store_flat(one, start + column)


def _reference_eye(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    rows, columns = attributes["shape"]
    return (np.eye(rows, columns, k=attributes["k"], dtype=reference_dtype(DType(attributes["dtype"]))),)


def _infer_one_hot(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: indices (any number type, truncated), values `[off, on]`. Attributes: `depth`, `axis`.

    Indices in `[-depth, depth)` choose; others give a line of `off`.
    """
    indices, values = inference.type(0), inference.type(1)
    inference.require(values.shape == (2,), f"values are [off, on], not {values}")
    rank = indices.rank + 1
    axis = int(inference.attributes["axis"])
    if not -rank <= axis < rank:
        raise AttributeRefused(
            operation="one_hot", attribute="axis", value=str(axis), reason=f"result rank {rank}"
        )
    axis %= rank
    shape = (*indices.shape[:axis], inference.attributes["depth"], *indices.shape[axis:])
    return (TensorType(values.dtype, required_shape(inference, shape)),)


class _OneHotKernel:
    """One unit is a few (outer, depth) lines of the inner extent, compared with the indices of that outer."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = _one_hot_split(signature)
        return Work(units=split.units, unit_cost=2.0 * split.unit_elements)

    def emit(self, call: KernelCall) -> None:
        b, indices, values, output = call.builder, call.input(0), call.input(1), call.output()
        bits = bits_of(output.dtype)
        off, on = b.load(values.pointer, bits, 0), b.load(values.pointer, bits, 1)
        depth = b.index(call.dim(call.attributes["depth"]))
        with _one_hot_split(call.signature).each(call, call.begin, call.end) as (line, _, inner):
            outer, chosen = b.index(line) // depth, b.index(line) % depth
            with b.range(0, inner) as i:
                index = b.cast(indices.load_flat(outer * inner + i), DType.INT64)
                index = b.select(index < 0, index + depth, index)
                value = b.select(b.compare("eq", index, chosen), on, off)
                b.store(value, output.pointer, b.index(line) * inner + i)


def _one_hot_split(signature: StepSignature) -> RowSplit:
    shape = signature.outputs[0].shape
    axis = signature.attributes["axis"] % len(shape)
    return RowSplit.plan(product(shape[: axis + 1]), product(shape[axis + 1 :]), divisible=False)


def _reference_one_hot(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    indices, (off, on) = array(inputs, 0).astype(np.int64), array(inputs, 1)
    depth, rank = attributes["depth"], indices.ndim + 1
    axis = attributes["axis"] % rank
    wrapped = np.where(indices < 0, indices + depth, indices)
    classes = np.arange(depth).reshape([-1 if i == axis else 1 for i in range(rank)])
    return (np.where(np.expand_dims(wrapped, axis) == classes, on, off),)


ALL = frozenset(DType)

CONTRACTS = (
    OperationContract(
        name="constant_of_shape",
        rows=filled,
        infer=_infer_fill,
        kernel=_FillKernel(),
        dtypes=ALL,
        reference=lambda inputs, attributes: (np.full(attributes["shape"], array(inputs).reshape(())),),
    ),
    OperationContract(
        name="range",
        rows=NeverRows("it numbers the rows"),
        infer=_infer_range,
        reference=_reference_range,
        kernel=_RangeKernel(),
        dtypes=ALL,
    ),
    OperationContract(
        name="eye",
        rows=NeverRows("where its ones stand depends on the number of the row"),
        infer=_infer_eye,
        reference=_reference_eye,
        kernel=_EyeKernel(),
        dtypes=ALL,
    ),
    OperationContract(
        name="one_hot",
        rows=one_hot_rows,
        infer=_infer_one_hot,
        reference=_reference_one_hot,
        kernel=_OneHotKernel(),
        dtypes=ALL,
    ),
)
