"""Contracts of the signal operations."""

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import OperationContract, Precision
from plumbline.kernels.row_rules.layers import transformed
from plumbline.kernels.rows import NeverRows, rows_first
from plumbline.kernels.signal.fourier import DftKernel, StftKernel, infer_dft, infer_stft
from plumbline.kernels.signal.mel import MelKernel, infer_mel
from plumbline.kernels.signal.reference import reference_dft, reference_mel, reference_stft

__all__ = ["CONTRACTS"]

FLOATS = frozenset(d for d in DType if d.is_float)
SUMS = Precision(relative=2e-6, absolute=3e-5)
"""Sums of some hundred numbers of order one."""

CONTRACTS = (
    OperationContract(
        name="dft", infer=infer_dft, reference=reference_dft, kernel=DftKernel(), precision=SUMS,
        rows=transformed,
        dtypes=FLOATS,
    ),
    OperationContract(
        name="stft", infer=infer_stft, reference=reference_stft, kernel=StftKernel(), precision=SUMS,
        dtypes=FLOATS, rows=rows_first(0),
    ),
    OperationContract(
        name="mel_weight_matrix", infer=infer_mel, reference=reference_mel, kernel=MelKernel(),
        precision=Precision(relative=1e-6, absolute=1e-6), dtypes=frozenset(DType),
        rows=NeverRows("it makes one matrix from a few numbers, for all rows together"),
    ),
)  # fmt: skip
