"""Contracts of pointwise operations: one per function of the table, and `fused_map` for a chain of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim
from plumbline.contracts.tensors import DType, Shape, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, OperationContract, Precision
from plumbline.kernels.pointwise.expression import program_of
from plumbline.kernels.pointwise.functions import FUNCTIONS, Domain, PointwiseFunction, Result
from plumbline.kernels.pointwise.kernel import MapKernel
from plumbline.kernels.rows import elementwise

__all__ = ["CONTRACTS", "accepts", "broadcast_shapes", "result_dtype"]


def broadcast_shapes(inference: Inference, shapes: Sequence[Shape]) -> Shape:
    """The common shape under numpy's rules; equal symbolic dimensions match, 1 stretches.

    Raises:
        ShapeRefused: two dimensions differ and neither is 1.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for position, dim in enumerate(shape, start=rank - len(shape)):
            if result[position] == 1:
                result[position] = dim
            else:
                inference.require(
                    dim == 1 or dim == result[position],
                    f"shapes do not broadcast: {dim} against {result[position]} at axis {position - rank}",
                )
    return tuple(result)


def accepts(function: PointwiseFunction, dtype: DType) -> bool:
    """Whether the function is defined for an element type."""
    match function.domain:
        case Domain.FLOAT:
            return dtype.is_float
        case Domain.NUMBER:
            return dtype is not DType.BOOL
        case Domain.INTEGER:
            return dtype.is_integer
        case Domain.BOOL:
            return dtype is DType.BOOL
        case Domain.BITS:
            return not dtype.is_float
        case Domain.ANY:
            return True


def result_dtype(function: PointwiseFunction, dtypes: Sequence[DType], params: Mapping[str, Any]) -> DType:
    """Element type of a result.

    Raises:
        DTypeRefused: the function is not defined for the operand types.
    """
    operands = dtypes[1:] if function.selector else dtypes
    if len(set(operands)) != 1 or not accepts(function, operands[0]):
        listed = ", ".join(d.value for d in dtypes)
        raise DTypeRefused(operation=function.name, dtype=listed, needed=f"one {function.domain.value} type")
    match function.result:
        case Result.BOOL:
            return DType.BOOL
        case Result.PARAMETER:
            return _converted(function, operands[0], DType(params["to"]))
        case Result.SAME:
            return operands[0]


def _converted(function: PointwiseFunction, source: DType, to: DType) -> DType:
    if function.raw and source.size_bytes != to.size_bytes:
        needed = f"a type of {to.size_bytes} bytes"
        raise DTypeRefused(operation=function.name, dtype=source.value, needed=needed)
    return to


def _infer(inference: Inference) -> tuple[TensorType, ...]:
    types = [inference.type(i) for i in range(len(inference.inputs))]
    dtypes: list[DType] = [t.dtype for t in types]
    for instruction in program_of(inference.operation, inference.attributes, len(types)):
        function = FUNCTIONS[instruction.function]
        operands = [dtypes[a] for a in instruction.arguments]
        dtypes.append(result_dtype(function, operands, instruction.params))
    return (TensorType(dtypes[-1], broadcast_shapes(inference, [t.shape for t in types])),)


def evaluate(
    operation: str, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]
) -> tuple[np.ndarray, ...]:
    """The numpy twin: floats in float64, rounded to the element type at the end and before conversions.

    bfloat16 has no numpy type: such inputs come as float32 arrays, and such a result leaves as one.
    """
    arrays = [np.asarray(x) for x in inputs if x is not None]
    values = [_widen(x) for x in arrays]
    dtypes = [x.dtype for x in arrays]
    with np.errstate(all="ignore"):
        for instruction in program_of(operation, attributes, len(arrays)):
            function = FUNCTIONS[instruction.function]
            chosen = [
                values[a] if function.wide_reference else values[a].astype(dtypes[a])
                for a in instruction.arguments
            ]
            result = np.asarray(function.reference(*chosen, instruction.params))
            dtypes.append(_result_numpy(function, dtypes[instruction.arguments[-1]], result))
            values.append(_widen(result))
        return (values[-1].astype(dtypes[-1]),)


def _result_numpy(function: PointwiseFunction, operand: np.dtype[Any], result: np.ndarray) -> np.dtype[Any]:
    match function.result:
        case Result.BOOL:
            return np.dtype(bool)
        case Result.PARAMETER:
            return result.dtype
        case Result.SAME:
            return operand


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array


def _contract(
    operation: str,
    precision: Precision,
    inplace: tuple[tuple[int, int], ...],
    dtypes: frozenset[DType] = frozenset(DType),
) -> OperationContract:
    return OperationContract(
        name=operation,
        infer=_infer,
        reference=lambda inputs, attributes: evaluate(operation, inputs, attributes),
        kernel=MapKernel(),
        precision=precision,
        inplace=inplace,
        dtypes=dtypes,
        rows=elementwise,
    )


def _dtypes(function: PointwiseFunction) -> frozenset[DType]:
    return frozenset(dtype for dtype in DType if function.selector or accepts(function, dtype))


def _inplace(arity: int) -> tuple[tuple[int, int], ...]:
    return tuple((0, position) for position in range(arity))


CONTRACTS = (
    *(_contract(f.name, f.precision, _inplace(f.arity), _dtypes(f)) for f in FUNCTIONS.values()),
    _contract("fused_map", Precision(relative=1e-4, absolute=1e-6), _inplace(8)),
)
