"""How a scattered update meets the element that is there: replace, add, mul, max, min."""

from __future__ import annotations

import numpy as np

from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, KernelCall
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.movement.runs import copy_run

__all__ = [
    "REDUCTIONS",
    "combine",
    "combine_at",
    "copy_unless_shared",
    "require_same_dtype",
    "required_reduction",
]

REDUCTIONS = ("none", "add", "mul", "max", "min")

_UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def required_reduction(inference: Inference) -> str:
    """Attribute `reduction`.

    Raises:
        AttributeRefused: it is not one of `REDUCTIONS`.
    """
    found = str(inference.attributes.get("reduction", "none"))
    if found not in REDUCTIONS:
        raise AttributeRefused(
            operation=inference.operation,
            attribute="reduction",
            value=found,
            reason=f"not one of {REDUCTIONS}",
        )
    return found


def combine(b: FunctionBuilder, reduction: str, old: Value, new: Value) -> Value:
    """The element after an update. Half-width floats are computed in float32 and rounded at each update."""
    if reduction == "none":
        return new
    if old.dtype is DType.BOOL:
        return old | new if reduction in ("add", "max") else old & new
    stored = old.dtype
    if stored.is_float and stored.size_bytes == 2:
        old, new = b.cast(old, DType.FLOAT32), b.cast(new, DType.FLOAT32)
    functions = {"add": b.add, "mul": b.mul, "max": b.maximum, "min": b.minimum}
    return b.cast(functions[reduction](old, new), stored)


def combine_at(
    target: np.ndarray, place: tuple[np.ndarray, ...], updates: np.ndarray, reduction: str
) -> None:
    """The numpy twin: updates in row-major order, changing `target`."""
    if reduction == "none":
        for position in np.ndindex(*updates.shape[: place[0].ndim]):
            target[tuple(int(p[position]) for p in place)] = updates[position]
    else:
        with np.errstate(all="ignore"):
            _UFUNCS[reduction].at(target, place, updates)


def copy_unless_shared(
    call: KernelCall, data: TensorRef, output: TensorRef, first: Index, count: Index
) -> None:
    """Copy a run of the data to the output where they are different tensors."""
    b = call.builder
    differ = b.emit(f"icmp ne ptr {data.pointer.text}, {output.pointer.text}", DType.BOOL)
    with b.when(differ):
        copy_run(b, call.target, data.dtype, (data.pointer, first), (output.pointer, first), count)


def require_same_dtype(inference: Inference, data: TensorType, updates: TensorType) -> None:
    """Check that updates have the element type of the data.

    Raises:
        DTypeRefused: they have not.
    """
    if data.dtype is not updates.dtype:
        raise DTypeRefused(
            operation=inference.operation, dtype=updates.dtype.value, needed=f"updates of {data.dtype.value}"
        )
