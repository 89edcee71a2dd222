"""`plumb calibrate` on a pipeline: a bound for each stage, for the stages that were measured (L4-65)."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.calibration import CalibrationTermsRefused
from plumbline.product.calibrated_stages import CalibrationStale
from plumbline.product.cli import calibrate
from plumbline.product.demo_models.onnx_writer import OnnxWriter
from plumbline.product.sessions import open_session, prepare
from plumbline.serving.repository.folder import FolderRepository
from plumbline.serving.repository.specs import fetch_spec

QUICK = ("--runs", "60", "--coverage", "0.9", "--held-out", "10", "--loaders", "0")
LINE = VersionRef(model="line", version="1")
CLASS = """
class Same:
    inputs = {"middle": ("FP32", (-1, 4))}
    outputs = {"y": ("FP32", (-1, 4))}

    def run(self, inputs, parameters):
        return {"y": inputs["middle"]}
"""


def one_node(operator: str, given: str, made: str) -> bytes:
    writer = OnnxWriter(name=operator.lower(), inputs={given: ["rows", 4]}, outputs={made: ["rows", 4]})
    writer.node(operator, [given], made)
    return writer.model()


def publish(root: Path, model: str, files: dict[str, bytes], version: str = "1") -> Path:
    folder = root / model / version
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of two models and a pipeline of them; the second is not named by its version."""
    root = tmp_path / "models"
    publish(root, "first", {"model.onnx": one_node("Tanh", "x", "middle")})
    publish(
        root, "second", {"model.onnx": one_node("Relu", "middle", "y"), "version.toml": b"instances = 2\n"}
    )
    stages = b'stages = [{ model = "first", version = "1" }, { model = "second" }]\n'
    publish(root, "line", {"pipeline.toml": stages})
    return root


def calibrated(root: Path, *words: str) -> dict[str, object]:
    parser = ArgumentParser()
    calibrate.configure(parser)
    arguments = parser.parse_args([str(root / "line" / "1"), *QUICK, *words], Namespace(json=True))
    return dict(calibrate.execute(arguments).document)


def spec_of(root: Path, into: Path) -> VersionSpec:
    return fetch_spec(FolderRepository(root), LINE, into)


def test_a_calibrated_pipeline_opens_with_a_bound_for_each_stage(root: Path, tmp_path: Path) -> None:
    document = calibrated(root)
    bounds = document["segment_bounds_ns"]
    assert isinstance(bounds, list)
    assert len(bounds) == 2
    assert len(json.loads((root / "line" / "1" / "calibration.json").read_text())["stages"]) == 2
    spec = spec_of(root, tmp_path / "fetched")
    prepare(spec)
    session = open_session(spec, compile="refuse")
    try:
        admitted = session.admit({"x": np.ones((1, 4), np.float32)}, {}, "t")
        assert list(admitted.stage_bounds_ns) == bounds
    finally:
        session.close()
    assert calibrated(root)["stages"] == document["stages"], "its own bounds are not in the way"


def test_bounds_that_were_measured_with_other_stages_are_refused(root: Path, tmp_path: Path) -> None:
    """A newer version of a stage that is not named by its version."""
    calibrated(root)
    publish(root, "second", {"model.onnx": one_node("Sigmoid", "middle", "y")}, version="2")
    with pytest.raises(CalibrationStale, match=r"first@1, second@2.*calibrate it again"):
        open_session(spec_of(root, tmp_path / "fetched"))


def test_a_pipeline_with_a_class_in_it_is_not_measured(root: Path) -> None:
    files = {"model.py": CLASS.encode(), "version.toml": b'entry = "model.py:Same"\n'}
    publish(root, "second", files, version="2")
    with pytest.raises(CalibrationTermsRefused, match="second@2 is a Python class"):
        calibrated(root)
    assert not (root / "line" / "1" / "calibration.json").exists()
