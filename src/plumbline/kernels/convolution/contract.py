"""Contracts of the convolutions."""

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import EXACT, OperationContract, Precision
from plumbline.kernels.convolution.dense import (
    ConvIntegerKernel,
    ConvKernel,
    QuantisedConvKernel,
    infer_conv,
    infer_conv_integer,
    infer_quantised_conv,
)
from plumbline.kernels.convolution.reference import (
    reference_conv,
    reference_conv_integer,
    reference_conv_transpose,
    reference_quantised_conv,
)
from plumbline.kernels.convolution.transposed import ConvTransposeKernel, infer_conv_transpose
from plumbline.kernels.matrix.quantised import BYTES
from plumbline.kernels.rows import rows_first

__all__ = ["CONTRACTS"]

FLOATS = frozenset(d for d in DType if d.is_float)
SUMS = Precision(relative=2e-6, absolute=2e-5)
"""Sums of a few hundred float32 products of order one."""

CONTRACTS = (
    OperationContract(
        name="conv", infer=infer_conv, reference=reference_conv, kernel=ConvKernel(), precision=SUMS,
        dtypes=FLOATS, rows=rows_first(0),
    ),
    OperationContract(
        name="conv_transpose", infer=infer_conv_transpose, reference=reference_conv_transpose,
        kernel=ConvTransposeKernel(), precision=SUMS, dtypes=FLOATS, rows=rows_first(0),
    ),
    OperationContract(
        name="conv_integer", infer=infer_conv_integer, reference=reference_conv_integer,
        kernel=ConvIntegerKernel(), precision=EXACT, dtypes=frozenset(BYTES), rows=rows_first(0),
    ),
    OperationContract(
        name="qlinear_conv", infer=infer_quantised_conv, reference=reference_quantised_conv,
        kernel=QuantisedConvKernel(), precision=EXACT, dtypes=frozenset(BYTES), rows=rows_first(0),
    ),
)  # fmt: skip
