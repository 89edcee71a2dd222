"""Contracts of the operations on packed text."""

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import OperationContract, Precision
from plumbline.kernels.row_rules.folding import vectors
from plumbline.kernels.row_rules.layers import packed_token_rows, pooled_rows
from plumbline.kernels.text.attention import PackedAttentionKernel
from plumbline.kernels.text.attention_geometry import infer_packed_attention
from plumbline.kernels.text.embedding import PackedEmbeddingKernel, infer_packed_embedding
from plumbline.kernels.text.pooling import (
    L2NormalizeKernel,
    PackedPoolKernel,
    infer_l2_normalize,
    infer_packed_pool,
)
from plumbline.kernels.text.reference import (
    reference_l2_normalize,
    reference_packed_attention,
    reference_packed_embedding,
    reference_packed_pool,
)

__all__ = ["CONTRACTS"]

CONTRACTS = (
    OperationContract(
        name="packed_embedding", infer=infer_packed_embedding, reference=reference_packed_embedding,
        kernel=PackedEmbeddingKernel(), precision=Precision(relative=2e-7, absolute=3e-7),
        dtypes=frozenset({DType.INT32, DType.INT64}), rows=packed_token_rows,
    ),
    OperationContract(
        name="packed_attention", infer=infer_packed_attention, reference=reference_packed_attention,
        kernel=PackedAttentionKernel(), precision=Precision(relative=1e-5, absolute=5e-6),
        dtypes=frozenset({DType.FLOAT32}), rows=packed_token_rows,
    ),
    OperationContract(
        name="packed_pool", infer=infer_packed_pool, reference=reference_packed_pool,
        kernel=PackedPoolKernel(),
        precision=Precision(relative=2e-6, absolute=2e-6), dtypes=frozenset({DType.FLOAT32}),
        rows=pooled_rows,
    ),
    OperationContract(
        name="l2_normalize", infer=infer_l2_normalize, reference=reference_l2_normalize,
        kernel=L2NormalizeKernel(),
        precision=Precision(relative=1e-6, absolute=1e-7),
        inplace=((0, 0),), dtypes=frozenset({DType.FLOAT32}),
        rows=vectors,
    ),
)  # fmt: skip
