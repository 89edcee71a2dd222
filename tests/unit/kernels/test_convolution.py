"""Convolutions against their numpy twins (L1-02..L1-05)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.convolution.contract import CONTRACTS
from plumbline.kernels.emit.target import AVX2
from plumbline.testing.kernels import run_native, verify_operation

OPERATIONS = {c.name: c for c in CONTRACTS}
rng = np.random.default_rng(11)


def floats(*shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 9), (4, 3, 3), {}),
    ((1, 4, 20), (6, 2, 5), {"group": 2, "pads": (2, 1), "strides": (2,), "dilations": (2,)}),
    ((2, 3, 7, 9), (5, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 6, 10, 33), (6, 1, 3, 3), {"group": 6, "pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ((1, 2, 8, 8), (9, 2, 1, 1), {}),
    ((1, 2, 6, 6), (17, 2, 3, 2), {"pads": (3, 0, 0, 4), "dilations": (2, 3), "strides": (1, 3)}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"pads": (1, 0, 1, 0, 2, 1), "strides": (2, 1, 1)}),
    ((0, 2, 5, 5), (3, 2, 3, 3), {}),
]


@pytest.mark.parametrize(("images", "weights", "attributes"), CASES)
def test_conv_of_any_geometry_agrees_with_numpy(
    images: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    operands = [floats(*images), floats(*weights), floats(weights[0])]
    verify_operation(OPERATIONS["conv"], operands, attributes)
    verify_operation(OPERATIONS["conv"], operands[:2], attributes)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_conv_of_other_float_types_agrees_with_numpy(dtype: str) -> None:
    for strides in ((1, 1), (2, 2)):
        operands = [floats(2, 3, 9, 21, dtype=dtype), floats(4, 3, 3, 3, dtype=dtype), floats(4, dtype=dtype)]
        verify_operation(OPERATIONS["conv"], operands, {"pads": (1, 1, 1, 1), "strides": strides})


def test_conv_with_symbolic_batch_and_image_agrees_with_numpy() -> None:
    symbolic = {(0, 0): "n", (0, 2): "h", (0, 3): "w"}
    for n, h, w in ((1, 5, 5), (3, 9, 20)):
        attributes = {"pads": (1, 1, 1, 1), "strides": (2, 1)}
        operands = [floats(n, 2, h, w), floats(3, 2, 3, 3), floats(3)]
        verify_operation(OPERATIONS["conv"], operands, attributes, symbolic=symbolic)


def test_conv_on_narrower_vectors_agrees_with_numpy() -> None:
    for strides in ((1, 1), (2, 2)):
        operands = [floats(1, 3, 9, 21), floats(4, 3, 3, 3), floats(4)]
        verify_operation(
            OPERATIONS["conv"], operands, {"pads": (1, 1, 1, 1), "strides": strides}, target=AVX2
        )


def test_conv_padding_contributes_nothing_even_to_infinite_weights() -> None:
    images, weights = np.zeros((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
    weights[0, 0, 0, 0] = np.inf
    result = run_native(OPERATIONS["conv"], [images, weights], {"pads": (1, 1, 1, 1)})[0][0, 0]
    assert np.isnan(result[1:, 1:]).all()
    assert (result[0] == 0).all()


@pytest.mark.parametrize(
    ("images", "weights", "attributes"),
    [
        ((2, 3, 5), (3, 2, 4), {}),
        ((1, 1, 3, 3), (1, 2, 3, 3), {"strides": (3, 2), "output_padding": (1, 1)}),
        ((1, 4, 5, 7), (4, 3, 3, 3), {"group": 2, "strides": (2, 2), "pads": (1, 1, 1, 0)}),
        ((1, 2, 6, 30), (2, 9, 2, 2), {"dilations": (2, 2)}),
        ((1, 2, 4, 4), (2, 3, 3, 3), {"dilations": (2, 3), "strides": (3, 2), "pads": (2, 1, 0, 2)}),
        ((1, 1, 2, 3, 4), (1, 2, 3, 3, 3), {"strides": (1, 2, 2), "pads": (1, 0, 1, 0, 1, 1)}),
    ],
)
def test_transposed_conv_of_any_geometry_agrees_with_numpy(
    images: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    channels = weights[1] * attributes.get("group", 1)
    operands = [floats(*images), floats(*weights), floats(channels)]
    verify_operation(OPERATIONS["conv_transpose"], operands, attributes)
    verify_operation(OPERATIONS["conv_transpose"], operands[:2], attributes)


def test_transposed_conv_with_symbolic_extents_agrees_with_numpy() -> None:
    symbolic = {(0, 0): "n", (0, 2): "h", (0, 3): "w"}
    operands = [floats(2, 2, 5, 9), floats(2, 3, 3, 3)]
    verify_operation(OPERATIONS["conv_transpose"], operands, {"strides": (2, 2)}, symbolic=symbolic)


@pytest.mark.parametrize(
    "zeros", [(), (np.array(7, np.uint8),), (np.array(7, np.uint8), np.array([1, -2, 3], np.int8))]
)
def test_integer_convolution_is_exact(zeros: tuple[np.ndarray, ...]) -> None:
    images = rng.integers(0, 255, (2, 2, 6, 19)).astype(np.uint8)
    weights = rng.integers(-128, 127, (3, 2, 3, 3)).astype(np.int8)
    for strides in ((1, 1), (2, 2)):
        attributes = {"pads": (1, 1, 1, 1), "strides": strides}
        verify_operation(OPERATIONS["conv_integer"], [images, weights, *zeros], attributes)


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_convolution_rounds_and_saturates(per_channel: bool) -> None:
    images = rng.integers(0, 255, (1, 2, 6, 9)).astype(np.uint8)
    weights = rng.integers(-128, 127, (3, 2, 3, 3)).astype(np.int8)
    scale = np.array([0.02, 0.5, 0.001] if per_channel else 0.02, np.float32)
    zero = np.array([0, 5, -6] if per_channel else 2, np.int8)
    bias = np.array([100, -20, 3], np.int32)
    operands = [
        images,
        np.float32(0.01),
        np.uint8(120),
        weights,
        scale,
        zero,
        np.float32(0.05),
        np.uint8(7),
        bias,
    ]
    verify_operation(OPERATIONS["qlinear_conv"], [np.asarray(x) for x in operands], {"pads": (1, 1, 1, 1)})


def test_geometry_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeRefused):
        run_native(OPERATIONS["conv"], [floats(1, 3, 5, 5), floats(2, 2, 3, 3)])
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["conv"], [floats(1, 2, 5, 5), floats(2, 2, 3, 3)], {"strides": (0, 1)})
    with pytest.raises(DTypeRefused):
        run_native(OPERATIONS["conv"], [floats(1, 2, 5, 5), floats(2, 2, 3, 3, dtype="float64")])
