"""The limit of memory of classes, when the operator names one and when not."""

from __future__ import annotations

from pathlib import Path

from plumbline.product.serving.class_memory import class_memory_bytes, usable_memory_bytes


def test_without_a_word_of_the_operator_classes_get_half_of_the_memory() -> None:
    assert class_memory_bytes(None, 1000) == 500
    assert class_memory_bytes(None, None) is None


def test_the_operator_decides_and_nought_is_no_limit() -> None:
    assert class_memory_bytes(300, 1000) == 300
    assert class_memory_bytes(0, 1000) is None


def test_a_container_with_less_memory_than_its_machine_counts(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    machine = usable_memory_bytes(limit)
    assert machine is not None
    limit.write_text("max\n")
    assert usable_memory_bytes(limit) == machine
    limit.write_text("123456789\n")
    assert usable_memory_bytes(limit) == 123456789
