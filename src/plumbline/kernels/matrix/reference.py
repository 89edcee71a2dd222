"""Numpy twins of the matrix operations, in float64 or exact integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["reference_det", "reference_einsum", "reference_gemm", "reference_integer", "reference_matmul",
           "reference_quantised", "saturate", "widen"]  # fmt: skip

Arrays = Sequence[np.ndarray | None]


def widen(array: np.ndarray | None) -> np.ndarray:
    """Floats as float64; integers stay, so that they wrap as native code does.

    Raises:
        ValueError: the array is missing.
    """
    if array is None:
        raise ValueError("a required operand is missing")
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def reference_matmul(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """numpy.matmul."""
    left, right = widen(inputs[0]), widen(inputs[1])
    return (np.asarray(np.matmul(left, right)).astype(_dtype(inputs)),)


def reference_gemm(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """alpha * A' B' + beta * C."""
    left, right = widen(inputs[0]), widen(inputs[1])
    left = left.T if attributes.get("transpose_a", False) else left
    right = right.T if attributes.get("transpose_b", False) else right
    exact = left.dtype.kind == "f"
    alpha, beta = (attributes.get(name, 1.0) for name in ("alpha", "beta"))
    result = (left @ right) * (alpha if exact else int(alpha))
    if len(inputs) > 2 and inputs[2] is not None and beta != 0:
        result = result + widen(inputs[2]) * (beta if exact else int(beta))
    return (result.astype(_dtype(inputs)),)


def reference_integer(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """(A - zero of each row) (B - zero of each column) in int32."""
    left, right = (_shifted(inputs, i, i + 2, column=i == 1) for i in (0, 1))
    return (np.asarray(np.matmul(left, right)).astype(np.int32),)


def _shifted(inputs: Arrays, value: int, zero: int, *, column: bool) -> np.ndarray:
    array = widen(inputs[value]).astype(np.int64)
    shift = inputs[zero] if zero < len(inputs) else None
    return array if shift is None else array - per_line(shift, column=column).astype(np.int64)


def per_line(numbers: np.ndarray, *, column: bool) -> np.ndarray:
    """Numbers of lines, shaped to broadcast against a matrix."""
    if numbers.size == 1:
        return numbers.reshape(())
    return numbers if column else numbers[:, None]


def reference_quantised(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Exact integer product, scaled in float32 and saturated."""
    left = _shifted(inputs, 0, 2, column=False)
    right = _shifted(inputs, 3, 5, column=True)
    total = np.matmul(left, right).astype(np.float32)
    left_scale = per_line(widen(inputs[1]).astype(np.float32), column=False)
    right_scale = per_line(widen(inputs[4]).astype(np.float32), column=True)
    factor = left_scale * right_scale / widen(inputs[6]).astype(np.float32).reshape(())
    return (saturate(np.rint(total * factor), widen(inputs[7]).reshape(())),)


def saturate(rounded: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Shift by a zero point and clamp to its type."""
    limits = np.iinfo(zero.dtype)
    return np.asarray(np.clip(rounded + zero.astype(np.float64), limits.min, limits.max)).astype(zero.dtype)


def reference_einsum(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """numpy.einsum."""
    arrays = [widen(x) for x in inputs]
    result = np.einsum(str(attributes["equation"]).replace(" ", ""), *arrays)
    return (np.asarray(result).astype(_dtype(inputs)),)


def reference_det(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """numpy.linalg.det."""
    return (np.asarray(np.linalg.det(widen(inputs[0]))).astype(_dtype(inputs)),)


def _dtype(inputs: Arrays) -> np.dtype:
    first = inputs[0]
    return np.dtype(np.float64) if first is None else first.dtype
