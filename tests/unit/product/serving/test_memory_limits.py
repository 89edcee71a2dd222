"""Limits of memory of models and classes, when the operator names one and when not (L3-07)."""

from __future__ import annotations

from pathlib import Path

from plumbline.product.serving.memory_limits import (
    class_memory_bytes,
    model_budget_bytes,
    usable_memory_bytes,
)
from plumbline.product.serving.options import WorkerOptions
from plumbline.product.serving.worker import make_scheduler


def test_without_a_word_of_the_operator_classes_get_half_of_the_memory() -> None:
    assert class_memory_bytes(None, 1000) == 500
    assert class_memory_bytes(None, None) is None


def test_the_operator_decides_and_nought_is_no_limit() -> None:
    assert class_memory_bytes(300, 1000) == 300
    assert class_memory_bytes(0, 1000) is None


def test_models_may_plan_what_the_machine_has_less_room_for_the_processes() -> None:
    assert model_budget_bytes(None, 8000) == 7000
    assert model_budget_bytes(None, None) is None
    assert model_budget_bytes(300, 8000) == 300
    assert model_budget_bytes(0, 8000) is None


def test_an_engine_has_the_default_budget_and_says_so(tmp_path: Path) -> None:
    for options, expected in (
        (WorkerOptions(), model_budget_bytes(None, usable_memory_bytes())),
        (WorkerOptions(budget_bytes=7), 7),
        (WorkerOptions(budget_bytes=0), None),
    ):
        engine = make_scheduler(options, name="w0", log_folder=None)
        assert engine.status().budget_bytes == expected


def test_a_container_with_less_memory_than_its_machine_counts(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    machine = usable_memory_bytes(limit)
    assert machine is not None
    limit.write_text("max\n")
    assert usable_memory_bytes(limit) == machine
    limit.write_text("123456789\n")
    assert usable_memory_bytes(limit) == 123456789
