"""Normalisation against numpy in float64: element types, odd extents, symbolic extents, hostile values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import run_native, verify_operation

FLOATS = [t for t in DType if t.is_float]


def draw(shape: tuple[int, ...], dtype: DType = DType.FLOAT32, seed: int = 3) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=shape) * 2 + 0.5
    return values.astype(ml_dtypes.bfloat16 if dtype is DType.BFLOAT16 else dtype.numpy)


@pytest.mark.parametrize("name", ["layer_normalization", "rms_normalization"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_row_normalization_agrees_with_the_definition(name: str, dtype: DType) -> None:
    """Rows shorter and longer than a group of vectors (requirement L1-02)."""
    for shape, axis in (((3, 50), -1), ((2, 3, 7), 1), ((2, 200), 1), ((4, 1), 1), ((0, 5), 1), ((65,), 0)):
        parameter = shape[axis:]
        inputs: list[np.ndarray | None] = [draw(shape, dtype), draw(parameter, dtype, 4)]
        verify_operation(get_operation(name), inputs, {"axis": axis})
        if name == "layer_normalization":
            attributes = {"axis": axis, "epsilon": 1e-3, "statistics": True}
            verify_operation(get_operation(name), [*inputs, draw(parameter, dtype, 5)], attributes)


def test_rms_normalization_gives_the_type_of_scale() -> None:
    x, scale = draw((3, 20), DType.FLOAT16), draw((20,))
    (result,) = run_native(get_operation("rms_normalization"), [x, scale])
    assert result.dtype == np.float32
    verify_operation(get_operation("rms_normalization"), [x, scale])


def test_layer_normalization_of_a_large_mean_keeps_its_precision() -> None:
    """Squared distances from the mean, not the difference of two large sums."""
    x = (np.random.default_rng(0).normal(size=(2, 384)) + 3000.0).astype(np.float32)
    scale, bias = np.ones(384, np.float32), np.zeros(384, np.float32)
    (result,) = run_native(get_operation("layer_normalization"), [x, scale, bias])
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(result, expected, atol=1e-3)


def test_symbolic_rows_give_the_bits_of_static_ones() -> None:
    x, scale, bias = draw((5, 77)), draw((77,), seed=4), draw((77,), seed=5)
    operation = get_operation("layer_normalization")
    (static,) = run_native(operation, [x, scale, bias])
    symbolic = {(0, 0): "rows", (0, 1): "width", (1, 0): "width", (2, 0): "width"}
    (dynamic,) = run_native(operation, [x, scale, bias], symbolic=symbolic)
    np.testing.assert_array_equal(static, dynamic)
    (alone,) = run_native(operation, [x[2:3], scale, bias])
    np.testing.assert_array_equal(static[2:3], alone)


@pytest.mark.parametrize("dtype", FLOATS)
def test_group_normalization_agrees_with_the_definition(dtype: DType) -> None:
    for shape, groups in (((2, 6, 5, 7), 3), ((2, 6, 5, 7), 6), ((2, 4, 3), 1), ((3, 8), 2), ((1, 4, 0), 2)):
        parameters = [draw((shape[1],), dtype, 4), draw((shape[1],), dtype, 5)]
        verify_operation(
            get_operation("group_normalization"), [draw(shape, dtype), *parameters], {"groups": groups}
        )


@pytest.mark.parametrize("dtype", FLOATS)
def test_batch_normalization_agrees_with_the_definition(dtype: DType) -> None:
    for shape in ((2, 3, 5, 7), (2, 35), (1, 3, 1, 1), (2, 4, 9)):
        parameters = [draw((shape[1],), dtype, seed) for seed in (4, 5, 6)]
        variance = np.abs(draw((shape[1],), dtype, 7))
        inputs = [draw(shape, dtype), *parameters, variance]
        verify_operation(get_operation("batch_normalization"), inputs, {"epsilon": 1e-2})


def test_batch_normalization_of_a_symbolic_batch_agrees() -> None:
    parameters = [np.abs(draw((3,), seed=seed)) for seed in (4, 5, 6, 7)]
    for shape in ((4, 3, 5, 2), (4, 3)):
        verify_operation(
            get_operation("batch_normalization"), [draw(shape), *parameters], symbolic={(0, 0): "batch"}
        )


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.6])
def test_local_response_normalization_agrees_with_the_definition(beta: float) -> None:
    attributes = {"alpha": 0.02, "beta": beta, "bias": 1.5}
    for size in (1, 2, 3, 4, 9):
        for dtype in (DType.FLOAT32, DType.FLOAT64, DType.BFLOAT16):
            x = draw((2, 5, 3, 7), dtype)
            verify_operation(get_operation("local_response_normalization"), [x], {**attributes, "size": size})


def test_nan_stays_in_its_row() -> None:
    x = draw((3, 40))
    x[1, 39] = np.nan
    (result,) = run_native(get_operation("layer_normalization"), [x, np.ones(40, np.float32)])
    np.testing.assert_array_equal(np.isnan(result), np.repeat([[False], [True], [False]], 40, 1))


def test_unfit_operands_are_refused_by_name() -> None:
    with pytest.raises(ShapeRefused, match="layer_normalization"):
        run_native(get_operation("layer_normalization"), [draw((3, 4)), draw((3,))])
    with pytest.raises(AttributeRefused, match="divide"):
        run_native(
            get_operation("group_normalization"), [draw((1, 6, 2)), draw((6,)), draw((6,))], {"groups": 4}
        )
    with pytest.raises(DTypeRefused, match="floats"):
        run_native(get_operation("rms_normalization"), [np.zeros((2, 3), np.int32), draw((3,))])
