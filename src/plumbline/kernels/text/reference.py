"""References of the text operations in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.kernels.text.rows import split_rows

__all__ = [
    "reference_l2_normalize",
    "reference_packed_attention",
    "reference_packed_embedding",
    "reference_packed_pool",
]

Arrays = Sequence[np.ndarray | None]


def _present(inputs: Arrays, position: int) -> np.ndarray:
    array = inputs[position]
    if array is None:
        raise ValueError(f"input {position} is missing")
    return array


def reference_packed_embedding(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Word, type and position vectors, summed token by token."""
    ids, offsets, words, positions = (_present(inputs, i) for i in range(4))
    type_row = inputs[4] if len(inputs) > 4 else None
    result = np.full((len(ids), words.shape[1]), np.nan, np.float32)
    first, padding = int(attributes.get("position_offset", 0)), attributes.get("padding_id")
    for _, tokens in split_rows(offsets, len(ids)):
        counted = 0
        for token in range(tokens.start, tokens.stop):
            is_padding = padding is not None and ids[token] == padding
            place = first - 1 if is_padding else first + counted
            counted += not is_padding
            word = words[np.clip(ids[token], 0, len(words) - 1)].astype(np.float64)
            total = word + positions[np.clip(place, 0, len(positions) - 1)]
            result[token] = total if type_row is None else total + type_row
    return (result,)


def reference_packed_attention(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Softmax attention inside each row and head."""
    qkv, offsets = _present(inputs, 0).astype(np.float64), _present(inputs, 1)
    bias = inputs[2] if len(inputs) > 2 else None
    heads, limit = int(attributes["heads"]), int(attributes["max_row_tokens"])
    width = qkv.shape[1] // 3
    result = np.full((len(qkv), width), np.nan, np.float32)
    for _, tokens in split_rows(offsets, len(qkv), attributes):
        count = tokens.stop - tokens.start
        if count == 0:
            continue
        q, k, v = (
            qkv[tokens, i * width : (i + 1) * width].reshape(count, heads, width // heads) for i in range(3)
        )
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(width // heads)
        if bias is not None:
            distance = np.arange(count)[None, :] - np.arange(count)[:, None]
            scores = scores + bias[:, distance + limit - 1]
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        result[tokens] = np.einsum("hqk,khd->qhd", weights, v).reshape(count, width)
    return (result,)


def reference_packed_pool(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """The mean, or the first, of the vectors of each row; zeros for a row without tokens."""
    hidden, offsets = _present(inputs, 0).astype(np.float64), _present(inputs, 1)
    result = np.zeros((len(offsets) - 1, hidden.shape[1]), np.float32)
    for row, tokens in split_rows(offsets, len(hidden), attributes):
        if tokens.stop > tokens.start:
            chosen = hidden[tokens]
            result[row] = chosen[0] if attributes["mode"] == "cls" else chosen.mean(axis=0)
    return (result,)


def reference_l2_normalize(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """`x / max(|x|, epsilon)` along the last axis."""
    x = _present(inputs, 0).astype(np.float64)
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return ((x / np.maximum(length, float(attributes.get("epsilon", 1e-12)))).astype(np.float32),)
