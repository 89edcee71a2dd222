"""Deadlines promised by a real server: to pipelines of models, and never to classes (L4-65)."""

from __future__ import annotations

from typing import Any

import pytest

from plumbline.product.demo_models.onnx_writer import OnnxWriter

FIVE_SECONDS_NS = 5_000_000_000
CLASS = """
class Same:
    inputs = {"x": ("FP32", (-1, 4))}
    outputs = {"y": ("FP32", (-1, 4))}

    def run(self, inputs, parameters):
        return {"y": inputs["x"]}
"""


def one_node(operator: str, given: str, made: str) -> bytes:
    writer = OnnxWriter(name=operator.lower(), inputs={given: ["rows", 4]}, outputs={made: ["rows", 4]})
    writer.node(operator, [given], made)
    return writer.model()


@pytest.fixture(scope="module")
def server(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two models, a pipeline of them whose bounds are five seconds a stage, and a class."""
    root = tmp_path_factory.mktemp("promised")
    bounds = f"segment_bounds_ns = [{FIVE_SECONDS_NS}, {FIVE_SECONDS_NS}]\n"
    files: dict[str, dict[str, str | bytes]] = {
        "first": {"model.onnx": one_node("Abs", "x", "middle"), "version.toml": "instances = 2\n"},
        "second": {"model.onnx": one_node("Relu", "middle", "y"), "version.toml": "instances = 2\n"},
        "line": {
            "pipeline.toml": 'stages = [{ model = "first" }, { model = "second" }]\n',
            "version.toml": f"{bounds}cost_bound_ns = {2 * FIVE_SECONDS_NS}\n",
        },
        "same": {
            "model.py": CLASS,
            "version.toml": f'entry = "model.py:Same"\ncost_bound_ns = {FIVE_SECONDS_NS}\n',
        },
    }
    for model, contents in files.items():
        (folder := root / model / "1").mkdir(parents=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    started = start_server("--promise-deadlines", "1000000", models=root)
    started.wait_ready()
    return started


def ask(server: Any, model: str, deadline_s: float, **parameters: Any) -> tuple[int, Any]:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [-1.0, 2.0, -3.0, 4.0]}
    parameters["plumbline_deadline_us"] = int(deadline_s * 1e6)
    status, _, document = server.post(
        f"/v2/models/{model}/infer", {"inputs": [tensor], "parameters": parameters}
    )
    return status, document


def test_a_pipeline_is_promised_a_deadline_and_answers(server: Any) -> None:
    """`promise` asks by name, so an answer means that there was one."""
    status, document = ask(server, "line", 120, promise=True)
    assert status == 200, document
    assert document["outputs"][0]["data"] == [1.0, 2.0, 3.0, 4.0]


def test_a_pipeline_whose_stages_together_take_too_long_is_refused_before_it_runs(server: Any) -> None:
    """Eight seconds are enough for each stage of five, and not for both."""
    status, document = ask(server, "line", 8)
    assert status == 422
    assert document["code"] == "resource.admission_infeasible"


def test_a_class_is_refused_a_promise_with_the_reason_and_served_without_one(server: Any) -> None:
    status, document = ask(server, "same", 120, promise=True)
    assert status == 409
    assert document["code"] == "policy.promise_impossible"
    assert "same@1 is a Python class" in document["detail"]
    assert ask(server, "same", 120)[0] == 200
