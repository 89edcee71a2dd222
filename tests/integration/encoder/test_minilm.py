"""The real all-MiniLM-L6-v2, where its package is installed."""

from __future__ import annotations

import numpy as np
import pytest

import plumbline
from plumbline.product.demo.model_folder import DemoModelMissing, find_demo_model

PAIRS = (
    ("The new movie is awesome", "The dog plays in the garden", 0.0543),
    ("The new movie is awesome", "The new movie is so great", 0.8939),
    ("The new movie is awesome", "A woman watches TV", -0.0502),
    ("The cat sits outside", "The dog plays in the garden", 0.2838),
    ("The cat sits outside", "The new movie is so great", -0.0029),
    ("The cat sits outside", "A woman watches TV", 0.1310),
    ("A man is playing guitar", "The dog plays in the garden", 0.2277),
    ("A man is playing guitar", "The new movie is so great", -0.0136),
    ("A man is playing guitar", "A woman watches TV", -0.0327),
    ("The weather is lovely today.", "It's so sunny outside!", 0.6660),
    ("The weather is lovely today.", "He drove to the stadium.", 0.1046),
    ("It's so sunny outside!", "He drove to the stadium.", 0.1411),
)
"""Cosines that the documentation of sentence-transformers prints for this model, to four digits."""


@pytest.fixture(scope="module")
def folder():
    try:
        return find_demo_model()
    except DemoModelMissing as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def model(folder):
    with plumbline.load(folder) as loaded:
        yield loaded


@pytest.mark.parametrize(("left", "right", "cosine"), PAIRS)
def test_cosines_are_those_that_sentence_transformers_publishes(left, right, cosine, model) -> None:
    a, b = model.encode([left, right])
    assert float(a @ b) == pytest.approx(cosine, abs=6e-5)


def test_bits_are_equal_alone_in_a_batch_and_on_more_threads(model, folder) -> None:
    """Issue 2, section 4, Bits: 1, 2 and 4 threads, alone and packed."""
    texts = [left for left, *_ in PAIRS] + [right for _, right, _ in PAIRS] + ["word " * 300, ""]
    wanted = model.encode(texts).view(np.int32)
    alone = np.concatenate([model.encode([text]) for text in texts])
    np.testing.assert_array_equal(alone.view(np.int32), wanted)
    for threads in (2, 4):
        with plumbline.load(folder, threads=threads) as other:
            np.testing.assert_array_equal(other.encode(texts).view(np.int32), wanted)


def test_garbage_in_the_arena_changes_no_bit(model) -> None:
    inputs = model.inputs_of(model.tokenize([PAIRS[0][0], PAIRS[1][1]]).rows)
    wanted = model.run(inputs)["embeddings"]
    context = model.context()
    context.fill_arena(0xFF)
    context.set_symbols({"tokens": len(inputs["token_ids"]), "rows": 2})
    for name, array in inputs.items():
        context.inputs[name][...] = array
    context.run()
    np.testing.assert_array_equal(context.outputs["embeddings"].view(np.int32), wanted.view(np.int32))


def test_the_plan_reaches_its_lower_bound(model) -> None:
    """Issue 2, section 3: peak at most 1.05 times the lower bound."""
    assert model.plan.peak_bytes <= 1.05 * model.plan.lower_bound_bytes


def test_nothing_is_assumed_about_a_complete_folder(model) -> None:
    assert model.text.assumptions == ()
    assert model.text.max_tokens == 256
