"""Why a version is not batched and what nobody stated of its memory: seen at every place (L3-07, L4-62)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.product.cli import main
from plumbline.product.demo_models.onnx_writer import OnnxWriter

REASON = "operator y (softmax) (from Softmax/y): it works along axis 0, on which the rows lie"
CLASS = """
class Sized:
    inputs = {"x": ("FP32", (-1,))}
    outputs = {"y": ("FP32", (-1,))}
    memory_bytes = 4096

    def run(self, inputs, parameters):
        return {"y": inputs["x"]}


class Silent(Sized):
    memory_bytes = None
"""


def softmax_over_rows() -> bytes:
    writer = OnnxWriter(name="columns", inputs={"x": ["rows", 4]}, outputs={"y": ["rows", 4]})
    writer.node("Softmax", ["x"], "y", axis=0)
    return writer.model()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("costs")
    for name in ("columns", "sized", "silent"):
        (folder / name / "1").mkdir(parents=True)
    (folder / "columns" / "1" / "model.onnx").write_bytes(softmax_over_rows())
    for name in ("sized", "silent"):
        (folder / name / "1" / "model.py").write_text(CLASS)
        toml = f'entry = "model.py:{name.capitalize()}"\ninstances = 2\n'
        (folder / name / "1" / "version.toml").write_text(toml)
    return folder


@pytest.fixture(scope="module")
def server(start_server: Any, models: Path) -> Any:
    started = start_server(models=models)
    started.wait_ready()
    return started


def command(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 0
    return capsys.readouterr().out


def test_a_refusal_to_batch_is_said_over_both_interfaces(server: Any) -> None:
    native = server.get("/api/v1/models/columns/versions/1")[2]
    assert native["max_rows"] == 0
    assert REASON in native["unbatched_because"]
    parameters = server.get("/v2/models/columns/config")[2]["parameters"]
    assert parameters["unbatched_because"]["string_value"] == native["unbatched_because"]
    assert parameters["max_rows"]["string_value"] == "0"


def test_an_unbatched_model_answers_every_request_as_if_alone(server: Any) -> None:
    """Refused means: correct, one request a launch."""
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    tensor = {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": x.tolist()}
    status, _, document = server.post("/v2/models/columns/infer", {"inputs": [tensor]})
    assert status == 200
    found = np.array(document["outputs"][0]["data"]).reshape(2, 4)
    assert found == pytest.approx(np.exp(x) / np.exp(x).sum(axis=0), rel=1e-5)


def test_a_refusal_to_batch_is_said_by_the_commands(
    server: Any, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("models", "ls"), ("models", "show", "columns")):
        assert f"columns@1 runs unbatched because {REASON}" in command(
            capsys, *words, "--server", server.base
        )
    file = str(models / "columns" / "1" / "model.onnx")
    for words in (("plan", file), ("compile", file)):
        assert f"unbatched because {REASON}" in command(capsys, *words, "--symbol", "rows=4")


def test_memory_of_classes_is_what_they_state_or_not_stated(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sized, silent = (server.get(f"/api/v1/models/{name}/versions/1")[2] for name in ("sized", "silent"))
    assert (sized["memory_bytes"], sized["memory"], sized["memory_unstated"]) == (8192, {"objects": 8192}, [])
    assert (silent["memory_bytes"], silent["memory"], silent["memory_unstated"]) == (None, {}, ["objects"])
    said = server.get("/v2/models/silent/config")[2]["parameters"]
    assert said["memory_bytes"]["string_value"] == "not stated"
    assert said["memory_unstated"]["string_value"] == "objects"
    assert "not stated" in command(capsys, "models", "show", "silent", "--server", server.base)
    metrics = server.get("/metrics")[2].decode()
    assert 'plumbline_version_memory_bytes{model="sized",version="1"} 8192.0' in metrics
    assert 'plumbline_version_memory_bytes{model="silent"' not in metrics
    assert 'plumbline_version_memory_unstated_parts{model="silent",version="1"} 1.0' in metrics
