"""A compiled encoder is complete: it encodes texts wherever its folder is put."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plumbline
from plumbline.engine.encoder import TextEncoder
from plumbline.errors import PlumblineError
from plumbline.product.text_settings import TextSettingsRefused

TEXTS = ["w1 w2 w3", "w9"]


@pytest.fixture
def compiled(tiny: Callable[..., Any], tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A copy of the executable, far from its model, and what the model says."""
    made = tiny("bert", files={"sentence_bert_config.json": {"max_seq_length": 8, "do_lower_case": True}})
    with plumbline.load(made.folder) as encoder:
        assert isinstance(encoder, TextEncoder)
        vectors = encoder.encode(TEXTS)
        assert encoder.folder is not None
        shutil.copytree(encoder.folder, tmp_path / "elsewhere")
    shutil.rmtree(made.folder)
    return tmp_path / "elsewhere", vectors


def test_compiled_encoder_encodes_without_its_model(compiled: tuple[Path, np.ndarray]) -> None:
    """Lowered again, with the same bits; length and case come along."""
    folder, vectors = compiled
    with plumbline.load(folder) as encoder:
        assert isinstance(encoder, TextEncoder)
        assert encoder.text.max_tokens == 8
        assert encoder.text.lowercase
        assert encoder.encode(TEXTS).tobytes() == vectors.tobytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"vocabulary": "many"}, "vocabulary"),
        ({"surprise": 1}, "surprise"),
        ({"schema_version": 2}, "schema_version"),
    ],
)
def test_damaged_text_settings_are_refused(
    compiled: tuple[Path, np.ndarray], change: dict[str, Any], reason: str
) -> None:
    folder, _ = compiled
    path = folder / "text.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(TextSettingsRefused, match=reason):
        plumbline.load(folder)


def test_text_settings_without_tokenizer_are_refused(compiled: tuple[Path, np.ndarray]) -> None:
    folder, _ = compiled
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TextSettingsRefused, match="missing"):
        plumbline.load(folder)


def test_damaged_tokenizer_is_refused_at_the_first_text(compiled: tuple[Path, np.ndarray]) -> None:
    folder, _ = compiled
    (folder / "tokenizer.json").write_bytes(b"{}")
    with plumbline.load(folder) as encoder, pytest.raises(PlumblineError):
        encoder.encode(["w1"])  # type: ignore[attr-defined]


def test_text_settings_beside_another_program_are_refused(
    compiled: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    """The names of a hostile folder cannot make an encoder of anything."""
    folder, _ = compiled
    from plumbline.product.demo_models.networks import write_echo

    with plumbline.load(write_echo(), symbols={"rows": 2}) as model:
        assert model.folder is not None
        shutil.copytree(model.folder, tmp_path / "echo")
    for name in ("text.json", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path / "echo" / name)
    with pytest.raises(TextSettingsRefused, match="takes no packed texts"):
        plumbline.load(tmp_path / "echo")
