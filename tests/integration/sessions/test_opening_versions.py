"""A version folder becomes a session (L3-02, L3-04, L3-05, L3-07)."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.sessions.conftest import MakeSpec, classifier

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.session import Session, SessionStage
from plumbline.execution.context import ARENA_TAIL_BYTES
from plumbline.product.class_loading import PREFIX, ClassUnloadable
from plumbline.product.sessions import (
    DEFAULT_BATCH,
    CodeNotAllowed,
    CompileWhileServing,
    VersionUnusable,
    open_session,
    planned_bytes,
    prepare,
)

LABELS = b"""
import numpy as np
from .names import NAMES

class Labels:
    inputs = {"scores": ("FP32", (-1, 3))}
    outputs = {"label": ("BYTES", (-1,))}
    max_batch = 4

    def run(self, inputs, parameters):
        return {"label": np.array([NAMES[i] for i in inputs["scores"].argmax(1)], object)}
"""
NAMES = b'NAMES = (b"one", b"two", b"three")\n'


MAPS = Path("/proc/self/maps")


def onward(index: int) -> bool:
    return True


def answer(session: Session, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """One request alone, through the stages of a pipeline where there are some."""
    stages: SessionStage | None = session if hasattr(session, "stages") else None  # type: ignore[assignment]
    for number, part in enumerate(stages.stages if stages else (session,)):
        admitted = (session if number == 0 else part).admit(inputs, {}, "local")
        instance = part.open_instance()
        try:
            results = instance.run([admitted], onward)
        finally:
            instance.close()
        assert results is not None
        (outputs,) = results
        assert not isinstance(outputs, Exception)
        inputs = dict(stages.forward(number, admitted, outputs) if stages else outputs)
    return inputs


@pytest.fixture
def model(make_spec: MakeSpec) -> VersionSpec:
    return make_spec("classifier", VersionKind.MODEL, "model.onnx", {"model.onnx": classifier()})


def test_model_opens_batched_along_the_proved_rows(model: VersionSpec) -> None:
    """No bound is given: the leading symbol gets the default one."""
    session = open_session(model)
    try:
        assert session.metadata.max_rows == DEFAULT_BATCH
        assert session.metadata.unbatched_because == ""
        x = np.random.default_rng(2).standard_normal((3, 6)).astype(np.float32)
        together = answer(session, {"x": x})["scores"]
        assert together[1:2].tobytes() == answer(session, {"x": x[1:2]})["scores"].tobytes()
    finally:
        session.close()


def test_most_rows_of_a_version_bound_its_leading_symbol(make_spec: MakeSpec) -> None:
    spec = make_spec("wide", VersionKind.MODEL, "model.onnx", {"model.onnx": classifier()}, max_batch=3)
    session = open_session(spec)
    session.close()
    assert session.metadata.max_rows == 3
    assert session.metadata.inputs[0].bounds == (3, 6)


def test_fixed_batch_opens_unbatched_and_says_what_to_do(make_spec: MakeSpec) -> None:
    spec = make_spec("fixed", VersionKind.MODEL, "model.onnx", {"model.onnx": classifier(rows=1)})
    session = open_session(spec)
    session.close()
    assert session.metadata.max_rows == 0
    assert "dynamic batch axis" in session.metadata.unbatched_because


def test_version_that_is_not_prepared_is_refused_while_serving_and_traced(make_spec: MakeSpec) -> None:
    """The refusal is one violation; prepared, the same version opens without compiling."""
    files = {"model.onnx": classifier(seed=77)}
    spec = make_spec("late", VersionKind.MODEL, "model.onnx", files)
    seen: list[CompileWhileServing] = []
    with pytest.raises(CompileWhileServing, match="late@1"):
        open_session(spec, compile="refuse", on_violation=seen.append)
    assert [violation.version for violation in seen] == ["late@1"]
    with pytest.raises(CompileWhileServing):
        planned_bytes(spec)
    stages: list[str] = []
    prepare(spec, progress=stages.append)
    assert "code" in stages
    open_session(spec, compile="refuse", on_violation=seen.append).close()
    assert len(seen) == 1
    stages.clear()
    prepare(spec, progress=stages.append)
    assert not stages


def test_bytes_planned_before_loading_are_those_of_the_open_session(make_spec: MakeSpec) -> None:
    """L3-07: the estimate is the plan, and what is mapped is that, with the tail of each arena."""
    files = {"model.onnx": classifier(width=64, seed=5)}
    spec = make_spec("measured", VersionKind.MODEL, "model.onnx", files, instances=3)
    prepare(spec)
    estimate = planned_bytes(spec)
    session = open_session(spec, compile="refuse")
    instances = [session.open_instance() for _ in range(3)]
    try:
        assert dict(session.metadata.memory) == dict(estimate)
        assert session.metadata.memory_bytes == sum(estimate.values())
        model: Any = session._model  # type: ignore[attr-defined]
        arenas = [instance._context._arena for instance in instances]  # type: ignore[attr-defined]
        assert model._weights.nbytes == estimate["weights"]
        mapped = sum(arena.nbytes - ARENA_TAIL_BYTES for arena in arenas)
        assert mapped == estimate["arenas"]
        assert model.contexts == 3
    finally:
        for instance in instances:
            instance.close()
        session.close()


def test_python_class_runs_only_where_code_is_allowed(make_spec: MakeSpec) -> None:
    spec = make_spec("labels", VersionKind.PYTHON, "model.py:Labels", {"model.py": LABELS, "names.py": NAMES})
    for refused in (open_session, prepare):
        with pytest.raises(CodeNotAllowed, match="labels@1"):
            refused(spec)
    prepare(spec, allow_code=True)
    session = open_session(spec, allow_code=True)
    assert list(answer(session, {"scores": np.float32([[0, 2, 1], [9, 0, 0]])})["label"]) == [b"two", b"one"]
    session.close()


def test_python_class_leaves_no_trace_in_search_path_modules_or_folder(make_spec: MakeSpec) -> None:
    """Two versions of one class live side by side; the folder keeps its digest."""
    before = list(sys.path)
    first = make_spec("one", VersionKind.PYTHON, "model.py:Labels", {"model.py": LABELS, "names.py": NAMES})
    changed = NAMES.replace(b"two", b"2")
    second = make_spec(
        "two", VersionKind.PYTHON, "model.py:Labels", {"model.py": LABELS, "names.py": changed}
    )
    sessions = [open_session(spec, allow_code=True) for spec in (first, second)]
    scores = {"scores": np.float32([[0, 2, 1]])}
    assert [answer(session, scores)["label"][0] for session in sessions] == [b"two", b"2"]
    for session in sessions:
        session.close()
    assert sys.path == before
    assert not [name for name in sys.modules if name.startswith(PREFIX)]
    assert sorted(p.name for p in first.folder.iterdir()) == ["model.py", "names.py"]


@pytest.mark.parametrize(
    ("content", "entry", "reason"),
    [
        (
            b"raise RuntimeError('no words')",
            "model.py:A",
            r"raised RuntimeError: no words \(model.py line 1\)",
        ),
        (b"def broken(:", "model.py:A", r"raised SyntaxError: .*\(model.py, line 1\)"),
        (b"import sys; sys.exit(3)", "model.py:A", "raised SystemExit"),
        (b"A = 3", "model.py:A", "no class 'A'"),
        (b"class A: pass", "other.py:A", "no file 'other.py'"),
        (b"class A: pass", "../model.py:A", "no file"),
    ],
)
def test_unusable_class_is_refused_with_the_reason(
    make_spec: MakeSpec, content: bytes, entry: str, reason: str
) -> None:
    spec = make_spec("bad", VersionKind.PYTHON, entry, {"model.py": content})
    with pytest.raises(ClassUnloadable, match=reason) as caught:
        open_session(spec, allow_code=True)
    assert str(spec.folder) not in str(caught.value)
    assert not [name for name in sys.modules if name.startswith(PREFIX)]


def test_memory_of_a_class_that_its_settings_state_is_known_before_its_code_runs(
    make_spec: MakeSpec,
) -> None:
    """L3-07."""
    files = {"model.py": LABELS, "names.py": NAMES}
    spec = make_spec("stated", VersionKind.PYTHON, "model.py:Labels", files, instances=2, memory_bytes=512)
    assert dict(planned_bytes(spec)) == {"objects": 1024}
    session = open_session(spec, allow_code=True)
    try:
        assert dict(session.metadata.memory) == {"objects": 1024}
    finally:
        session.close()


def test_memory_stated_for_what_is_planned_is_refused(make_spec: MakeSpec) -> None:
    spec = make_spec("twice", VersionKind.MODEL, "model.onnx", {"model.onnx": classifier()}, memory_bytes=512)
    for use in (prepare, open_session):
        with pytest.raises(VersionUnusable, match="stated for Python classes only"):
            use(spec)


def test_pipeline_of_model_and_class_answers_by_tensor_names(make_spec: MakeSpec, model: VersionSpec) -> None:
    labels = make_spec(
        "labels", VersionKind.PYTHON, "model.py:Labels", {"model.py": LABELS, "names.py": NAMES}
    )
    spec = make_spec("named", VersionKind.PIPELINE, "pipeline.toml", {}, stages=(model, labels))
    with pytest.raises(CodeNotAllowed):
        open_session(spec)
    prepare(spec, allow_code=True)
    session = open_session(spec, allow_code=True, compile="refuse")
    try:
        assert dict(session.metadata.memory) == dict(planned_bytes(spec))
        assert list(answer(session, {"x": np.ones((2, 6), np.float32)})) == ["label"]
    finally:
        session.close()


@pytest.mark.parametrize(
    ("entry", "reason"), [("absent.onnx", "there is no"), ("../classifier/model.onnx", "outside its folder")]
)
def test_entry_that_is_not_in_the_folder_is_refused(
    make_spec: MakeSpec, model: VersionSpec, entry: str, reason: str
) -> None:
    spec = make_spec("away", VersionKind.MODEL, entry, {"README.md": b"nothing"})
    with pytest.raises(VersionUnusable, match=reason):
        open_session(spec)


def test_executable_in_a_repository_is_refused(make_spec: MakeSpec) -> None:
    """Native code never comes from a repository."""
    files = {"manifest.json": b"{}", "code.so": b"\x7fELF"}
    spec = make_spec("native", VersionKind.TEXT, ".", files)
    with pytest.raises(VersionUnusable, match="native code does not come from a repository"):
        open_session(spec)


def test_encoder_folder_opens_as_text(tiny: Callable[..., Any]) -> None:
    spec = VersionSpec(
        ref=VersionRef(model="tiny", version="1"), kind=VersionKind.TEXT, folder=tiny("bert").folder,
        entry=".", digest="0",
    )  # fmt: skip
    prepare(spec)
    session = open_session(spec, compile="refuse")
    try:
        found = answer(session, {"texts": np.array([b"w1 w2", b"w7"], object)})["embeddings"]
        assert found.shape[0] == 2
        assert dict(session.metadata.memory) == dict(planned_bytes(spec))
    finally:
        session.close()


@pytest.mark.skipif(not MAPS.is_file(), reason="the system does not list mappings")
def test_closed_versions_leave_no_mapping_behind(make_spec: MakeSpec) -> None:
    """L3-02: load, run, unload; memory is back where it was."""
    files = {"model.onnx": classifier(width=512, seed=9)}
    spec = make_spec("passing", VersionKind.MODEL, "model.onnx", files, instances=2)
    x = np.ones((1, 512), np.float32)
    counts = []
    for _ in range(12):
        session = open_session(spec)
        answer(session, {"x": x})
        session.close()
        del session
        gc.collect()
        counts.append(sum("weights.bin" in line or "code.so" in line for line in MAPS.open()))
    assert counts[-1] <= counts[2], counts
