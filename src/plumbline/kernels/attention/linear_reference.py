"""Numpy twin of `linear_attention`, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.matrix.reference import widen

__all__ = ["reference_linear"]


def reference_linear(
    inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]
) -> tuple[np.ndarray, ...]:
    """The recurrence, one position after the other."""
    q, k, v = (widen(x) for x in inputs[:3])
    q_heads, kv_heads, rule = (attributes[name] for name in ("q_heads", "kv_heads", "rule"))
    state, decay, beta = (inputs[i] if len(inputs) > i else None for i in (3, 4, 5))
    batch, steps = q.shape[:2]
    q = q.reshape(batch, steps, kv_heads, q_heads // kv_heads, -1)
    k, v = (x.reshape(batch, steps, kv_heads, -1) for x in (k, v))
    size = k.shape[-1]
    matrix = np.zeros((batch, kv_heads, size, v.shape[-1])) if state is None else state.astype(np.float64)
    scale = attributes.get("scale")
    factor = 1.0 / np.sqrt(size) if scale is None else scale
    y = np.zeros((batch, steps, kv_heads, q_heads // kv_heads, v.shape[-1]))
    for t in range(steps):
        if rule in ("gated", "gated_delta") and decay is not None:
            gates = np.exp(decay[:, t].astype(np.float64)).reshape(batch, kv_heads, -1)
            matrix = matrix * gates[..., None]
        update = v[:, t]
        if rule in ("delta", "gated_delta") and beta is not None:
            known = np.einsum("bhd,bhde->bhe", k[:, t], matrix)
            update = beta[:, t].astype(np.float64)[..., None] * (update - known)
        matrix = matrix + k[:, t][..., None] * update[..., None, :]
        y[:, t] = factor * np.einsum("bhgd,bhde->bhge", q[:, t], matrix)
    dtype = np.float64 if inputs[0] is None else inputs[0].dtype
    kept = DType(attributes["state_dtype"]).numpy if attributes.get("state_dtype") else dtype
    return y.reshape(batch, steps, -1).astype(dtype), matrix.astype(kept)
