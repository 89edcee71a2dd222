"""Contracts of the attention operations."""

from plumbline.contracts.tensors import DType
from plumbline.kernels.attention.geometry import infer_attention
from plumbline.kernels.attention.kernel import AttentionKernel
from plumbline.kernels.attention.linear import LinearAttentionKernel, infer_linear
from plumbline.kernels.attention.linear_reference import reference_linear
from plumbline.kernels.attention.reference import reference_attention, reference_rotary
from plumbline.kernels.attention.rotary import RotaryKernel, infer_rotary
from plumbline.kernels.contract import OperationContract, Precision
from plumbline.kernels.row_rules.layers import attention_rows
from plumbline.kernels.rows import rows_first

__all__ = ["CONTRACTS"]

FLOATS = frozenset(d for d in DType if d.is_float)

CONTRACTS = (
    OperationContract(
        name="attention", infer=infer_attention, reference=reference_attention, kernel=AttentionKernel(),
        precision=Precision(relative=1e-5, absolute=5e-6), dtypes=FLOATS, rows=attention_rows,
    ),
    OperationContract(
        name="linear_attention", infer=infer_linear, reference=reference_linear,
        kernel=LinearAttentionKernel(), precision=Precision(relative=1e-5, absolute=1e-5), dtypes=FLOATS,
        rows=rows_first(0, 1, 2, 3, 4, 5),
    ),
    OperationContract(
        name="rotary_embedding", infer=infer_rotary, reference=reference_rotary, kernel=RotaryKernel(),
        precision=Precision(relative=1e-6, absolute=1e-6), dtypes=FLOATS, rows=rows_first(0, 1, 2, 3),
    ),
)  # fmt: skip
