"""Rows on a packed token axis.

Row `r` holds the tokens `[offsets[r], offsets[r + 1])`. Offsets are data of a run, so kernels hold them
inside the tensor: a row starts within `[0, T]`, ends within `[start, T]` and is never longer than the limit
of the operation. Offsets that do not ascend give rows that overlap or miss tokens; the numbers of such a
run mean nothing, but no address leaves its tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, sub
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.tensor import TensorRef

__all__ = ["RowExtent", "emit_row", "integer_attribute", "require_offsets", "rows_of", "split_rows"]

_INTEGERS = (DType.INT32, DType.INT64)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowExtent:
    """First token and number of tokens of a row, in registers."""

    start: Value
    count: Value


def emit_row(
    b: FunctionBuilder, offsets: TensorRef, row: Index, tokens: Index, limit: int | None = None
) -> RowExtent:
    """Read the extent of a row and hold it inside `tokens` and `limit`."""
    total = b.index(tokens)
    start = b.minimum(b.maximum(b.cast(offsets.load(row), DType.INT64), 0), total)
    end = b.minimum(b.maximum(b.cast(offsets.load(row + 1), DType.INT64), start), total)
    count = end - start
    return RowExtent(start=start, count=count if limit is None else b.minimum(count, limit))


def rows_of(offsets: TensorType) -> Dim:
    """Number of rows that `R + 1` offsets describe."""
    return sub(offsets.shape[0], 1)


def require_offsets(inference: Inference, offsets: TensorType) -> None:
    """Refuse what is not a vector of at least one integer.

    Raises:
        ShapeRefused, DTypeRefused: as said.
    """
    if offsets.dtype not in _INTEGERS:
        raise DTypeRefused(
            operation=inference.operation, dtype=offsets.dtype.value, needed="row offsets are int32 or int64"
        )
    fits = offsets.rank == 1 and offsets.shape[0] != 0
    inference.require(fits, f"row offsets are a vector of R + 1 integers, not {offsets}")


def integer_attribute(inference: Inference, name: str, minimum: int = 1) -> int:
    """A required integer attribute that is at least `minimum`.

    Raises:
        AttributeRefused: it is missing or too small.
    """
    number = inference.attributes.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < minimum:
        raise AttributeRefused(
            operation=inference.operation, attribute=name, value=str(number),
            reason=f"an integer of at least {minimum} is needed",
        )  # fmt: skip
    return number


def split_rows(
    offsets: np.ndarray, tokens: int, attributes: Mapping[str, Any] | None = None
) -> Iterator[tuple[int, slice]]:
    """Row numbers and token ranges, as the kernels see them (for references)."""
    limit = (attributes or {}).get("max_row_tokens")
    for row in range(len(offsets) - 1):
        start = min(max(int(offsets[row]), 0), tokens)
        end = min(max(int(offsets[row + 1]), start), tokens)
        yield row, slice(start, end if limit is None else min(end, start + limit))
