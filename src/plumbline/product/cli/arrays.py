"""Generated inputs and short descriptions of arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from plumbline.contracts.dims import evaluate
from plumbline.contracts.tensors import DType
from plumbline.engine.encoder import TextEncoder
from plumbline.engine.model import Model

__all__ = ["generate_array", "generate_inputs", "summarise"]

FIRST_VALUES = 4


def generate_inputs(model: Model, given: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """The given arrays, and for every other input one from a seed, at the bound of each symbol."""
    rng = np.random.default_rng(seed)
    if isinstance(model, TextEncoder):
        return {**model.example_inputs(rng), **given}
    inputs = dict(given)
    for binding in model.manifest.inputs:
        shape = tuple(evaluate(d, model.manifest.symbols) for d in binding.shape)
        array = generate_array(rng, binding.dtype, shape)
        inputs.setdefault(binding.name, array)
    return inputs


def generate_array(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers for floating types; 0 or 1 for integers and booleans, which are valid masks and indices.

    bfloat16 arrives as the high halves of float32, in uint16.
    """
    if dtype is DType.BFLOAT16:
        wide = rng.standard_normal(shape, np.float32)
        return np.asarray(wide.view(np.uint32) >> 16, np.uint16).reshape(shape)
    if dtype.is_float:
        return np.asarray(rng.standard_normal(shape), dtype.numpy)
    return np.asarray(rng.integers(0, 2, shape), dtype.numpy)


def summarise(array: np.ndarray) -> dict[str, Any]:
    """Type, shape, range, mean, the first values and the SHA-256 of the bytes."""
    flat = array.reshape(-1)
    empty = flat.size == 0
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "min": None if empty else flat.min().item(),
        "max": None if empty else flat.max().item(),
        "mean": None if empty else float(flat.astype(np.float64).mean()),
        "first": flat[:FIRST_VALUES].tolist(),
        "sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(),
    }
