"""The repository of the demonstration: honest names, equal bytes, and plain text in, passages out."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import onnx
import pytest

import plumbline
from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceCall, InferenceResult, VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.requests import RequestId
from plumbline.engine.lanes import LanePool
from plumbline.engine.outcomes import Completion
from plumbline.engine.scheduler import Scheduler
from plumbline.product.demo.model_folder import DemoModelMissing, find_demo_model
from plumbline.product.demo_models.networks import ECHO_WIDTH, write_echo, write_random_cnn
from plumbline.product.demo_models.repository import write_demo_repository
from plumbline.product.sessions import open_session, prepare
from plumbline.scheduling.policies.registry import open_policy
from plumbline.serving.repository.folder import FolderRepository
from plumbline.serving.repository.specs import fetch_spec

QUESTION = b"How do I delete a directory together with all files in it?"


@pytest.mark.parametrize("write", [write_echo, write_random_cnn])
def test_networks_written_by_hand_are_valid_and_the_same_every_time(write) -> None:
    """The checker of the format's own package accepts them."""
    assert write() == write()
    onnx.checker.check_model(onnx.load_from_string(write()), full_check=True)


def test_null_model_gives_back_what_it_got_row_by_row() -> None:
    with plumbline.load(write_echo(), symbols={"rows": 4}) as model:
        assert model.manifest.batch_symbol == "rows"
        x = np.arange(2 * ECHO_WIDTH, dtype=np.float32).reshape(2, ECHO_WIDTH)
        np.testing.assert_array_equal(model.run({"x": x})["y"], x)


def test_random_classifier_is_batched_and_gives_probabilities() -> None:
    with plumbline.load(write_random_cnn(), symbols={"rows": 4}) as model:
        assert model.manifest.batch_symbol == "rows"
        image = np.random.default_rng(0).uniform(0, 1, (3, 1, 28, 28)).astype(np.float32)
        together = model.run({"image": image})["probabilities"]
        np.testing.assert_allclose(together.sum(1), 1.0, rtol=1e-5)
        assert together[2:].tobytes() == model.run({"image": image[2:]})["probabilities"].tobytes()


@pytest.fixture
def encoder() -> Path:
    try:
        return find_demo_model()
    except DemoModelMissing as error:
        pytest.skip(error.message)


def digests(folder: Path) -> dict[VersionRef, str]:
    return {version.ref: version.digest for version in FolderRepository(folder).versions()}


@pytest.mark.slow
@pytest.mark.usefixtures("encoder")
def test_repository_is_written_once_and_answers_plain_text(tmp_path: Path) -> None:
    """Every version prepares and loads; the pipeline finds the right passage."""
    folder = write_demo_repository(tmp_path / "models", passages=120)
    first = digests(folder)
    assert {ref.model for ref in first} == {"minilm", "echo", "random-cnn", "nearest", "semantic-search"}
    assert digests(write_demo_repository(folder, passages=120)) == first
    again = digests(write_demo_repository(tmp_path / "again", passages=120))
    assert again == first
    repository = FolderRepository(folder)
    specs = [fetch_spec(repository, ref, tmp_path / f"copy-{i}") for i, ref in enumerate(first)]
    for spec in specs:
        prepare(spec, allow_code=True)
    engine = Scheduler(policy=open_policy("fifo"), streams=LanePool(1), clock=MonotonicClock())
    for spec in specs:
        session = open_session(spec, compile="refuse", allow_code=True)
        assert session.metadata.kind is spec.kind
        engine.load(spec.ref, session)
    engine.start()
    try:
        done: Future[Completion] = Future()
        ref = next(spec.ref for spec in specs if spec.kind is VersionKind.PIPELINE)
        inputs = {"texts": np.array([QUESTION], object)}
        call = InferenceCall(id=RequestId("r1"), model=ref.model, inputs=inputs)
        engine.submit(ref, call, done.set_result)
        result = done.result(timeout=60)
        assert isinstance(result, InferenceResult)
        assert result.outputs["names"].shape == (1, 3)
        assert (np.diff(result.outputs["scores"][0]) <= 0).all()
    finally:
        engine.stop(drain=True, timeout_s=20)
        engine.close()


@pytest.mark.slow
@pytest.mark.usefixtures("encoder")
def test_changed_content_becomes_the_next_version(tmp_path: Path) -> None:
    """What was served stays; the pipeline names what it was written with."""
    folder = write_demo_repository(tmp_path / "models", passages=30)
    before = digests(folder)
    write_demo_repository(folder, passages=40)
    after = digests(folder)
    assert before.items() <= after.items()
    assert {str(ref) for ref in set(after) - set(before)} == {"nearest@2", "semantic-search@2"}
    pipeline = (folder / "semantic-search" / "2" / "pipeline.toml").read_text()
    assert 'model = "nearest", version = "2"' in pipeline
    assert len(json.loads((folder / "nearest" / "2" / "passages.json").read_text())) == 40
