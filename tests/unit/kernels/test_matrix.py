"""Matrix operations against their numpy twins (L1-02..L1-05)."""

from __future__ import annotations

import numpy as np
import pytest

from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.emit.target import AVX2
from plumbline.kernels.matrix.contract import CONTRACTS
from plumbline.testing.kernels import run_native, verify_operation

OPERATIONS = {c.name: c for c in CONTRACTS}
rng = np.random.default_rng(7)


def numbers(*shape: int, dtype: str = "float32") -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    low = 0 if np.dtype(dtype).kind == "u" else -9
    return rng.integers(low, 9, shape).astype(dtype)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((5, 7), (7, 3)), ((1, 40), (40, 300)), ((9, 33), (33, 77)), ((2, 1, 6, 5), (3, 5, 9)), ((5,), (5,)),
        ((4, 6), (6,)), ((6,), (2, 6, 17)), ((3, 0), (0, 4)), ((0, 3), (3, 4)), ((3, 2), (2, 0)),
        ((64, 70), (70, 1)),
    ],
)  # fmt: skip
def test_matmul_of_any_shapes_agrees_with_numpy(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    verify_operation(OPERATIONS["matmul"], [numbers(*left), numbers(*right)])


@pytest.mark.parametrize(
    "dtype", ["float16", "float64", "int32", "uint32", "int64", "uint64", "int8", "uint16"]
)
def test_matmul_of_every_number_type_agrees_with_numpy(dtype: str) -> None:
    verify_operation(OPERATIONS["matmul"], [numbers(2, 6, 11, dtype=dtype), numbers(11, 37, dtype=dtype)])


def test_matmul_with_symbolic_extents_agrees_with_numpy() -> None:
    symbolic = {(0, 0): "b", (0, 1): "m", (0, 2): "k", (1, 0): "k", (1, 1): "n"}
    for m, k, n in ((5, 9, 21), (1, 3, 300), (8, 64, 32)):
        verify_operation(OPERATIONS["matmul"], [numbers(3, m, k), numbers(k, n)], symbolic=symbolic)


def test_matmul_row_alone_has_the_bits_of_the_row_in_a_batch() -> None:
    left, right = numbers(9, 50), numbers(50, 130)
    whole = run_native(OPERATIONS["matmul"], [left, right])[0]
    for row in (0, 4, 8):
        alone = run_native(OPERATIONS["matmul"], [left[row : row + 1], right])[0]
        np.testing.assert_array_equal(alone[0], whole[row])


def test_matmul_on_narrower_vectors_agrees_with_numpy() -> None:
    verify_operation(OPERATIONS["matmul"], [numbers(5, 30), numbers(30, 45)], target=AVX2)


def test_matmul_of_infinities_and_nan_follows_ieee() -> None:
    left = np.array([[np.inf, 1.0], [np.nan, 0.0]], np.float32)
    result = run_native(OPERATIONS["matmul"], [left, np.ones((2, 20), np.float32)])[0]
    assert np.isposinf(result[0]).all()
    assert np.isnan(result[1]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_with_transposes_and_factors_agrees_with_numpy(dtype: str, turned: tuple[int, int]) -> None:
    left = numbers(6, 35, dtype=dtype)
    right = numbers(35, 20, dtype=dtype)
    attributes = {"transpose_a": bool(turned[0]), "transpose_b": bool(turned[1]), "alpha": 2.0, "beta": 3.0}
    operands = [left.T.copy() if turned[0] else left, right.T.copy() if turned[1] else right]
    for bias in (None, (), (1,), (20,), (6, 1), (1, 20), (6, 20)):
        extra = None if bias is None else numbers(*bias, dtype=dtype)
        verify_operation(OPERATIONS["gemm"], [*operands, extra], attributes)


def test_gemm_without_a_product_keeps_the_bias() -> None:
    verify_operation(OPERATIONS["gemm"], [numbers(3, 0), numbers(0, 18), numbers(18)], {"beta": 0.5})


def test_gemm_of_integers_with_a_broken_factor_is_refused() -> None:
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["gemm"], [numbers(2, 2, dtype="int32")] * 2, {"alpha": 0.5})


@pytest.mark.parametrize("zeros", [None, "scalar", "lines"])
def test_integer_products_are_exact(zeros: str | None) -> None:
    left, right = (rng.integers(0, 255, s).astype(np.uint8) for s in ((5, 33), (33, 21)))
    right = right.view(np.int8)
    shifts: list[np.ndarray | None] = [None, None]
    if zeros == "scalar":
        shifts = [np.array(12, np.uint8), np.array([-3], np.int8)]
    elif zeros == "lines":
        shifts = [numbers(5, dtype="uint8"), numbers(21, dtype="int8")]
    verify_operation(OPERATIONS["matmul_integer"], [left, right, *shifts])


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("scale", ["float32", "float16"])
def test_quantised_products_round_half_to_even_and_saturate(kind: str, scale: str) -> None:
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    left, right = (rng.integers(low, high, s).astype(kind) for s in ((2, 5, 33), (33, 21)))
    zero = np.array(3, kind)
    for factor in (0.004, 0.5):
        scales = [np.array(0.02, scale), np.array(0.03, scale), np.array(factor, scale)]
        operands = [left, scales[0], zero, right, scales[1], zero, scales[2], zero]
        verify_operation(OPERATIONS["qlinear_matmul"], operands)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij->ji", [(3, 4)]), ("ij->i", [(3, 40)]), ("...ii->...i", [(2, 3, 5, 5)]), ("i,i", [(7,), (7,)]),
        ("bij,bjk->bik", [(2, 3, 9), (2, 9, 33)]), ("->", [()]),
        ("bhwc,hkc->bhwk", [(2, 3, 4, 5), (3, 6, 5)]),
        ("ij,jk,kl->il", [(3, 4), (4, 5), (5, 18)]), ("...ij,...jk", [(2, 1, 3, 4), (5, 4, 6)]),
        ("i,j->ij", [(3,), (0,)]),
        ("ab,b", [(3, 4), (4,)]), ("ii", [(4, 4)]),
    ],
)  # fmt: skip
def test_einsum_of_an_equation_agrees_with_numpy(equation: str, shapes: list[tuple[int, ...]]) -> None:
    for dtype in ("float32", "int64"):
        verify_operation(
            OPERATIONS["einsum"], [numbers(*s, dtype=dtype) for s in shapes], {"equation": equation}
        )


def test_einsum_with_symbolic_extents_agrees_with_numpy() -> None:
    symbolic = {(0, 0): "b", (0, 2): "j", (1, 0): "b", (1, 1): "j", (1, 2): "k"}
    verify_operation(
        OPERATIONS["einsum"],
        [numbers(3, 4, 5), numbers(3, 5, 19)],
        {"equation": "bij,bjk->bki"},
        symbolic=symbolic,
    )


@pytest.mark.parametrize("equation", ["ij,jk", "i->", "ij->ik", "i1->i", "ij->ii"])
def test_einsum_of_a_bad_equation_is_refused(equation: str) -> None:
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["einsum"], [numbers(3, 3)], {"equation": equation})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_det_agrees_with_numpy(dtype: str) -> None:
    for shape in ((1, 1), (5, 5), (2, 3, 9, 9), (0, 0), (0, 2, 2)):
        verify_operation(OPERATIONS["det"], [numbers(*shape, dtype=dtype)])
    swap = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype)
    verify_operation(OPERATIONS["det"], [np.stack([swap, swap[[1, 0, 2]], np.ones((3, 3), dtype)])])


def test_operands_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeRefused):
        run_native(OPERATIONS["matmul"], [numbers(2, 3), numbers(2, 3)])
    with pytest.raises(DTypeRefused):
        run_native(OPERATIONS["matmul"], [numbers(2, 3), numbers(3, 2, dtype="float64")])
    with pytest.raises(ShapeRefused):
        run_native(OPERATIONS["det"], [numbers(2, 3)])
