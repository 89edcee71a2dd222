"""Operations that keep or turn a part of each row or sequence: trilu, reverse_sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, mul, product
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
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.movement.operands import (
    array,
    input_type,
)
from plumbline.kernels.movement.runs import RowSplit, bits_of, copy_run, fill_run
from plumbline.kernels.row_rules.choosing import reversed_rows
from plumbline.kernels.row_rules.folding import matrices

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def _infer_trilu(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: x of rank >= 2, k (optional int64 scalar, the diagonal, 0 where absent). Attribute `upper`."""
    source = inference.type(0)
    inference.require(source.rank >= 2, f"a matrix is needed, not {source}")
    if len(inference.inputs) > 1 and inference.inputs[1] is not None:
        k = inference.type(1)
        inference.require(k.dtype is DType.INT64 and k.elements == 1, f"k is an int64 scalar, not {k}")
    return (TensorType(source.dtype, source.shape),)


class _TriluKernel:
    """One unit is one matrix row: a run that is kept and a run of zeros."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        return Work(units=product(signature.outputs[0].shape[:-1]), unit_cost=64)

    def emit(self, call: KernelCall) -> None:
        b, source, output = call.builder, call.input(0), call.output()
        bits = bits_of(output.dtype)
        rows, columns = b.index(output.shape[-2]), b.index(output.shape[-1])
        k = self._diagonal(b, call, rows, columns)
        zero = b.const(bits, 0)
        with b.range(call.begin, call.end) as line:
            start = b.index(line) * columns
            edge = (b.index(line) % rows) + k + (0 if call.attributes["upper"] else 1)
            edge = b.maximum(b.minimum(edge, columns), 0)
            kept, cleared = (edge, columns), (b.const(DType.INT64, 0), edge)
            if not call.attributes["upper"]:
                kept, cleared = cleared, kept
            first = start + kept[0]
            copy_run(
                b, call.target, bits, (source.pointer, first), (output.pointer, first), kept[1] - kept[0]
            )
            fill_run(b, call.target, zero, (output.pointer, start + cleared[0]), cleared[1] - cleared[0])

    @staticmethod
    def _diagonal(b: FunctionBuilder, call: KernelCall, rows: Value, columns: Value) -> Value:
        """k, limited to where it changes nothing more."""
        given = call.optional_input(1)
        if given is None:
            return b.const(DType.INT64, 0)
        k = given.load_flat(0)
        return b.maximum(b.minimum(k, columns + 1), b.neg(rows) - 1)


def _reference_trilu(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    k = int(np.asarray(inputs[1]).reshape(())) if len(inputs) > 1 and inputs[1] is not None else 0
    function = np.triu if attributes["upper"] else np.tril
    limit = sum(array(inputs).shape[-2:]) + 1
    return (function(array(inputs), max(min(k, limit), -limit)),)


def _infer_reverse(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: x, lengths `[batch]` (int64). Attributes `batch_axis`, `time_axis`: 0 and 1 in either order.

    Lengths are clamped to `[0, time]`.
    """
    source, lengths = inference.type(0), inference.type(1)
    axes = (inference.attributes["batch_axis"], inference.attributes["time_axis"])
    if sorted(axes) != [0, 1]:
        raise AttributeRefused(
            operation="reverse_sequence", attribute="batch_axis", value=str(axes), reason="axes are 0 and 1"
        )
    inference.require(source.rank >= 2, f"batch and time are needed, not {source}")
    inference.require(lengths.shape == (source.shape[axes[0]],), f"{lengths} are not the lengths of {source}")
    if lengths.dtype not in (DType.INT64, DType.INT32):
        raise DTypeRefused(
            operation="reverse_sequence", dtype=lengths.dtype.value, needed="int32 or int64 lengths"
        )
    return (TensorType(source.dtype, source.shape),)


class _ReverseKernel:
    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = _leading_split(signature)
        return Work(units=split.units, unit_cost=split.unit_elements / 4)

    def emit(self, call: KernelCall) -> None:
        b, source, lengths, output = call.builder, call.input(0), call.input(1), call.output()
        batch_axis, time_axis = call.attributes["batch_axis"], call.attributes["time_axis"]
        leading = output.shape[:2]
        width = call.dim(product(call.signature.outputs[0].shape[2:]))
        with _leading_split(call.signature).each(call, call.begin, call.end) as (row, first, count):
            place: list[Index] = list(unflatten(b, row, leading))
            length = b.cast(lengths.load_flat(place[batch_axis]), DType.INT64)
            length = b.minimum(length, b.index(leading[time_axis]))
            time = b.index(place[time_axis])
            place[time_axis] = b.select(time < length, length - 1 - time, time)
            read = (b.index(place[0]) * leading[1] + place[1]) * width + first
            write = b.index(row) * width + first
            copy_run(b, call.target, output.dtype, (source.pointer, read), (output.pointer, write), count)


def _leading_split(signature: StepSignature) -> RowSplit:
    shape: tuple[Dim, ...] = input_type(signature).shape
    return RowSplit.plan(mul(shape[0], shape[1]), product(shape[2:]))


def _reference_reverse(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    x, result = array(inputs), array(inputs).copy()
    for item, length in enumerate(array(inputs, 1)):
        place: list[Any] = [0, 0]
        count = int(np.clip(length, 0, x.shape[attributes["time_axis"]]))
        place[attributes["batch_axis"]], place[attributes["time_axis"]] = item, slice(0, count)
        result[tuple(place)] = np.flip(x[tuple(place)], axis=0)
    return (result,)


ALL = frozenset(DType)

CONTRACTS = (
    OperationContract(
        name="trilu",
        rows=matrices,
        infer=_infer_trilu,
        reference=_reference_trilu,
        kernel=_TriluKernel(),
        dtypes=ALL,
        inplace=((0, 0),),
    ),
    OperationContract(
        name="reverse_sequence",
        rows=reversed_rows,
        infer=_infer_reverse,
        reference=_reference_reverse,
        kernel=_ReverseKernel(),
        dtypes=ALL,
    ),
)
