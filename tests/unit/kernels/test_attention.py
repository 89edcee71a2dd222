"""Attention operations against their numpy twins (L1-02..L1-05)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plumbline.kernels.attention.contract import CONTRACTS
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.emit.target import AVX2
from plumbline.testing.kernels import run_native, verify_operation

OPERATIONS = {c.name: c for c in CONTRACTS}
rng = np.random.default_rng(19)
ATTENTION = OPERATIONS["attention"]


def floats(*shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def heads(*, queries: int = 5, keys: int = 37, dtype: str = "float32") -> list[np.ndarray | None]:
    return [
        floats(2, 4, queries, 8, dtype=dtype), floats(2, 2, keys, 8, dtype=dtype),
        floats(2, 2, keys, 19 + 64 * (keys == 70), dtype=dtype)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "attributes",
    [
        {}, {"causal": True}, {"causal": True, "past": 32}, {"softcap": 2.0}, {"scale": 0.3},
        {"left_window": 3, "past": 9}, {"left_window": 2, "right_window": 1},
        {"causal": True, "right_window": 4},
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", [None, "raw", "capped", "biased", "probabilities"])
def test_attention_variants_agree_with_numpy(attributes: dict[str, Any], mode: str | None) -> None:
    verify_operation(ATTENTION, heads(), {**attributes, "scores": mode})


@pytest.mark.parametrize("shape", [(37,), (5, 37), (1, 37), (4, 1, 30), (2, 4, 5, 37), (2, 1, 1, 20)])
def test_attention_masks_of_any_shape_agree_with_numpy(shape: tuple[int, ...]) -> None:
    bias = floats(*shape)
    bias[rng.random(shape) < 0.3] = -np.inf
    for mask in (bias, rng.random(shape) < 0.6):
        verify_operation(ATTENTION, [*heads(), mask])
        verify_operation(ATTENTION, [*heads(), mask], {"causal": True, "past": 4, "scores": "biased"})


def test_attention_with_lengths_agrees_with_numpy() -> None:
    lengths = np.array([3, 20], np.int64)
    for attributes in ({}, {"causal": True}, {"left_window": 4}, {"causal": True, "scores": "probabilities"}):
        verify_operation(ATTENTION, [*heads(), None, lengths], attributes)


def test_packed_operands_agree_with_numpy() -> None:
    operands = [floats(2, 5, 4 * 16), floats(2, 37, 2 * 16), floats(2, 37, 2 * 5)]
    verify_operation(ATTENTION, operands, {"q_heads": 4, "kv_heads": 2, "causal": True, "past": 20})


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_attention_of_other_float_types_agrees_with_numpy(dtype: str) -> None:
    for mode in (None, "probabilities"):
        verify_operation(ATTENTION, heads(dtype=dtype), {"scores": mode, "softcap": 3.0})


def test_attention_with_symbolic_extents_agrees_with_numpy() -> None:
    symbolic = {(0, 0): "b", (1, 0): "b", (2, 0): "b", (0, 2): "q", (1, 2): "k", (2, 2): "k"}
    for queries, keys in ((1, 1), (3, 70), (2, 0)):
        verify_operation(ATTENTION, heads(queries=queries, keys=keys), {"causal": True}, symbolic=symbolic)
        verify_operation(ATTENTION, heads(queries=queries, keys=keys), {}, symbolic=symbolic, target=AVX2)


def test_rows_without_an_open_key_are_zero() -> None:
    mask = np.zeros((5, 37), bool)
    mask[1:] = True
    for mode in (None, "probabilities"):
        results = run_native(ATTENTION, [*heads(), mask], {"scores": mode})
        assert all((r[:, :, 0] == 0).all() for r in results)
        assert all(np.isfinite(r).all() for r in results)


def test_values_of_masked_keys_are_never_used() -> None:
    operands, mask = heads(), np.ones((5, 37), bool)
    mask[:, 7] = False
    clean = run_native(ATTENTION, [*operands, mask])[0]
    for operand in operands[1:]:
        assert operand is not None
        operand[:, :, 7] = np.nan
    np.testing.assert_array_equal(run_native(ATTENTION, [*operands, mask])[0], clean)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("turned", [0, 8])
def test_rotation_agrees_with_numpy(interleaved: bool, turned: int) -> None:
    half = (turned or 40) // 2
    attributes = {"interleaved": interleaved, "turned": turned, "heads": 3}
    positions = np.array([[0, 9, 3, -1, 77], [1, 2, 3, 4, 5]], np.int64)
    for x in (floats(2, 3, 5, 40), floats(2, 5, 120)):
        verify_operation(
            OPERATIONS["rotary_embedding"], [x, floats(10, half), floats(10, half), positions], attributes
        )
        verify_operation(
            OPERATIONS["rotary_embedding"], [x, floats(2, 5, half), floats(2, 5, half)], attributes
        )


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("q_heads", [2, 6])
def test_linear_attention_rules_agree_with_numpy(rule: str, q_heads: int) -> None:
    operands = [floats(2, 7, q_heads * 4), floats(2, 7, 8) * 0.3, floats(2, 7, 2 * 19), floats(2, 2, 4, 19)]
    attributes = {"rule": rule, "q_heads": q_heads, "kv_heads": 2}
    for decay, beta in ((2, 2), (8, 1)):
        extra = [-np.abs(floats(2, 7, decay)), rng.random((2, 7, beta)).astype(np.float32)]
        verify_operation(OPERATIONS["linear_attention"], [*operands, *extra], attributes)
        verify_operation(OPERATIONS["linear_attention"], [*operands[:3], None, *extra], attributes)


def test_linear_attention_keeps_a_wider_state() -> None:
    half = [
        floats(1, 3, 8, dtype="float16"),
        floats(1, 3, 8, dtype="float16"),
        floats(1, 3, 8, dtype="float16"),
    ]
    attributes = {"rule": "linear", "q_heads": 2, "kv_heads": 2, "state_dtype": "float32"}
    verify_operation(OPERATIONS["linear_attention"], [*half, floats(1, 2, 4, 4)], attributes)


def test_operands_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeRefused):
        run_native(ATTENTION, [floats(1, 3, 2, 4), floats(1, 2, 2, 4), floats(1, 2, 2, 4)])
    with pytest.raises(ShapeRefused):
        run_native(ATTENTION, [floats(1, 2, 4)] * 3)
    with pytest.raises(AttributeRefused):
        run_native(ATTENTION, heads(), {"scores": "other"})
    with pytest.raises(DTypeRefused):
        run_native(ATTENTION, [np.zeros((1, 1, 1, 1), np.int32)] * 3)
    with pytest.raises(ShapeRefused):
        run_native(OPERATIONS["rotary_embedding"], [floats(1, 1, 2, 6), floats(1, 2, 2), floats(1, 2, 2)])
