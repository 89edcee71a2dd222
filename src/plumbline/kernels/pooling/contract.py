"""Contracts of the pools."""

from __future__ import annotations

from functools import partial

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import EXACT, OperationContract, Precision
from plumbline.kernels.pooling.geometry import infer_average, infer_global, infer_lp, infer_max
from plumbline.kernels.pooling.global_pools import GlobalPoolKernel
from plumbline.kernels.pooling.reference import (
    reference_average_pool,
    reference_global_pool,
    reference_lp_pool,
    reference_max_pool,
)
from plumbline.kernels.pooling.window_pools import AveragePoolKernel, LpPoolKernel, MaxPoolKernel
from plumbline.kernels.row_rules.layers import max_pool_rows
from plumbline.kernels.rows import rows_first

__all__ = ["CONTRACTS"]

FLOATS = frozenset(d for d in DType if d.is_float)
NUMBERS = frozenset(d for d in DType if d is not DType.BOOL)
SUMS = Precision(relative=2e-6, absolute=2e-6)


def _global(name: str, precision: Precision) -> OperationContract:
    return OperationContract(
        name=name, infer=infer_global, reference=partial(reference_global_pool, name),
        kernel=GlobalPoolKernel(), precision=precision, dtypes=FLOATS, rows=rows_first(0),
    )  # fmt: skip


CONTRACTS = (
    OperationContract(
        name="max_pool", infer=infer_max, reference=reference_max_pool, kernel=MaxPoolKernel(),
        precision=EXACT, dtypes=NUMBERS, rows=max_pool_rows,
    ),
    OperationContract(
        name="average_pool", infer=infer_average, reference=reference_average_pool,
        kernel=AveragePoolKernel(), precision=SUMS, dtypes=FLOATS, rows=rows_first(0),
    ),
    OperationContract(
        name="lp_pool", infer=infer_lp, reference=reference_lp_pool, kernel=LpPoolKernel(), precision=SUMS,
        dtypes=FLOATS, rows=rows_first(0),
    ),
    _global("global_average_pool", SUMS),
    _global("global_max_pool", EXACT),
    _global("global_lp_pool", SUMS),
)  # fmt: skip
