"""Contracts of the recurrent layers."""

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import OperationContract, Precision
from plumbline.kernels.recurrent.cells import gru_cell, lstm_cell, rnn_cell
from plumbline.kernels.recurrent.geometry import infer_recurrent
from plumbline.kernels.recurrent.kernel import RecurrentKernel
from plumbline.kernels.recurrent.reference import reference_recurrent
from plumbline.kernels.row_rules.layers import recurrent_rows

__all__ = ["CONTRACTS"]

CONTRACTS = tuple(
    OperationContract(
        name=name, infer=infer_recurrent, reference=reference_recurrent[name], kernel=RecurrentKernel(cell),
        precision=Precision(relative=1e-5, absolute=1e-5), dtypes=frozenset(d for d in DType if d.is_float),
        rows=recurrent_rows,
    )
    for name, cell in (("rnn", rnn_cell), ("gru", gru_cell), ("lstm", lstm_cell))
)  # fmt: skip
