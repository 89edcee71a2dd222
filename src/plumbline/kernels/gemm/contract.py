"""Contract of `packed_gemm`.

    y[..., m, n] = epilogue(sum_k a[..., m, k] * w[k, n], operands...)

Inputs: a [..., M, K] float32 row-major, w [K, N] float32 in a `gemm` packed layout, then the operands of the
epilogue.
Attribute `epilogue`: a pointwise program (see `pointwise.epilogue`);
operands are shaped like y, like [N] or like a scalar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference, OperationContract, Precision
from plumbline.kernels.gemm.kernel import PackedGemmKernel
from plumbline.kernels.pointwise.compose import reference_epilogue
from plumbline.kernels.row_rules.products import packed_gemm_rows

__all__ = ["CONTRACTS"]


def _infer(inference: Inference) -> tuple[TensorType, ...]:
    a, w = inference.type(0), inference.type(1)
    inference.require(a.dtype is DType.FLOAT32 and w.dtype is DType.FLOAT32, "operands must be float32")
    inference.require(a.rank >= 1 and w.rank == 2 and a.shape[-1] == w.shape[0], "inner extents differ")
    return (TensorType(DType.FLOAT32, (*a.shape[:-1], w.shape[1])),)


def _reference(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Weights arrive unpacked, as [K, N]."""
    a, w, *operands = (np.asarray(x, np.float64) for x in inputs if x is not None)
    with np.errstate(all="ignore"):
        product_ = a @ w
    return (reference_epilogue(product_, operands, attributes.get("epilogue", ())).astype(np.float32),)


CONTRACTS = (
    OperationContract(
        name="packed_gemm",
        infer=_infer,
        reference=_reference,
        kernel=PackedGemmKernel(),
        precision=Precision(relative=1e-4, absolute=2e-4),
        dtypes=frozenset({DType.FLOAT32}),
        rows=packed_gemm_rows,
    ),
)
