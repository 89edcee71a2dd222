"""Contracts of optimiser steps and of n-gram counts."""

from __future__ import annotations

from functools import partial

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import OperationContract, Precision
from plumbline.kernels.row_rules.folding import vectors
from plumbline.kernels.row_rules.moving import updated
from plumbline.kernels.training.ngrams import NgramKernel, infer_ngrams, reference_ngrams
from plumbline.kernels.training.update import METHODS, UpdateKernel, infer_update, reference_update

__all__ = ["CONTRACTS"]

CONTRACTS = (
    *(
        OperationContract(
            name=name, infer=infer_update, reference=partial(reference_update, name), kernel=UpdateKernel(),
            precision=Precision(relative=2e-6, absolute=2e-6),
            dtypes=frozenset({DType.FLOAT32, DType.FLOAT64}), rows=updated,
        )
        for name in METHODS
    ),
    OperationContract(
        name="tf_idf_vectorizer", infer=infer_ngrams, reference=reference_ngrams, kernel=NgramKernel(),
        precision=Precision(relative=1e-6, absolute=1e-6), dtypes=frozenset({DType.INT32, DType.INT64}),
        rows=vectors,
    ),
)  # fmt: skip
