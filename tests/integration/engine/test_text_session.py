"""Texts of many requests in one launch: the bits of each vector are those of its text alone (L4-62, U3)."""

from __future__ import annotations

import numpy as np
import pytest

import plumbline
from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceCall, VersionRef
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.lanes import LanePool
from plumbline.engine.model import InputRefused
from plumbline.engine.scheduler import Scheduler
from plumbline.engine.sessions.text import MAX_TEXTS, TextSession
from plumbline.engine.tokenization import TextRefused
from plumbline.scheduling.policies.fifo import FifoPolicy
from plumbline.testing.sessions import Outcomes

REF = VersionRef(model="encoder", version="1")


@pytest.fixture
def encoder(tiny):
    with plumbline.load(tiny("roberta").folder, symbols={"tokens": 64, "rows": 5}) as model:
        yield model


@pytest.fixture
def session(encoder):
    return TextSession(REF, encoder, VersionSettings(max_delay_ns=2_000_000))


def texts_of(rng, count):
    return [" ".join(f"w{rng.integers(0, 36)}" for _ in range(rng.integers(0, 20))) for _ in range(count)]


def call(name, texts):
    inputs = {"texts": np.array([t.encode() for t in texts] or [], object)}
    return InferenceCall(id=RequestId(name), model="encoder", inputs=inputs)


def test_packed_texts_have_the_bits_that_they_have_alone(encoder, session):
    """Also where a request has more rows or tokens than a launch, and where it has none."""
    rng = np.random.default_rng(3)
    requests = [texts_of(rng, count) for count in (1, 3, 0, 2, 1, 13, 1, 1, 4, 2, 1, 9, 1, 2)]
    alone = [[encoder.encode([text])[0] for text in texts] for texts in requests]
    scheduler = Scheduler(policy=FifoPolicy(), streams=LanePool(), clock=MonotonicClock())
    scheduler.load(REF, session)
    scheduler.start()
    told = Outcomes()
    for number, texts in enumerate(requests):
        scheduler.submit(REF, call(str(number), texts), told)
    for outcome in told.wait(len(requests)):
        expected = alone[int(outcome.id)]
        found = outcome.outputs["embeddings"]
        assert found.shape == (len(expected), 48)
        assert found.tobytes() == b"".join(vector.tobytes() for vector in expected)
    assert scheduler.status().launches < len(requests)
    scheduler.close()


def test_what_is_no_text_is_refused_by_name_before_anything_runs(session):
    with pytest.raises(InputRefused, match="texts"):
        session.admit({}, {}, "local")
    with pytest.raises(InputRefused, match="unknown"):
        session.admit({"text": np.array([b"a"], object)}, {}, "local")
    with pytest.raises(InputRefused, match="byte strings"):
        session.admit({"texts": np.zeros((1, 1))}, {}, "local")
    with pytest.raises(InputRefused, match=str(MAX_TEXTS)):
        session.admit({"texts": np.array([b"a"] * (MAX_TEXTS + 1), object)}, {}, "local")
    with pytest.raises(TextRefused, match=r"text 1.*UTF-8"):
        session.admit({"texts": np.array([b"a", b"\xff"], object)}, {}, "local")
    with pytest.raises(TextRefused, match="not bytes"):
        session.admit({"texts": np.array(["a"], object)}, {}, "local")


def test_units_of_a_launch_keep_both_bounds(session):
    """Five rows fill a launch of 64 tokens whatever their length; nothing is larger than a launch."""
    for texts in (["w1"], ["w1"] * 5, ["w1"] * 50, ["w1 " * 30] * 3):
        terms = session.admit(call("r", texts).inputs, {}, "local").batch
        assert terms.units <= terms.max_units == 64
        assert terms.units >= min(64, len(texts) * 64 / 5)


def test_the_example_runs(encoder, session):
    admitted = session.admit(session.example(), {}, "local")
    instance = session.open_instance()
    (outputs,) = instance.run([admitted], lambda segment: True)
    assert np.isfinite(outputs["embeddings"]).all()
    instance.close()
