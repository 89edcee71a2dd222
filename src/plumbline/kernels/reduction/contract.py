"""Contracts of operations along axes.

`reduce_*`: `axes` (tuple of int, None for all, () for none), `keepdims` (default True). A fold of nothing
gives the neutral number; the mean of nothing is NaN. Integers wrap; `reduce_l2`, `reduce_log_sum` and
`reduce_log_sum_exp` of integers are computed in float64 and truncated. `softmax`, `log_softmax`, `hardmax`:
`axis` (default -1). `arg_max`, `arg_min`: `axis` (default 0), `keepdims`, `select_last_index`; int64.
`cum_sum`, `cum_prod`: `axis` (default -1), `exclusive`, `reverse`. `top_k`: `k`, `axis` (default -1),
`largest` (default True); always sorted, ties by place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    EXACT,
    AttributeRefused,
    DTypeRefused,
    Inference,
    Kernel,
    OperationContract,
    Precision,
)
from plumbline.kernels.reduction.axes import normal_axes, normal_axis
from plumbline.kernels.reduction.extreme_kernel import ExtremeKernel
from plumbline.kernels.reduction.fold_kernel import FoldKernel
from plumbline.kernels.reduction.folds import FOLDS, Fold
from plumbline.kernels.reduction.reference import (
    reference_extreme,
    reference_fold,
    reference_hardmax,
    reference_scan,
    reference_softmax,
    reference_top_k,
)
from plumbline.kernels.reduction.scan_kernel import ScanKernel
from plumbline.kernels.reduction.softmax_kernel import HardmaxKernel, SoftmaxKernel
from plumbline.kernels.reduction.top_k_kernel import TopKKernel
from plumbline.kernels.row_rules.folding import extreme_axis, fold_axes
from plumbline.kernels.rows import RowRule, along_axis

__all__ = ["CONTRACTS"]

_FLOATS = frozenset(t for t in DType if t.is_float)
_NUMBERS = frozenset(t for t in DType if t is not DType.BOOL)


def _accept(inference: Inference, dtypes: frozenset[DType]) -> TensorType:
    source = inference.type(0)
    if source.dtype not in dtypes:
        needed = "one of " + ", ".join(sorted(t.value for t in dtypes))
        raise DTypeRefused(operation=inference.operation, dtype=source.dtype.value, needed=needed)
    return source


def _infer_fold(inference: Inference) -> tuple[TensorType, ...]:
    fold = FOLDS[inference.operation]
    source = _accept(inference, frozenset(DType) if fold.accepts_bool else _NUMBERS)
    axes = normal_axes(inference.operation, inference.attributes.get("axes"), source.rank)
    return (_folded(source, axes, bool(inference.attributes.get("keepdims", True)), source.dtype),)


def _folded(source: TensorType, axes: tuple[int, ...], keepdims: bool, dtype: DType) -> TensorType:
    if keepdims:
        shape: tuple[Dim, ...] = tuple(1 if a in axes else d for a, d in enumerate(source.shape))
    else:
        shape = tuple(d for a, d in enumerate(source.shape) if a not in axes)
    return TensorType(dtype, shape)


def _infer_extreme(inference: Inference) -> tuple[TensorType, ...]:
    source = _accept(inference, frozenset(DType))
    axis = normal_axis(inference.operation, int(inference.attributes.get("axis", 0)), source.rank)
    inference.require(source.shape[axis] != 0, "the extreme of an empty axis has no place")
    keepdims = bool(inference.attributes.get("keepdims", True))
    return (_folded(source, (axis,), keepdims, DType.INT64),)


def _infer_same(dtypes: frozenset[DType]) -> Callable[[Inference], tuple[TensorType, ...]]:
    def infer(inference: Inference) -> tuple[TensorType, ...]:
        source = _accept(inference, dtypes)
        normal_axis(inference.operation, int(inference.attributes.get("axis", -1)), source.rank)
        return (TensorType(source.dtype, source.shape),)

    return infer


def _infer_scan(inference: Inference) -> tuple[TensorType, ...]:
    if len(inference.inputs) < 2 or inference.inputs[1] is None:
        return _infer_same(_NUMBERS)(inference)
    source, axis = _accept(inference, _NUMBERS), inference.inputs[1]
    inference.require(axis.elements == 1 and source.rank > 0, "the axis is one number")
    if axis.dtype not in (DType.INT32, DType.INT64):
        raise DTypeRefused(operation=inference.operation, dtype=axis.dtype.value, needed="int32 or int64")
    return (TensorType(source.dtype, source.shape),)


def _infer_top_k(inference: Inference) -> tuple[TensorType, ...]:
    source = _accept(inference, frozenset(DType))
    axis = normal_axis("top_k", int(inference.attributes.get("axis", -1)), source.rank)
    k, extent = inference.attributes["k"], source.shape[axis]
    if isinstance(k, int) and (k < 0 or (isinstance(extent, int) and k > extent)):
        reason = f"the axis has {extent} elements"
        raise AttributeRefused(operation="top_k", attribute="k", value=str(k), reason=reason)
    shape = (*source.shape[:axis], k, *source.shape[axis + 1 :])
    return TensorType(source.dtype, shape), TensorType(DType.INT64, shape)


_ALONG_LAST = along_axis(-1)
Reference = Callable[[str, Sequence[np.ndarray | None], Mapping[str, Any]], tuple[np.ndarray, ...]]


def _contract(
    name: str,
    infer: Callable[[Inference], tuple[TensorType, ...]],
    reference: Reference,
    kernel: Kernel,
    dtypes: frozenset[DType],
    precision: Precision = EXACT,
    rows: RowRule = _ALONG_LAST,
) -> OperationContract:
    return OperationContract(
        name=name, infer=infer, kernel=kernel, precision=precision, dtypes=dtypes, rows=rows,
        reference=lambda inputs, attributes: reference(name, inputs, attributes),
    )  # fmt: skip


def _fold_contract(fold: Fold) -> OperationContract:
    dtypes = frozenset(DType) if fold.accepts_bool else _NUMBERS
    return _contract(fold.name, _infer_fold, reference_fold, FoldKernel(), dtypes, fold.precision, fold_axes)


_SOFTMAX = Precision(relative=1e-5, absolute=1e-7)
_LOG_SOFTMAX = Precision(relative=1e-5, absolute=4e-6)
_RUNNING = Precision(relative=3e-5, absolute=3e-5)

CONTRACTS = (
    *(_fold_contract(fold) for fold in FOLDS.values()),
    _contract("softmax", _infer_same(_FLOATS), reference_softmax, SoftmaxKernel(), _FLOATS, _SOFTMAX),
    _contract("log_softmax", _infer_same(_FLOATS), reference_softmax, SoftmaxKernel(), _FLOATS, _LOG_SOFTMAX),
    _contract("hardmax", _infer_same(_FLOATS), reference_hardmax, HardmaxKernel(), _FLOATS),
    _contract(
        "arg_max",
        _infer_extreme,
        reference_extreme,
        ExtremeKernel(),
        frozenset(DType),
        rows=extreme_axis,
    ),
    _contract(
        "arg_min",
        _infer_extreme,
        reference_extreme,
        ExtremeKernel(),
        frozenset(DType),
        rows=extreme_axis,
    ),
    _contract("cum_sum", _infer_scan, reference_scan, ScanKernel(), _NUMBERS, _RUNNING),
    _contract("cum_prod", _infer_scan, reference_scan, ScanKernel(), _NUMBERS, _RUNNING),
    _contract("top_k", _infer_top_k, reference_top_k, TopKKernel(), frozenset(DType)),
)
