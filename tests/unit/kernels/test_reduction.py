"""Operations along axes against numpy: element types, axes, empty extents, NaN and infinities."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.emit.target import AVX2
from plumbline.kernels.reduction.folds import FOLDS
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import host_target, run_native, verify_operation

FLOATS = [t for t in DType if t.is_float]
NUMBERS = [t for t in DType if t is not DType.BOOL]
AXES: list[tuple[tuple[int, ...], tuple[int, ...] | None]] = [
    ((3, 50), (1,)), ((3, 50), (-2,)), ((2, 3, 4, 5), (1, 3)), ((2, 3, 4, 5), (0, 2)),
    ((2, 70, 7, 7), (2, 3)),
    ((130, 5), (0,)), ((5, 130), (1,)), ((2, 3), ()), ((2, 3), None), ((4, 1, 3), (1,)), ((0, 3), (0,)),
    ((3, 0), (1,)), ((0, 3), (1,)), ((), None), ((1000,), (0,)), ((2, 3, 300), (0, 1)),
]  # fmt: skip
SYMBOLIC = {(0, 0): "rows", (0, 1): "columns"}


def draw(dtype: DType, shape: tuple[int, ...], *, positive: bool = False) -> np.ndarray:
    rng = np.random.default_rng(17)
    if dtype is DType.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_float:
        values = rng.normal(size=shape)
        stored = ml_dtypes.bfloat16 if dtype is DType.BFLOAT16 else dtype.numpy
        return (np.abs(values) if positive else values).astype(stored)
    low = -9 if dtype.is_signed and not positive else 0
    return rng.integers(low, 9, size=shape).astype(dtype.numpy)


def hostile() -> np.ndarray:
    """Rows with infinities of both signs, NaN, and nothing but -inf."""
    x = draw(DType.FLOAT32, (6, 50))
    x[0, 3], x[1, 4], x[2, 48], x[2, 8] = np.inf, -np.inf, np.nan, np.nan
    x[3], x[4, 0], x[4, 1] = -np.inf, np.inf, -np.inf
    x[5, :5], x[5, 5:9] = -0.0, 0.0
    return x


@pytest.mark.parametrize("name", list(FOLDS))
def test_reduction_over_any_axes_agrees_with_numpy(name: str) -> None:
    """Merged runs, kept and dropped axes, nothing to fold, no axes at all (requirement L1-02)."""
    for shape, axes in AXES:
        for dtype in (DType.FLOAT32, DType.INT32):
            x = draw(dtype, shape, positive=name == "reduce_log_sum")
            for keepdims in (True, False):
                verify_operation(get_operation(name), [x], {"axes": axes, "keepdims": keepdims})


@pytest.mark.parametrize("name", list(FOLDS))
def test_reduction_of_every_element_type_agrees_with_numpy(name: str) -> None:
    for dtype in DType if FOLDS[name].accepts_bool else NUMBERS:
        x = draw(dtype, (3, 4, 37), positive=name == "reduce_log_sum")
        verify_operation(get_operation(name), [x], {"axes": (2,)})
        verify_operation(get_operation(name), [x], {"axes": (0, 1)})


@pytest.mark.parametrize("name", list(FOLDS))
def test_reduction_of_nan_and_infinities_agrees_with_numpy(name: str) -> None:
    for axis in (0, 1):
        verify_operation(get_operation(name), [hostile()], {"axes": (axis,)})


@pytest.mark.parametrize("name", list(FOLDS))
def test_symbolic_extents_give_the_bits_of_static_ones(name: str) -> None:
    """The order of a fold depends on the length alone, not on when it is known (requirement L1-05)."""
    for shape in ((4, 1), (3, 50), (2, 200)):
        x = draw(DType.FLOAT32, shape, positive=True)
        for axis in (0, 1):
            (static,) = run_native(get_operation(name), [x], {"axes": (axis,)})
            (dynamic,) = run_native(get_operation(name), [x], {"axes": (axis,)}, symbolic=SYMBOLIC)
            np.testing.assert_array_equal(static, dynamic)


def test_axes_of_extent_one_do_not_change_the_order_of_a_fold() -> None:
    """A specialised extent of 1 gives the bits of the generic code (requirement L1-05)."""
    symbolic = {(0, axis): f"d{axis}" for axis in range(3)}
    for shape in ((37, 1, 5), (1, 37, 5), (37, 5, 1), (37, 1, 1), (1, 1, 37)):
        x = draw(DType.FLOAT32, shape)
        for axes in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
            (static,) = run_native(get_operation("reduce_sum"), [x], {"axes": axes})
            (dynamic,) = run_native(get_operation("reduce_sum"), [x], {"axes": axes}, symbolic=symbolic)
            np.testing.assert_array_equal(static, dynamic, err_msg=f"{shape} {axes}")


def test_row_sum_does_not_depend_on_the_batch() -> None:
    x = draw(DType.FLOAT32, (9, 333))
    (together,) = run_native(get_operation("reduce_sum"), [x], {"axes": (1,)})
    for row in range(9):
        (alone,) = run_native(get_operation("reduce_sum"), [x[row : row + 1]], {"axes": (1,)})
        np.testing.assert_array_equal(together[row], alone[0])


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "hardmax"])
def test_softmax_along_any_axis_agrees_with_numpy(name: str) -> None:
    cases = [((3, 50), -1), ((3, 50), 0), ((2, 3, 4, 5), 1), ((7, 130), -1), ((4, 1), 0), ((0, 3), -1),
             ((3, 0), -1), ((1000,), 0), ((2, 5, 1), 1), ((2, 5, 80), 1)]  # fmt: skip
    for dtype in FLOATS:
        for shape, axis in cases if dtype is DType.FLOAT32 else cases[:3]:
            verify_operation(get_operation(name), [draw(dtype, shape)], {"axis": axis})


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "hardmax"])
def test_softmax_of_nan_and_infinities_agrees_with_numpy(name: str) -> None:
    for axis in (0, 1):
        verify_operation(get_operation(name), [hostile()], {"axis": axis})
        verify_operation(get_operation(name), [hostile()], {"axis": axis}, symbolic=SYMBOLIC)


def test_softmax_of_large_numbers_does_not_overflow() -> None:
    (result,) = run_native(get_operation("softmax"), [np.full((1, 8), 3e38, np.float32)])
    np.testing.assert_array_equal(result, np.full((1, 8), 0.125, np.float32))


@pytest.mark.parametrize("name", ["arg_max", "arg_min"])
def test_place_of_extreme_agrees_with_numpy(name: str) -> None:
    for dtype in DType:
        for shape, axis in (((3, 50), -1), ((3, 50), 0), ((2, 3, 4, 5), 1), ((4, 1), 0), ((0, 3), -1)):
            for last in (False, True):
                attributes = {"axis": axis, "select_last_index": last, "keepdims": last}
                verify_operation(get_operation(name), [draw(dtype, shape)], attributes)
    for last in (False, True):
        attributes = {"axis": 1, "select_last_index": last}
        verify_operation(get_operation(name), [hostile()], attributes, symbolic=SYMBOLIC)


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 40, 83])
def test_place_of_extreme_among_equals_is_the_first_or_the_last(columns: int) -> None:
    """Lanes that keep their own extremes must not change who wins a tie."""
    rng = np.random.default_rng(columns)
    x = rng.integers(0, 3, (40, columns)).astype(np.float32)
    x[rng.random(x.shape) < 0.02] = np.nan
    for name in ("arg_max", "arg_min"):
        for last in (False, True):
            attributes = {"axis": 1, "select_last_index": last}
            verify_operation(get_operation(name), [x], attributes)
            verify_operation(get_operation(name), [x], attributes, symbolic=SYMBOLIC)
    verify_operation(get_operation("hardmax"), [x], symbolic=SYMBOLIC)


@pytest.mark.parametrize("name", ["cum_sum", "cum_prod"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_fold_agrees_with_numpy(name: str, exclusive: bool, reverse: bool) -> None:
    attributes: dict[str, Any] = {"exclusive": exclusive, "reverse": reverse}
    for dtype in NUMBERS:
        for shape, axis in (((3, 20), -1), ((3, 20), 0)):
            verify_operation(get_operation(name), [draw(dtype, shape)], {**attributes, "axis": axis})
    for shape, axis in (((2, 3, 4, 5), 1), ((0, 3), -1), ((3, 0), -1)):
        verify_operation(get_operation(name), [draw(DType.FLOAT32, shape)], {**attributes, "axis": axis})


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_running_fold_along_an_axis_of_run_time_agrees_with_numpy(axis: int) -> None:
    x = draw(DType.FLOAT32, (3, 4, 5))
    for attributes in ({}, {"exclusive": True, "reverse": True}):
        for place in (np.array(axis, np.int64), np.array([axis], np.int32)):
            verify_operation(get_operation("cum_sum"), [x, place], attributes, symbolic=SYMBOLIC)


def test_running_fold_along_an_axis_that_does_not_exist_stays_inside_the_tensor() -> None:
    x = draw(DType.FLOAT32, (3, 4))
    for wrong, held in ((7, 1), (-9, 0)):
        (result,) = run_native(get_operation("cum_sum"), [x, np.array(wrong, np.int64)])
        np.testing.assert_allclose(result, np.cumsum(x, axis=held), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("largest", [False, True])
def test_top_k_agrees_with_a_stable_sort(largest: bool) -> None:
    cases = [((3, 50), -1, 5), ((3, 50), 0, 2), ((2, 13, 4, 5), 1, 13), ((2, 13), -1, 0), ((2, 13), -1, 1),
             ((5, 40), -1, 39), ((0, 3), 1, 2), ((3, 1), 1, 1)]  # fmt: skip
    for dtype in DType:
        for shape, axis, k in cases if dtype in (DType.FLOAT32, DType.UINT8) else cases[:2]:
            attributes = {"axis": axis, "k": k, "largest": largest}
            verify_operation(get_operation("top_k"), [draw(dtype, shape)], attributes)
    attributes = {"k": 20, "largest": largest}
    verify_operation(get_operation("top_k"), [hostile()], attributes, symbolic=SYMBOLIC)


@pytest.mark.parametrize("k", [1, 3, 33, 200])
def test_top_k_among_equals_keeps_their_order(k: int) -> None:
    """Vectors of a row without a better element are skipped; that must not lose a tie."""
    rng = np.random.default_rng(k)
    x = rng.integers(0, 9, (20, 211)).astype(np.float32)
    x[rng.random(x.shape) < 0.01] = np.nan
    for largest in (False, True):
        for values in (x, x.astype(np.float16), np.nan_to_num(x).astype(np.int64), x[:, ::-1] * -1):
            verify_operation(get_operation("top_k"), [values], {"k": k, "largest": largest})


@pytest.mark.skipif(host_target().architecture != "x86_64", reason="needs AVX2")
def test_narrower_target_agrees_with_numpy() -> None:
    x = draw(DType.FLOAT32, (3, 131))
    for name in ("reduce_sum", "reduce_log_sum_exp", "softmax", "arg_max", "cum_sum"):
        attribute = {"axes": (1,)} if name.startswith("reduce") else {"axis": 1}
        verify_operation(get_operation(name), [x], attribute, target=AVX2)


def test_unfit_attributes_and_types_are_refused_by_name() -> None:
    x = draw(DType.FLOAT32, (3, 4))
    with pytest.raises(AttributeRefused, match="reduce_sum"):
        run_native(get_operation("reduce_sum"), [x], {"axes": (2,)})
    with pytest.raises(AttributeRefused, match="twice"):
        run_native(get_operation("reduce_sum"), [x], {"axes": (1, -1)})
    with pytest.raises(AttributeRefused, match="top_k"):
        run_native(get_operation("top_k"), [x], {"k": 5})
    with pytest.raises(DTypeRefused, match="softmax"):
        run_native(get_operation("softmax"), [np.zeros(3, np.int32)])
    with pytest.raises(ShapeRefused, match="empty"):
        run_native(get_operation("arg_max"), [np.zeros((3, 0), np.float32)], {"axis": 1})
