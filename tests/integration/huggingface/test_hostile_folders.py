"""Folders that are incomplete, ambiguous, damaged or of another kind: refused by name, nothing executed."""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.compiler.importers.huggingface import import_encoder
from plumbline.compiler.importers.limits import ImportLimitError
from plumbline.compiler.importers.safetensors import index_safetensors
from plumbline.errors import ArtifactError, ValidationError


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "gpt2", "supported are bert"),
        ("model_type", None, "model_type"),
        ("hidden_act", "swish2", "hidden_act"),
        ("position_embedding_type", "relative_key", "only 'absolute' is built"),
        ("is_decoder", True, "is_decoder"),
        ("hidden_size", -48, "hidden_size"),
        ("hidden_size", "48", "hidden_size"),
        ("num_hidden_layers", 10**30, "num_hidden_layers"),
        ("num_hidden_layers", 1, "no place for it"),
        ("num_hidden_layers", 3, "it is missing"),
        ("num_attention_heads", 5, "does not divide"),
        ("vocab_size", 41, "the configuration says"),
        ("layer_norm_eps", 0, "layer_norm_eps"),
        ("quantization_config", {"bits": 4}, "unknown"),
        ("auto_map", {"AutoModel": "evil.py--Model"}, "unknown"),
        ("pruned_heads", {"0": [1]}, "unknown"),
    ],
)
def test_a_setting_that_changes_the_model_is_refused_by_name(key, value, words, tiny) -> None:
    """Issue 2, section 2: keys that change meaning are never ignored."""
    with pytest.raises((ValidationError, ArtifactError), match=words):
        import_encoder(tiny("bert", **{key: value}).folder)


@pytest.mark.parametrize("key", ["_flash", "id2label", "pooler_type", "output_hidden_states"])
def test_a_setting_of_heads_or_bookkeeping_changes_nothing(key, tiny) -> None:
    assert import_encoder(tiny("bert", **{key: {"0": "x"}}).folder).outputs


def test_several_weight_files_are_refused_with_the_choices_named(tiny) -> None:
    folder = tiny("bert").folder
    (folder / "model.fp16.safetensors").write_bytes(b"x")
    with pytest.raises(ValidationError, match=r"model\.fp16\.safetensors, model\.safetensors"):
        import_encoder(folder)


def test_several_tokenizers_are_refused_with_the_choices_named(tiny) -> None:
    folder = tiny("bert", files={"tokenizer.old.json": {}}).folder
    with pytest.raises(ValidationError, match=r"tokenizer\.json, tokenizer\.old\.json"):
        import_encoder(folder)


@pytest.mark.parametrize(
    ("missing", "left"), [("tokenizer.json", "vocab.txt"), ("model.safetensors", "pytorch_model.bin")]
)
def test_a_missing_file_is_named_together_with_what_was_found_instead(missing, left, tiny) -> None:
    folder = tiny("bert").folder
    (folder / missing).rename(folder / left)
    with pytest.raises(ArtifactError, match=left):
        import_encoder(folder)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "C:\\x", "a/../../b"])
def test_a_stage_outside_the_folder_is_refused(path, tiny) -> None:
    modules = [{"idx": 0, "name": "0", "path": path, "type": "sentence_transformers.models.Transformer"}]
    with pytest.raises(ValidationError, match="leaves the folder"):
        import_encoder(tiny("bert", files={"modules.json": modules}).folder)


@pytest.mark.parametrize("kind", ["sentence_transformers.models.Dense", "evil.Stage"])
def test_a_stage_that_is_not_built_is_refused(kind, tiny) -> None:
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_X", "type": kind},
    ]  # fmt: skip
    with pytest.raises(ValidationError, match=r"Dense|foreign"):
        import_encoder(tiny("bert", files={"modules.json": modules}).folder)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {},
    ],
)
def test_a_pooling_that_is_not_built_is_refused(pooling, tiny) -> None:
    with pytest.raises(ValidationError, match="is built"):
        import_encoder(tiny("bert", files={"1_Pooling/config.json": pooling}).folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1e999}',
        "[" * 200_000,
        '{"a": ' + "9" * 5000 + "}",
        "\xff",
    ],
)
def test_damaged_json_is_an_artifact_or_validation_error(text, tiny) -> None:
    folder = tiny("bert").folder
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises((ArtifactError, ValidationError)):
        import_encoder(folder)


def test_symbols_that_do_not_exist_are_refused(tiny) -> None:
    folder = tiny("bert").folder
    with pytest.raises(ValidationError, match="tokens, rows"):
        import_encoder(folder, {"batch": 8})
    with pytest.raises(ValidationError, match="a bound is from 1"):
        import_encoder(folder, {"tokens": 0})


def test_a_pipe_in_the_place_of_the_weights_is_refused_without_waiting(tiny) -> None:
    folder = tiny("bert").folder
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(ArtifactError, match="not a regular file"):
        import_encoder(folder)


# -- safetensors ---------------------------------------------------------------------------------------------


def _file(tmp_path, header: object, data: bytes = b"", length: int | None = None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def _entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": _entry()}, bytes(4), "after the file"),
        ({"a": _entry()}, bytes(12), "follow the last tensor"),
        ({"a": _entry(), "b": _entry()}, bytes(8), "overlaps"),
        ({"a": _entry(offsets=(4, 12))}, bytes(12), "leaves a gap"),
        ({"a": _entry(shape=(3,))}, bytes(8), "do not hold"),
        ({"a": _entry(shape=(-2, -1))}, bytes(8), "whole numbers"),
        ({"a": _entry(shape=(True, 2))}, bytes(8), "whole numbers"),
        ({"a": _entry(shape=(2**62, 4), offsets=(0, 2**64))}, bytes(8), "whole numbers"),
        ({"a": _entry(offsets=(8, 0))}, bytes(8), "do not hold"),
        ({"a": _entry(dtype="F8")}, bytes(8), "unknown"),
        ({"a": {**_entry(), "more": 1}}, bytes(8), "exactly"),
        ({"a": 7}, bytes(8), "exactly"),
        (b"[]", b"", "not an object"),
        (b'{"a"', b"", "JSON"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused_with_its_place(header, data, words, tmp_path) -> None:
    with pytest.raises(ArtifactError, match=words):
        index_safetensors(_file(tmp_path, header, data))


@pytest.mark.parametrize("length", [2**63, 2**40, 100])
def test_a_header_length_beyond_the_file_is_refused_before_anything_is_read(length, tmp_path) -> None:
    with pytest.raises(ArtifactError):
        index_safetensors(_file(tmp_path, {}, b"", length))


def test_absurd_sizes_are_refused(tmp_path) -> None:
    header = {"a": _entry(shape=(2**41,), offsets=(0, 2**43))}
    with pytest.raises(ImportLimitError):
        index_safetensors(_file(tmp_path, header))


def test_a_good_file_is_read_as_the_reference_reads_it(tmp_path) -> None:
    from safetensors.numpy import load_file, save_file

    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(3, 5)), "b": np.arange(7, dtype=np.int16),
              "c": np.zeros((0, 4), np.float32), "d": np.array(True),
              "e": rng.normal(size=4).astype(np.float16)}  # fmt: skip
    save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "np"})
    found, wanted = index_safetensors(tmp_path / "x.safetensors"), load_file(tmp_path / "x.safetensors")
    assert found.tensors.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found.tensors[name].read(), array)


@settings(max_examples=150)
@given(st.integers(0, 199), st.integers(1, 255))
def test_a_flipped_byte_of_a_header_never_escapes_as_an_untyped_error(position, mask) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        header = {
            "a": _entry((2, 3), (0, 24)),
            "b": _entry((4,), (24, 32), "F16"),
            "__metadata__": {"x": "y"},
        }
        path = _file(Path(folder), header, bytes(32))
        data = bytearray(path.read_bytes())
        data[position % (len(data) - 32)] ^= mask
        path.write_bytes(data)
        with suppress(ArtifactError, ValidationError):
            for tensor in index_safetensors(path).tensors.values():
                tensor.read()
