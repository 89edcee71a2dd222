"""Numpy twins of the attention operations, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.kernels.matrix.reference import widen

__all__ = ["reference_attention", "reference_rotary"]

Arrays = Sequence[np.ndarray | None]


def _split(array: np.ndarray, heads: Any) -> np.ndarray:
    """Heads first."""
    if array.ndim == 4:
        return array
    batch, positions, width = array.shape
    return array.reshape(batch, positions, int(heads), width // int(heads)).transpose(0, 2, 1, 3)


def _open_keys(
    queries: int, keys: int, past: np.ndarray, lengths: np.ndarray | None, attributes: Mapping[str, Any]
) -> np.ndarray:
    """[B or 1, 1, queries, keys]: what causality, windows and lengths allow."""
    key = np.arange(keys)
    place = past[:, None, None, None] + np.arange(queries)[:, None]
    allowed = np.broadcast_to(True, (past.size, 1, queries, keys)).copy()
    if lengths is not None:
        allowed &= key < lengths[:, None, None, None]
    if attributes.get("causal", False):
        allowed &= key <= place
    if attributes.get("left_window", -1) >= 0:
        allowed &= key >= place - attributes["left_window"]
    if attributes.get("right_window", -1) >= 0:
        allowed &= key <= place + attributes["right_window"]
    return allowed


def _bias(mask: np.ndarray | None, keys: int) -> np.ndarray:
    if mask is None:
        return np.zeros(keys)
    bias = np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask.astype(np.float64)
    width = [(0, 0)] * (bias.ndim - 1) + [(0, keys - bias.shape[-1])]
    return np.pad(bias, width, constant_values=-np.inf)


def reference_attention(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """softmax(scale * q k' + bias) v, rows without an open key as zeros."""
    packed = inputs[0] is not None and inputs[0].ndim == 3
    q = _split(widen(inputs[0]), attributes.get("q_heads"))
    k, v = (_split(widen(inputs[i]), attributes.get("kv_heads")) for i in (1, 2))
    mask, lengths = (inputs[i] if len(inputs) > i else None for i in (3, 4))
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    queries, keys = q.shape[2], k.shape[2]
    past = np.array([int(attributes.get("past", 0) or 0)]) if lengths is None else lengths - queries
    scale = attributes.get("scale")
    raw = q @ k.swapaxes(-1, -2) * (1.0 / np.sqrt(max(q.shape[3], 1)) if scale is None else scale)
    cap = float(attributes.get("softcap", 0.0) or 0.0)
    capped = np.tanh(raw / cap) * cap if cap > 0 else raw
    allowed = _open_keys(queries, keys, past, lengths, attributes)
    bias = np.where(allowed, _bias(mask, keys), -np.inf)
    biased = np.where(np.isneginf(bias), -np.inf, capped + np.where(np.isneginf(bias), 0.0, bias))
    weights = _softmax(biased)
    y = weights @ v
    if packed:
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)
    dtype = np.float64 if inputs[0] is None else inputs[0].dtype
    reported = {"raw": raw, "capped": capped, "biased": biased, "probabilities": weights}
    mode = attributes.get("scores")
    results = (y,) if mode is None else (y, reported[mode])
    return tuple(np.asarray(r).astype(dtype) for r in results)


def _softmax(scores: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        best = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        weights = np.where(np.isneginf(scores), 0.0, np.exp(scores - np.where(np.isneginf(best), 0.0, best)))
        total = weights.sum(axis=-1, keepdims=True)
        return np.asarray(weights / np.where(total == 0, 1.0, total))


def reference_rotary(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Each pair times a rotation matrix."""
    source = inputs[0]
    if source is None:
        raise ValueError("a rotation needs an operand")
    x, cos, sin = _split(widen(source), attributes.get("heads")).copy(), widen(inputs[1]), widen(inputs[2])
    if len(inputs) > 3 and inputs[3] is not None:
        index = np.where(inputs[3] < 0, inputs[3] + cos.shape[0], inputs[3]).clip(0, cos.shape[0] - 1)
        cos, sin = cos[index], sin[index]
    turned = int(attributes.get("turned") or x.shape[3])
    cos, sin = cos[:, None], sin[:, None]
    if attributes.get("interleaved", False):
        first, second = slice(0, turned, 2), slice(1, turned, 2)
    else:
        first, second = slice(0, turned // 2), slice(turned // 2, turned)
    a, c = x[..., first].copy(), x[..., second].copy()
    x[..., first], x[..., second] = cos * a - sin * c, sin * a + cos * c
    if source.ndim == 3:
        x = x.transpose(0, 2, 1, 3).reshape(source.shape)
    return (np.ascontiguousarray(x.astype(source.dtype)),)
