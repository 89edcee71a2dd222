"""`plumb calibrate` on a compiled model: bounds lie beside the version and reach its settings (L4-65)."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from plumbline.contracts.versions import VersionSettings
from plumbline.engine.calibration import CalibrationTermsRefused
from plumbline.product.cli import calibrate
from plumbline.product.cli.arguments import load_options
from plumbline.product.cli.loading import load_model
from plumbline.serving.repository.settings import read_calibration


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version folder with a model of four matrix products."""
    folder = tmp_path / "mlp" / "1"
    folder.mkdir(parents=True)
    weight = np.full((64, 64), 0.01, np.float32)
    nodes, last = [], "x"
    for layer in range(4):
        nodes.append(helper.make_node("MatMul", [last, "w"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"]))
        last = f"r{layer}"
    shape = [4, 64]
    graph = helper.make_graph(
        nodes, "mlp", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, folder / "model.onnx")
    return folder


def parsed(*words: str) -> Namespace:
    parser = ArgumentParser()
    calibrate.configure(parser)
    return parser.parse_args([*words], Namespace(json=True))


QUICK = ("--runs", "60", "--coverage", "0.9", "--held-out", "10")


def test_a_calibrated_version_has_bounds_for_each_segment_in_its_settings(version: Path) -> None:
    arguments = parsed(str(version / "model.onnx"), "--max-segment-ns", "1000", *QUICK)
    answer = calibrate.execute(arguments)
    written = json.loads((version / "calibration.json").read_text(encoding="utf-8"))
    assert written["segment_bounds_ns"] == list(answer.document["segment_bounds_ns"])
    settings = read_calibration(version, VersionSettings(), subject="mlp@1")
    with load_model(str(version / "model.onnx"), load_options(arguments)) as model:
        assert len(settings.segment_bounds_ns) == len(model.manifest.segments) > 1
    assert settings.cost_bound_ns == sum(settings.segment_bounds_ns) > 0
    assert "Measured, not proved" in answer.text


def test_a_version_folder_is_measured_as_a_server_would_open_it(version: Path) -> None:
    (version / "version.toml").write_text("max_segment_ns = 1000\n", encoding="utf-8")
    document = calibrate.execute(parsed(str(version), *QUICK)).document
    assert document["name"] == "mlp"
    assert len(document["segment_bounds_ns"]) > 1
    assert (version / "calibration.json").is_file()


def test_nothing_is_written_where_nothing_should_be_or_nothing_can_be_said(version: Path) -> None:
    calibrate.execute(parsed(str(version / "model.onnx"), "--no-write", *QUICK))
    with pytest.raises(CalibrationTermsRefused):
        calibrate.execute(parsed(str(version / "model.onnx"), "--runs", "60"))
    assert not (version / "calibration.json").exists()
