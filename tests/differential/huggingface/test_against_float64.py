"""Encoders of every family against a float64 model of the papers, one row at a time and without packing."""

from __future__ import annotations

import numpy as np
import pytest

import plumbline

FAMILIES = ["bert", "distilbert", "roberta", "mpnet"]


def _rows(*lengths: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[0, *rng.integers(3, 40, n - 2).tolist(), 2] for n in lengths]


def _run(model, rows: list[list[int]]) -> np.ndarray:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    return model.run({"token_ids": np.concatenate(rows).astype(np.int32), "row_offsets": offsets})[
        "embeddings"
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_different_lengths_give_the_vectors_of_the_paper(family, tiny, reference) -> None:
    """Issue 2, section 2: every family, packed rows, no padding."""
    encoder = tiny(family)
    rows = _rows(2, 17, 32, 9, 3)
    with plumbline.load(encoder.folder) as model:
        found = _run(model, rows)
    np.testing.assert_allclose(found, reference(encoder, rows), atol=3e-6)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_padding_tokens_inside_a_text_do_not_count_as_positions(family, tiny, reference) -> None:
    encoder = tiny(family)
    rows = [[0, 5, 1, 6, 1, 1, 7, 2], [1, 0, 2]]
    with plumbline.load(encoder.folder) as model:
        np.testing.assert_allclose(_run(model, rows), reference(encoder, rows), atol=3e-6)


def test_mpnet_rows_beyond_the_last_single_distance_use_logarithmic_buckets(tiny, reference) -> None:
    encoder = tiny("mpnet", positions=302)
    rows = _rows(300, 150)
    with plumbline.load(encoder.folder) as model:
        np.testing.assert_allclose(_run(model, rows), reference(encoder, rows), atol=5e-6)


@pytest.mark.parametrize(("pooling", "normalize"), [("cls", False), ("mean", False), ("cls", True)])
def test_pooling_and_normalisation_follow_the_sentence_files(pooling, normalize, tiny, reference) -> None:
    stages = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * normalize
    files = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(stages)
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": 48, "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_max_tokens": False,
        },
    }  # fmt: skip
    encoder = tiny("bert", files=files)
    rows = _rows(4, 11)
    with plumbline.load(encoder.folder) as model:
        found = _run(model, rows)
    np.testing.assert_allclose(found, reference(encoder, rows, pooling, normalize), atol=5e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_width_weights_are_widened_without_rounding(dtype, tiny, reference) -> None:
    from ml_dtypes import bfloat16

    encoder = tiny("bert")
    narrow = np.float16 if dtype == "float16" else bfloat16
    halves = {name: array.astype(narrow) for name, array in encoder.weights.items()}
    small = tiny("bert", weights=halves, name="halves")
    small.weights.update({name: array.astype(np.float32) for name, array in halves.items()})
    rows = _rows(5, 20)
    with plumbline.load(small.folder) as model:
        np.testing.assert_allclose(_run(model, rows), reference(small, rows), atol=3e-6)


def test_prefixed_weights_with_old_norm_names_and_a_head_are_understood(tiny, reference) -> None:
    encoder = tiny("bert")
    renamed = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): array
        for name, array in encoder.weights.items()
    }
    renamed["cls.predictions.bias"] = np.zeros(40, np.float32)
    renamed["bert.pooler.dense.weight"] = np.zeros((48, 48), np.float32)
    other = tiny("bert", weights=renamed, name="prefixed", architectures=["BertForMaskedLM"])
    rows = _rows(6)
    with plumbline.load(other.folder) as model:
        np.testing.assert_allclose(_run(model, rows), reference(encoder, rows), atol=3e-6)


def test_bits_do_not_depend_on_threads_batch_bounds_or_garbage_in_the_arena(tiny) -> None:
    """Issue 2, section 4, Bits."""
    encoder = tiny("mpnet")
    rows = _rows(9, 32, 2, 16, 31)
    with plumbline.load(encoder.folder) as model:
        wanted = _run(model, rows).view(np.int32)
        alone = np.concatenate([_run(model, [row]) for row in rows])
        np.testing.assert_array_equal(alone.view(np.int32), wanted)
        context = model.context()
        context.fill_arena(0xFF)
        ids = np.concatenate(rows).astype(np.int32)
        context.set_symbols({"tokens": len(ids), "rows": len(rows)})
        context.inputs["token_ids"][...] = ids
        context.inputs["row_offsets"][...] = np.cumsum([0, *map(len, rows)])
        context.run()
        np.testing.assert_array_equal(context.outputs["embeddings"].view(np.int32), wanted)
    for options in ({"threads": 2}, {"threads": 4}, {"symbols": {"tokens": 90, "rows": 5}}):
        with plumbline.load(encoder.folder, **options) as model:
            np.testing.assert_array_equal(_run(model, rows).view(np.int32), wanted, err_msg=str(options))
