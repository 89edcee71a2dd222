"""Optimiser steps and n-gram counts against their numpy twins (L1-02..L1-05)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.training.contract import CONTRACTS
from plumbline.testing.kernels import run_native, verify_operation

OPERATIONS = {c.name: c for c in CONTRACTS}
STATES = {"adagrad": 1, "adam": 2, "momentum": 1}
rng = np.random.default_rng(29)


def operands(name: str, count: int, *shape: int, dtype: str = "float32") -> list[np.ndarray]:
    tensors = [rng.standard_normal(shape).astype(dtype) for _ in range(2)]
    states = [np.abs(rng.standard_normal(shape)).astype(dtype) for _ in range(STATES[name])]
    return [np.array(0.1, dtype), np.array(count, np.int64), *tensors, *states]


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("adagrad", {"decay_factor": 0.1, "epsilon": 1e-3, "norm_coefficient": 0.01}),
        ("adam", {"alpha": 0.9, "beta": 0.99, "epsilon": 1e-2, "norm_coefficient": 0.1}),
        ("adam", {"norm_coefficient_post": 0.2, "epsilon": 1e-4}),
        ("momentum", {"alpha": 0.95, "beta": 0.7, "norm_coefficient": 0.001}),
        ("momentum", {"alpha": 0.95, "beta": 0.7, "mode": "nesterov"}),
    ],
)
def test_optimiser_steps_agree_with_numpy(name: str, attributes: dict[str, Any]) -> None:
    for count in (0, 5):
        for shape in ((), (3,), (7, 301), (0,)):
            verify_operation(OPERATIONS[name], operands(name, count, *shape), attributes)
    verify_operation(OPERATIONS[name], operands(name, 2, 40, dtype="float64"), attributes)


def test_optimiser_operands_that_do_not_fit_are_refused() -> None:
    good = operands("momentum", 0, 4)
    with pytest.raises(ShapeRefused):
        run_native(OPERATIONS["momentum"], [*good[:4], np.zeros(5, np.float32)])
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["momentum"], good, {"mode": "other"})


NGRAMS: dict[str, Any] = {
    "pool": (2, 3, 5, 4, 5, 6, 7, 8, 6, 7), "starts": (0, 4), "columns": (0, 1, 2, 3, 4, 5, 6),
    "weights": (0.5, 2.0, 1.5, 3.0, 0.25, 1.0, 4.0), "mode": "TF",
    "min_length": 1, "max_length": 2, "max_skip": 0,
}  # fmt: skip


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("max_skip", [0, 1, 5])
def test_ngram_counts_agree_with_python(mode: str, max_skip: int) -> None:
    rows = np.array([[1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8], [5, 6, 5, 6, 2, 4, 4, 4, 8, 7, 7, 7]])
    for lengths in ((1, 1), (2, 2), (1, 2)):
        attributes = {
            **NGRAMS, "mode": mode, "max_skip": max_skip, "min_length": lengths[0], "max_length": lengths[1]
        }  # fmt: skip
        for dtype in (np.int32, np.int64):
            verify_operation(OPERATIONS["tf_idf_vectorizer"], [rows.astype(dtype)], attributes)
            verify_operation(OPERATIONS["tf_idf_vectorizer"], [rows[0].astype(dtype)], attributes)


def test_rows_shorter_than_an_ngram_count_nothing() -> None:
    attributes = {**NGRAMS, "min_length": 2}
    for extent in (0, 1):
        rows = np.full((2, extent), 5, np.int64)
        verify_operation(OPERATIONS["tf_idf_vectorizer"], [rows], attributes, symbolic={(0, 0): "n"})


def test_ngram_pools_that_do_not_fit_are_refused() -> None:
    rows = np.zeros((1, 3), np.int64)
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["tf_idf_vectorizer"], [rows], {**NGRAMS, "columns": (0, 1)})
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["tf_idf_vectorizer"], [rows], {**NGRAMS, "starts": (0, 5)})
    with pytest.raises(DTypeRefused):
        run_native(OPERATIONS["tf_idf_vectorizer"], [rows.astype(np.float32)], NGRAMS)
