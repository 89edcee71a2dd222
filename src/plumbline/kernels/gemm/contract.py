"""Contract of `packed_gemm`.

    y[..., m, n] = epilogue(sum_k a[..., m, k] * w[k, n], operands...)

Inputs: a [..., M, K] float32 row-major, w [K, N] float32 in a `gemm` packed layout, then the operands of the epilogue.
Attribute `epilogue`: a pointwise program (see `emit.epilogue`); operands are shaped like y, like [N] or like a scalar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference, OperationContract, Precision
from plumbline.kernels.emit.epilogue import Access
from plumbline.kernels.gemm.kernel import PackedGemmKernel
from plumbline.kernels.pointwise.functions import FUNCTIONS

__all__ = ["CONTRACTS", "epilogue_access", "reference_epilogue"]


def _infer(inference: Inference) -> tuple[TensorType, ...]:
    a, w = inference.type(0), inference.type(1)
    inference.require(a.dtype is DType.FLOAT32 and w.dtype is DType.FLOAT32, "operands must be float32")
    inference.require(a.rank >= 1 and w.rank == 2 and a.shape[-1] == w.shape[0], "inner extents differ")
    return (TensorType(DType.FLOAT32, (*a.shape[:-1], w.shape[1])),)


def epilogue_access(operand: TensorType, output: TensorType, column: Dim) -> Access | None:
    """How an epilogue reads an operand beside an output whose columns have extent `column`; None: not at all."""
    if operand.elements == 1:
        return Access.SCALAR
    if operand.shape == output.shape:
        return Access.FULL
    if operand.elements == column and operand.rank >= 1 and operand.shape[-1] == column:
        return Access.COLUMN
    return None


def reference_epilogue(
    value: np.ndarray, operands: Sequence[np.ndarray], program: Sequence[Any]
) -> np.ndarray:
    """The numpy twin of an epilogue, in float64; operands broadcast against the value."""
    registers: list[np.ndarray] = [value, *(np.asarray(o, np.float64) for o in operands)]
    with np.errstate(all="ignore"):
        for name, arguments, params in program:
            chosen = [registers[a] for a in arguments]
            registers.append(np.asarray(FUNCTIONS[name].reference(*chosen, dict(params))))
    return registers[-1]


def _reference(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Weights arrive unpacked, as [K, N]."""
    a, w, *operands = (np.asarray(x, np.float64) for x in inputs if x is not None)
    with np.errstate(all="ignore"):
        product_ = a @ w
    return (reference_epilogue(product_, operands, attributes.get("epilogue", ())).astype(np.float32),)


CONTRACTS = (
    OperationContract(
        name="packed_gemm", infer=_infer, reference=_reference, kernel=PackedGemmKernel(),
        precision=Precision(relative=1e-4, absolute=2e-4), dtypes=frozenset({DType.FLOAT32}), mixes_rows=False,
    ),
)  # fmt: skip
