"""Run-time indices made safe: negative ones count from the end, and the rest is clamped into the axis.

ONNX leaves indices outside `[-extent, extent)` undefined; here they are clamped, so that no kernel touches
memory outside its operands. That is about memory, not about meaning: inputs that are nothing but indices are
checked before a run (`compiler.index_ranges`). Nothing is computed where the indexed axis is empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.tensor import product

__all__ = ["clamped", "end_unless_empty", "load_index", "require_indices"]


def load_index(b: FunctionBuilder, value: Value, extent: Index) -> Value:
    """An index as int64 in `[0, extent)`."""
    wide = b.cast(value, DType.INT64)
    wrapped = b.select(wide < 0, wide + b.index(extent), wide)
    return b.maximum(b.minimum(wrapped, b.index(extent) - 1), 0)


def clamped(indices: np.ndarray, extent: int) -> np.ndarray:
    """The numpy twin of `load_index`."""
    wide = indices.astype(np.int64)
    return np.clip(np.where(wide < 0, wide + extent, wide), 0, max(extent - 1, 0))


def end_unless_empty(call: KernelCall, extents: Sequence[Index]) -> Index:
    """The end of the units, or their begin where an indexed extent is 0."""
    if all(isinstance(e, int) and e > 0 for e in extents):
        return call.end
    b = call.builder
    return b.select(b.index(product(tuple(extents))) > 0, b.index(call.end), b.index(call.begin))


def require_indices(inference: Inference, position: int) -> TensorType:
    """The type of an index operand.

    Raises:
        DTypeRefused: it is not int32 or int64.
    """
    found = inference.type(position)
    if found.dtype not in (DType.INT32, DType.INT64):
        raise DTypeRefused(
            operation=inference.operation, dtype=found.dtype.value, needed="indices are int32 or int64"
        )
    return found
