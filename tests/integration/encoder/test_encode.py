"""`plumbline.load(folder).encode(texts)`."""

from __future__ import annotations

import numpy as np
import pytest

import plumbline
from plumbline.engine.encoder import TextEncoder
from plumbline.errors import ArtifactError, ValidationError

TEXTS = ("w1 w2 w3", "", "w4", "w5 w6 unknown w7 w8", "w9 " * 100, "  w1 w2 w3  ")


@pytest.fixture
def encoder(tiny):
    with plumbline.load(tiny("roberta").folder) as model:
        assert isinstance(model, TextEncoder)
        yield model


def test_every_text_becomes_one_vector_of_length_one(encoder) -> None:
    found = encoder.encode(TEXTS)
    assert found.shape == (6, 48)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)


def test_no_texts_give_no_vectors(encoder) -> None:
    assert encoder.encode([]).shape == (0, 48)


def test_white_space_around_a_text_changes_nothing(encoder) -> None:
    found = encoder.encode(TEXTS)
    np.testing.assert_array_equal(found[0], found[5])


def test_texts_over_the_limit_lose_their_end_and_are_reported(encoder) -> None:
    found = encoder.encode_reported(TEXTS)
    assert found.truncated == (4,)
    assert found.token_counts == (5, 2, 3, 7, 32, 5)
    np.testing.assert_array_equal(found.embeddings[4], encoder.encode(["w9 " * 30])[0])


@pytest.mark.parametrize("symbols", [{}, {"rows": 1}, {"rows": 3, "tokens": 33}])
def test_vectors_have_the_same_bits_whatever_they_are_packed_with(symbols, tiny, encoder) -> None:
    """Issue 2, section 4: a row alone or in a batch, and whatever bound was declared."""
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    with plumbline.load(tiny("roberta", name="again").folder, symbols=symbols, threads=2) as model:
        many = model.encode_reported(list(reversed(TEXTS)))
    assert many.runs == (1 if not symbols else 6 if symbols["rows"] == 1 else 4)
    np.testing.assert_array_equal(many.embeddings[::-1].view(np.int32), alone.view(np.int32))


def test_a_text_over_the_bound_of_tokens_is_refused_not_cut(tiny) -> None:
    with (
        plumbline.load(tiny("roberta").folder, symbols={"tokens": 8}) as model,
        pytest.raises(ValidationError, match="text 1: 32 tokens exceed"),
    ):
        model.encode(["w1", "w9 " * 100])


@pytest.mark.parametrize("texts", ["one text", 7, None, {"a": 1}, ["fine", 3], ["half \ud800 pair"]])
def test_what_is_no_list_of_texts_is_refused(texts, encoder) -> None:
    with pytest.raises(ValidationError, match=r"text (\*|0|1):"):
        encoder.encode(texts)


def test_progress_is_told_after_every_run(tiny) -> None:
    seen: list[tuple[int, int]] = []
    with plumbline.load(tiny("bert").folder, symbols={"rows": 4}) as model:
        model.encode(TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 6), (6, 6)]


def test_settings_of_the_sentence_are_followed(tiny) -> None:
    files = {
        "sentence_bert_config.json": {"max_seq_length": 4, "do_lower_case": True},
        "config_sentence_transformers.json": {"prompts": {"query": "w7 "}, "default_prompt_name": "query"},
    }
    with plumbline.load(tiny("bert", files=files).folder) as model:
        found = model.encode_reported(["W1", "w1", "w1 w2 w3"])
        assert model.text.max_tokens == 4
    assert found.token_counts == (4, 4, 4)
    np.testing.assert_array_equal(found.embeddings[0], found.embeddings[1])
    with plumbline.load(tiny("bert", name="plain").folder) as model:
        np.testing.assert_array_equal(model.encode(["w7 w1"])[0], found.embeddings[1])


def test_changing_the_pooling_file_gives_another_executable(tiny) -> None:
    """The cache knows the files of sub-folders too."""
    mean = {"1_Pooling/config.json": {"pooling_mode_mean_tokens": True}}
    encoder = tiny("bert", files=mean)
    with plumbline.load(encoder.folder) as model:
        first = model.encode(TEXTS)
    (encoder.folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with plumbline.load(encoder.folder) as model:
        assert np.abs(model.encode(TEXTS) - first).max() > 0.01


def test_a_tokenizer_that_is_none_is_refused(tiny) -> None:
    with (
        plumbline.load(tiny("bert", files={"tokenizer.json": {"model": 3}}).folder) as model,
        pytest.raises(ArtifactError, match=r"tokenizer\.json"),
    ):
        model.encode(["w1"])


def test_a_tokenizer_with_more_words_than_the_model_is_refused(tiny) -> None:
    from tokenizers import Tokenizer, models

    folder = tiny("bert").folder
    Tokenizer(models.WordLevel({"big": 40, "<unk>": 0}, unk_token="<unk>")).save(
        str(folder / "tokenizer.json")
    )
    with (
        plumbline.load(folder) as model,
        pytest.raises(ArtifactError, match="it gives id 40, the model has 40"),
    ):
        model.encode(["big"])


@pytest.mark.parametrize("offsets", [[0, 5, 3, 9], [1, 9], [0, 8], [0, 99], [-1, 9]])
def test_offsets_that_are_no_rows_of_the_tokens_are_refused(offsets, encoder) -> None:
    inputs = {"token_ids": np.zeros(9, np.int32), "row_offsets": np.array(offsets, np.int32)}
    with pytest.raises(ValidationError, match="they must ascend from 0"):
        encoder.run(inputs)


def test_a_row_over_the_position_table_loses_its_end_whatever_the_arena_held(encoder) -> None:
    ids = np.random.default_rng(0).integers(3, 40, 50).astype(np.int32)
    cut = encoder.run({"token_ids": ids[:32], "row_offsets": np.array([0, 32], np.int32)})
    for _ in range(2):
        whole = encoder.run({"token_ids": ids, "row_offsets": np.array([0, 50], np.int32)})
        np.testing.assert_array_equal(whole["embeddings"], cut["embeddings"])
        encoder.encode(["w1 w2 w3 w4"] * 9)


def test_texts_without_any_token_give_zeros(tiny) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tiny("bert").folder
    tokenizer = Tokenizer(models.WordLevel({"a": 3, "<unk>": 0}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    with plumbline.load(folder) as model:
        found = model.encode(["", "a", ""])
        np.testing.assert_array_equal(found[[0, 2]], np.zeros((2, 48), np.float32))
        np.testing.assert_array_equal(model.encode([""]), np.zeros((1, 48), np.float32))
        np.testing.assert_array_equal(found[1], model.encode(["a"])[0])


def test_a_transformer_in_a_folder_of_its_own_is_found(tiny) -> None:
    modules = [
        {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = {"pooling_mode_cls_token": True}
    files = {"modules.json": modules, "1_Pooling/config.json": pooling}
    nested, flat = (
        tiny("bert", files=files),
        tiny("bert", name="flat", files={"1_Pooling/config.json": pooling}),
    )
    (nested.folder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (nested.folder / name).rename(nested.folder / "0_Transformer" / name)
    with plumbline.load(nested.folder) as model, plumbline.load(flat.folder) as other:
        found, wanted = model.encode(TEXTS), other.encode(TEXTS)
    np.testing.assert_allclose(found / np.linalg.norm(found, axis=1, keepdims=True), wanted, atol=1e-6)


def test_threads_that_encode_at_the_same_time_get_their_own_vectors(tiny) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with plumbline.load(tiny("bert").folder, contexts=2) as model, ThreadPoolExecutor(4) as pool:
        wanted = {text: model.encode([text]) for text in TEXTS}
        for text, found in zip(TEXTS * 10, pool.map(lambda t: model.encode([t]), TEXTS * 10), strict=True):
            np.testing.assert_array_equal(found, wanted[text])


def test_example_inputs_are_rows_that_the_encoder_takes(encoder) -> None:
    inputs = encoder.example_inputs(np.random.default_rng(0))
    assert encoder.run(inputs)["embeddings"].shape == (64, 48)
