"""The table of reductions: what is folded, how, and what is made of the total."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import EXACT, Precision
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Value

__all__ = ["FOLDS", "Fold", "compute_dtype_of", "neutral_of"]

_SUMMED = Precision(relative=3e-5, absolute=3e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One reduction.

    `prepare` maps an element, `combine` folds two, `finish(total, count)` makes the result. `kind` names
    the neutral number. In `reference`, `x` holds float64 for floats.
    """

    name: str
    kind: str
    combine: Callable[[FunctionBuilder, Value, Value], Value]
    reference: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
    prepare: Callable[[FunctionBuilder, Value], Value] = lambda b, x: x
    finish: Callable[[FunctionBuilder, Value, Value], Value] = lambda b, total, count: total
    precision: Precision = EXACT
    through_float64: bool = False
    """integers are computed in float64 and truncated back"""
    accepts_bool: bool = False


def compute_dtype_of(fold: Fold, dtype: DType) -> DType:
    """Element type of accumulators."""
    if dtype in (DType.FLOAT16, DType.BFLOAT16):
        return DType.FLOAT32
    if dtype is DType.BOOL:
        return DType.UINT8
    return DType.FLOAT64 if fold.through_float64 and not dtype.is_float else dtype


def neutral_of(fold: Fold, dtype: DType) -> float | int:
    """The number that changes nothing when folded."""
    match fold.kind:
        case "add":
            return 0
        case "mul":
            return 1
    limits = None if dtype.is_float else np.iinfo(dtype.numpy)
    if fold.kind == "max":
        return float("-inf") if limits is None else int(limits.min)
    return float("inf") if limits is None else int(limits.max)


def _mean(b: FunctionBuilder, total: Value, count: Value) -> Value:
    if total.dtype.is_float:
        return total / b.cast(count, total.dtype)
    safe = b.select(b.compare("eq", count, 0), 1, count)
    if total.dtype.size_bytes < 8:
        wide = DType.INT64 if total.dtype.is_signed else DType.UINT64
        return b.cast(b.cast(total, wide) / b.cast(safe, wide), total.dtype)
    return total / b.cast(safe, total.dtype)


def _reference_mean(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    if np.issubdtype(x.dtype, np.floating):
        count = int(np.prod([x.shape[a] for a in axes], dtype=np.int64))
        return np.asarray(np.sum(x, axis=axes, keepdims=True) / np.float64(count))
    count = max(int(np.prod([x.shape[a] for a in axes], dtype=np.int64)), 1)
    total = np.asarray(np.sum(x, axis=axes, keepdims=True, dtype=x.dtype))
    quotient = [int(abs(int(t)) // count) * (1 if int(t) >= 0 else -1) for t in total.reshape(-1)]
    return np.array(quotient, dtype=x.dtype).reshape(total.shape)


def _add(b: FunctionBuilder, x: Value, y: Value) -> Value:
    return x + y


def _sum(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.sum(x, axis=axes, keepdims=True, dtype=x.dtype))


def _float(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def _reference_log_sum_exp(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    wide = _float(x)
    top = np.max(wide, axis=axes, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(np.log(np.sum(np.exp(wide - shift), axis=axes, keepdims=True)) + shift)


def _reference_extreme(name: str) -> Callable[[np.ndarray, tuple[int, ...]], np.ndarray]:
    function = np.max if name == "max" else np.min

    def reference(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        if np.issubdtype(x.dtype, np.floating):
            initial: float | int = -np.inf if name == "max" else np.inf
        elif x.dtype == np.bool_:
            initial = name == "min"
        else:
            limits = np.iinfo(x.dtype)
            initial = limits.min if name == "max" else limits.max
        return np.asarray(function(x, axis=axes, keepdims=True, initial=initial))

    return reference


_TABLE = (
    Fold(name="reduce_sum", kind="add", combine=_add, reference=_sum, precision=_SUMMED),
    Fold(
        name="reduce_mean", kind="add", combine=_add, finish=_mean, reference=_reference_mean,
        precision=_SUMMED
    ),
    Fold(
        name="reduce_prod", kind="mul", combine=lambda b, x, y: x * y, precision=_SUMMED,
        reference=lambda x, axes: np.asarray(np.prod(x, axis=axes, keepdims=True, dtype=x.dtype)),
    ),
    Fold(
        name="reduce_max", kind="max", combine=lambda b, x, y: b.maximum(x, y), accepts_bool=True,
        reference=_reference_extreme("max"),
    ),
    Fold(
        name="reduce_min", kind="min", combine=lambda b, x, y: b.minimum(x, y), accepts_bool=True,
        reference=_reference_extreme("min"),
    ),
    Fold(
        name="reduce_l1", kind="add", prepare=lambda b, x: b.absolute(x), combine=_add, precision=_SUMMED,
        reference=lambda x, axes: _sum(np.abs(x), axes),
    ),
    Fold(
        name="reduce_l2", kind="add", prepare=lambda b, x: x * x, combine=_add, precision=_SUMMED,
        finish=lambda b, total, count: b.sqrt(total), through_float64=True,
        reference=lambda x, axes: np.sqrt(_sum(_float(x) ** 2, axes)),
    ),
    Fold(
        name="reduce_sum_square", kind="add", prepare=lambda b, x: x * x, combine=_add, precision=_SUMMED,
        reference=lambda x, axes: _sum(x * x, axes),
    ),
    Fold(
        name="reduce_log_sum", kind="add", combine=_add, precision=_SUMMED, through_float64=True,
        finish=lambda b, total, count: math.log(b, total),
        reference=lambda x, axes: np.log(_sum(_float(x), axes)),
    ),
    Fold(
        name="reduce_log_sum_exp", kind="add", combine=_add, precision=_SUMMED, through_float64=True,
        reference=_reference_log_sum_exp,
    ),
)  # fmt: skip
FOLDS: Mapping[str, Fold] = {fold.name: fold for fold in _TABLE}
