"""Gathers and scatters: native code against numpy, with wild indices, collisions and run-time extents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, ShapeRefused
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import verify_operation

RANDOM = np.random.default_rng(7)


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return (np.random.default_rng(len(shape)).standard_normal(shape) * 9).astype(dtype)


def indices(low: int, high: int, *shape: int, dtype: Any = np.int64) -> np.ndarray:
    return np.random.default_rng(high).integers(low, high, shape).astype(dtype)


def verify(name: str, *inputs: Any, symbolic: Mapping[Any, str] | None = None, **attributes: Any) -> None:
    verify_operation(get_operation(name), inputs, attributes, symbolic=symbolic)


def infer(name: str, *types: TensorType, **attributes: Any) -> tuple[TensorType, ...]:
    return get_operation(name).infer(Inference(operation=name, inputs=types, attributes=attributes))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["float32", "bool", "float64", "int8"])
def test_gather_clamps_indices_on_any_axis(axis: int, dtype: str) -> None:
    x, chosen = numbers(5, 7, 33, dtype=dtype), indices(-9, 9, 2, 3)
    verify("gather", x, chosen, axis=axis)
    verify("gather", x, chosen.astype(np.int32), axis=axis, symbolic={(0, 0): "a", (0, 2): "c", (1, 1): "n"})


def test_gather_of_long_rows_and_of_a_scalar_index() -> None:
    verify("gather", numbers(4, 20_000), np.array(-1), axis=0)
    verify("gather", numbers(4, 20), indices(0, 4, 0), axis=0)


def test_gather_by_float_indices_is_refused() -> None:
    with pytest.raises(DTypeRefused, match="int32 or int64"):
        infer("gather", TensorType(DType.FLOAT32, (4,)), TensorType(DType.FLOAT32, (2,)), axis=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather_elements_picks_along_one_axis(axis: int) -> None:
    shape = [4, 6, 8]
    shape[axis] = 11
    x, chosen = numbers(5, 7, 33), indices(-40, 40, *shape)
    verify("gather_elements", x, chosen, axis=axis)
    verify(
        "gather_elements", x, chosen, axis=axis, symbolic={(0, 1): "b", (1, 1): "n", (0, 2): "c", (1, 2): "m"}
    )


def test_gather_elements_with_longer_indices_is_refused() -> None:
    with pytest.raises(ShapeRefused, match="longer"):
        infer("gather_elements", TensorType(DType.INT8, (4, 2)), TensorType(DType.INT64, (4, 3)), axis=0)


@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("depth", [1, 2])
def test_gather_nd_picks_slices(batch_dims: int, depth: int) -> None:
    x, chosen = numbers(5, 7, 3, 9), indices(-9, 9, 5, 2, depth)
    verify("gather_nd", x, chosen, batch_dims=batch_dims)
    verify("gather_nd", x, chosen, batch_dims=batch_dims, symbolic={(0, 0): "a", (1, 0): "a", (0, 3): "d"})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scatter_elements_applies_collisions_in_order(reduction: str, axis: int) -> None:
    shape = [4, 6, 300]
    shape[axis] = 11
    x, chosen, updates = numbers(5, 7, 333), indices(-9, 9, *shape), numbers(*shape)
    updates[0, 0, 0] = np.nan
    verify("scatter_elements", x, chosen, updates, axis=axis, reduction=reduction)
    symbolic = {(0, 0): "a", (0, 1): "b", (0, 2): "c", (1, 2): "m", (2, 2): "m"}
    verify("scatter_elements", x, chosen, updates, axis=axis, reduction=reduction, symbolic=symbolic)


@pytest.mark.parametrize("dtype", ["float16", "bool", "uint8", "int64"])
@pytest.mark.parametrize("reduction", ["add", "max", "mul"])
def test_scatter_reduces_narrow_types_in_their_type(dtype: str, reduction: str) -> None:
    x, chosen, updates = numbers(9, dtype=dtype), indices(0, 9, 50), numbers(50, dtype=dtype)
    verify("scatter_elements", x, chosen, updates, axis=0, reduction=reduction)
    verify("scatter_nd", x, chosen[:, None], updates, reduction=reduction)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_nd_writes_wide_and_narrow_slices(reduction: str) -> None:
    verify("scatter_nd", numbers(5, 7, 700), indices(-9, 9, 6, 1), numbers(6, 7, 700), reduction=reduction)
    verify("scatter_nd", numbers(5, 7, 3), indices(-9, 9, 6, 2), numbers(6, 3), reduction=reduction)
    symbolic = {(0, 0): "a", (0, 2): "c", (1, 0): "n", (2, 0): "n", (2, 1): "c"}
    verify(
        "scatter_nd",
        numbers(5, 7, 3),
        indices(-9, 9, 6, 2),
        numbers(6, 3),
        reduction=reduction,
        symbolic=symbolic,
    )


def test_scatter_into_nothing_writes_nothing() -> None:
    verify("scatter_elements", numbers(0, 3), indices(0, 3, 2, 3), numbers(2, 3), axis=0, reduction="none")
    verify(
        "scatter_nd",
        numbers(0, 3),
        indices(0, 3, 2, 1),
        numbers(2, 3),
        reduction="none",
        symbolic={(0, 0): "a"},
    )


def test_scatter_with_an_unknown_reduction_is_refused() -> None:
    x, i = TensorType(DType.FLOAT32, (3,)), TensorType(DType.INT64, (3,))
    with pytest.raises(AttributeRefused, match="mean"):
        infer("scatter_elements", x, i, x, axis=0, reduction="mean")


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [1, 2])
def test_tensor_scatter_writes_each_batch_at_its_position(mode: str, axis: int) -> None:
    shape = [3, 4, 6, 5]
    shape[axis] = 2
    update = numbers(*shape) + 100
    verify("tensor_scatter", numbers(3, 4, 6, 5), update, np.array([0, 3, 5]), axis=axis, mode=mode)
    verify(
        "tensor_scatter",
        numbers(3, 4, 6, 5),
        update,
        None,
        axis=axis,
        mode=mode,
        symbolic={(0, 0): "a", (1, 0): "a"},
    )
