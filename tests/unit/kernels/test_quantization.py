"""Quantisation against numpy: bit-exact, every granularity."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import DTypeRefused, ShapeRefused
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import run_native, verify_operation

QUANTIZED = ["int8", "uint8", "int16", "uint16"]
LAYOUTS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((3, 50), (), {}),
    ((3, 50), (1,), {}),
    ((5000,), (), {}),
    ((2, 3, 17), (3,), {"axis": 1}),
    ((2, 3, 17), (17,), {"axis": -1}),
    ((4, 19), (4,), {"axis": 0}),
    ((2, 21), (2, 3), {"axis": 1, "block_size": 8}),
    ((2, 6, 17), (2, 2, 17), {"axis": 1, "block_size": 4}),
    ((0, 6), (6,), {"axis": 1}),
]


def zero_points(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(5).integers(limits.min // 4, limits.max // 4, shape).astype(dtype)


@pytest.mark.parametrize("to", QUANTIZED)
@pytest.mark.parametrize(("shape", "scales", "attributes"), LAYOUTS)
def test_quantization_is_exact(
    to: str, shape: tuple[int, ...], scales: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    """Half to even, saturated at both ends (requirement L1-02)."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=shape) * 300).astype(np.float32)
    scale = np.asarray(rng.uniform(0.5, 2.0, scales)).astype(np.float32)
    operation, named = get_operation("quantize_linear"), {**attributes, "to": to}
    verify_operation(operation, [x, scale], named)
    verify_operation(operation, [x, scale, zero_points(to, scales)], named)


@pytest.mark.parametrize("source", [*QUANTIZED, "int32"])
@pytest.mark.parametrize(("shape", "scales", "attributes"), LAYOUTS)
def test_dequantization_agrees_with_the_definition(
    source: str, shape: tuple[int, ...], scales: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    rng = np.random.default_rng(2)
    limits = np.iinfo("int16" if source == "int32" else source)
    x = rng.integers(limits.min, limits.max, shape).astype(source)
    scale = np.asarray(rng.uniform(0.01, 2.0, scales)).astype(np.float32)
    operation = get_operation("dequantize_linear")
    verify_operation(operation, [x, scale], attributes)
    verify_operation(operation, [x, scale, zero_points(source, scales)], attributes)
    verify_operation(operation, [x, scale], {**attributes, "to": "float16"})


def test_ties_round_to_even_and_hostile_values_are_defined() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)
    (result,) = run_native(get_operation("quantize_linear"), [x, np.ones((), np.float32)], {"to": "int8"})
    np.testing.assert_array_equal(result, [0, 2, 2, 0, -2, 127, -128, 127, -128, 0])


@pytest.mark.parametrize("division", ["float16", "bfloat16"])
def test_half_width_scales_divide_in_their_own_precision(division: str) -> None:
    rng = np.random.default_rng(3)
    kind = ml_dtypes.bfloat16 if division == "bfloat16" else np.float16
    x = (rng.normal(size=(3, 40)) * 50).astype(kind)
    scale = np.asarray(0.37).astype(kind)
    attributes = {"to": "int8", "precision": division}
    verify_operation(get_operation("quantize_linear"), [x, scale], attributes)
    verify_operation(get_operation("dequantize_linear"), [zero_points("int8", (3, 40)), scale])


def test_symbolic_extents_agree() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(5, 37)).astype(np.float32)
    symbolic = {(0, 0): "rows"}
    verify_operation(
        get_operation("quantize_linear"),
        [x, np.float32(0.01).reshape(())],
        {"to": "uint8"},
        symbolic=symbolic,
    )
    verify_operation(
        get_operation("quantize_linear"), [x, np.ones(37, np.float32)], {"to": "int8"}, symbolic=symbolic
    )


def test_unfit_scales_are_refused_by_name() -> None:
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeRefused, match="quantize_linear"):
        run_native(get_operation("quantize_linear"), [x, np.ones(2, np.float32)], {"to": "int8", "axis": 1})
    with pytest.raises(DTypeRefused, match="quantize_linear"):
        run_native(get_operation("quantize_linear"), [x, np.ones((), np.float32)], {"to": "int64"})
    assert DType.INT8 in get_operation("dequantize_linear").dtypes
