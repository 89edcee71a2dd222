"""How a scattered update meets the element that is there: replace, add, mul, max, min."""

from __future__ import annotations

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import AttributeRefused, Inference
from plumbline.kernels.emit.ir import FunctionBuilder, Value

__all__ = ["REDUCTIONS", "combine", "combine_at", "required_reduction"]

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
