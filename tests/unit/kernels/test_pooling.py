"""Pools against their numpy twins (L1-02..L1-05)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.emit.target import AVX2
from plumbline.kernels.pooling.contract import CONTRACTS
from plumbline.testing.kernels import run_native, verify_operation

OPERATIONS = {c.name: c for c in CONTRACTS}
rng = np.random.default_rng(13)

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 20), {"kernel": (3,)}),
    ((1, 2, 9, 37), {"kernel": (3, 3), "pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ((1, 2, 4, 4), {"kernel": (3, 3), "strides": (2, 2), "ceil": True}),
    ((1, 2, 2, 2), {"kernel": (1, 1), "strides": (2, 2), "ceil": True}),
    ((1, 1, 7, 8), {"kernel": (2, 3), "dilations": (2, 3), "strides": (1, 2), "pads": (1, 0, 0, 2)}),
    ((1, 2, 5, 6, 9), {"kernel": (2, 3, 2), "strides": (2, 1, 3), "pads": (1, 1, 0, 0, 1, 1), "ceil": True}),
    ((0, 2, 5, 5), {"kernel": (2, 2)}),
]


def floats(*shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(("shape", "attributes"), CASES)
def test_window_pools_of_any_geometry_agree_with_numpy(
    shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    images = [floats(*shape)]
    verify_operation(OPERATIONS["max_pool"], images, attributes)
    for column_major in (False, True):
        indexed = {**attributes, "indices": True, "column_major": column_major}
        verify_operation(OPERATIONS["max_pool"], images, indexed)
    for padding in (False, True):
        verify_operation(OPERATIONS["average_pool"], images, {**attributes, "count_padding": padding})
    for p in (1, 2, 3):
        verify_operation(OPERATIONS["lp_pool"], images, {**attributes, "p": p})


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int32", "uint16"])
def test_max_pool_of_other_types_is_exact(dtype: str) -> None:
    images = [(floats(1, 2, 6, 30) * 50).astype(dtype)]
    for strides in ((1, 1), (2, 2)):
        attributes = {"kernel": (3, 3), "pads": (1, 1, 1, 1), "strides": strides}
        verify_operation(OPERATIONS["max_pool"], images, attributes)
        verify_operation(OPERATIONS["max_pool"], images, {**attributes, "indices": True})


def test_max_pool_lets_nan_win_and_orders_infinities() -> None:
    images = np.array([[[1.0, np.nan, 2.0, -np.inf, -np.inf, np.inf]]], np.float32)
    for indices in (False, True):
        verify_operation(OPERATIONS["max_pool"], [images], {"kernel": (2,), "indices": indices})
    result = run_native(OPERATIONS["max_pool"], [images], {"kernel": (2,)})[0][0, 0]
    assert np.isnan(result[:2]).all()
    assert result[3] == -np.inf
    assert result[4] == np.inf


def test_window_pools_with_symbolic_extents_agree_with_numpy() -> None:
    symbolic = {(0, 0): "n", (0, 2): "h", (0, 3): "w"}
    attributes = {"kernel": (3, 2), "pads": (1, 0, 1, 1), "strides": (2, 1), "ceil": True}
    for n, h, w in ((2, 5, 9), (1, 8, 33)):
        images = [floats(n, 3, h, w)]
        verify_operation(OPERATIONS["max_pool"], images, {**attributes, "indices": True}, symbolic=symbolic)
        for padding in (False, True):
            verify_operation(
                OPERATIONS["average_pool"],
                images,
                {**attributes, "count_padding": padding},
                symbolic=symbolic,
            )


def test_window_pools_on_narrower_vectors_agree_with_numpy() -> None:
    attributes = {"kernel": (3, 3), "pads": (1, 1, 1, 1), "strides": (2, 2)}
    for name in ("max_pool", "average_pool"):
        verify_operation(OPERATIONS[name], [floats(1, 2, 9, 37)], attributes, target=AVX2)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("name", ["global_average_pool", "global_max_pool", "global_lp_pool"])
def test_global_pools_agree_with_numpy(name: str, dtype: str) -> None:
    for shape in ((2, 3, 7, 7), (1, 2, 40), (2, 2, 3, 4, 5), (2, 0, 3)):
        verify_operation(OPERATIONS[name], [floats(*shape, dtype=dtype)])
    verify_operation(OPERATIONS[name], [floats(2, 3, 7, 9, dtype=dtype)], symbolic={(0, 0): "n", (0, 3): "w"})


def test_pools_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeRefused):
        run_native(OPERATIONS["max_pool"], [floats(3, 3)], {"kernel": (2,)})
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["lp_pool"], [floats(1, 1, 5)], {"kernel": (2,), "p": 0})
    with pytest.raises(DTypeRefused):
        run_native(OPERATIONS["average_pool"], [np.zeros((1, 1, 5), np.int32)], {"kernel": (2,)})
