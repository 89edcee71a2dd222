"""Contracts of the matrix operations."""

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import EXACT, OperationContract, Precision
from plumbline.kernels.matrix.dense import GemmKernel, MatmulKernel, infer_gemm, infer_matmul
from plumbline.kernels.matrix.determinant import DeterminantKernel, infer_determinant
from plumbline.kernels.matrix.einsum import EinsumKernel, infer_einsum
from plumbline.kernels.matrix.einsum_rows import einsum_rows
from plumbline.kernels.matrix.quantised import (
    BYTES,
    IntegerMatmulKernel,
    QuantisedMatmulKernel,
    infer_integer,
    infer_quantised,
)
from plumbline.kernels.matrix.reference import (
    reference_det,
    reference_einsum,
    reference_gemm,
    reference_integer,
    reference_matmul,
    reference_quantised,
)
from plumbline.kernels.row_rules.folding import matrices
from plumbline.kernels.row_rules.products import gemm_rows, product_rows

__all__ = ["CONTRACTS"]

NUMBERS = frozenset(d for d in DType if d is not DType.BOOL)
FLOATS = frozenset(d for d in DType if d.is_float)
SUMS = Precision(relative=2e-6, absolute=1e-5)
"""Sums of a few hundred float32 products of order one."""

CONTRACTS = (
    OperationContract(
        name="matmul", infer=infer_matmul, reference=reference_matmul, kernel=MatmulKernel(), precision=SUMS,
        dtypes=NUMBERS, rows=product_rows(0, 1),
    ),
    OperationContract(
        name="gemm", infer=infer_gemm, reference=reference_gemm, kernel=GemmKernel(), precision=SUMS,
        dtypes=NUMBERS, rows=gemm_rows,
    ),
    OperationContract(
        name="matmul_integer", infer=infer_integer, reference=reference_integer, kernel=IntegerMatmulKernel(),
        precision=EXACT, dtypes=frozenset(BYTES), rows=product_rows(0, 1),
    ),
    OperationContract(
        name="qlinear_matmul", infer=infer_quantised, reference=reference_quantised,
        kernel=QuantisedMatmulKernel(), precision=EXACT, dtypes=frozenset(BYTES), rows=product_rows(0, 3),
    ),
    OperationContract(
        name="einsum", infer=infer_einsum, reference=reference_einsum, kernel=EinsumKernel(), precision=SUMS,
        dtypes=NUMBERS, rows=einsum_rows,
    ),
    OperationContract(
        name="det", infer=infer_determinant, reference=reference_det, kernel=DeterminantKernel(),
        precision=Precision(relative=1e-5, absolute=1e-6), dtypes=FLOATS, rows=matrices,
    ),
)  # fmt: skip
