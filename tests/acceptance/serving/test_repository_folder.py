"""The folder of a repository as people treat it: empty version folders, a disk that goes away (L4-64)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.serving.grpc import open_inference_pb2 as pb

NEGATE = """
class Negate:
    inputs = {"x": ("FP32", (-1,))}
    outputs = {"y": ("FP32", (-1,))}

    def run(self, inputs, parameters):
        return {"y": -inputs["x"]}
"""


def place(models: Path, model: str) -> None:
    folder = models / model / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(NEGATE)
    (folder / "version.toml").write_text('entry = "model.py:Negate"\n')


def grpc_index(server: Any) -> dict[tuple[str, str], tuple[str, str]]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        index = channel.unary_unary(
            "/inference.GRPCInferenceService/RepositoryIndex",
            request_serializer=pb.RepositoryIndexRequest.SerializeToString,
            response_deserializer=pb.RepositoryIndexResponse.FromString,
        )
        found = index(pb.RepositoryIndexRequest(), timeout=60).models
    return {(row.name, row.version): (row.state, row.reason) for row in found}


@pytest.mark.slow
def test_empty_version_folders_and_a_folder_that_vanishes_in_a_real_server(
    start_server: Any, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    place(models, "negate")
    place(models, "later")
    (models / "negate" / "3").mkdir()
    server = start_server("--load", "negate", models=models)
    server.wait_ready()

    expected = {
        ("later", "1"): ("UNAVAILABLE", "found"),
        ("negate", "3"): ("UNAVAILABLE", "its folder is empty"),
        ("negate", "1"): ("READY", ""),
    }
    rows = server.post("/v2/repository/index", {})[2]
    assert {(row["name"], row["version"]): (row["state"], row["reason"]) for row in rows} == expected
    assert grpc_index(server) == expected
    native = {v["version"]: v for v in server.get("/api/v1/models/negate")[2]["versions"]}
    assert (native["3"]["state"], native["3"]["reason"]) == ("found", "its folder is empty")

    models.rename(tmp_path / "away")
    status, headers, problem = server.post("/v2/repository/models/later/load", {})
    assert (status, problem["code"]) == (503, "resource.repository_folder")
    assert "retry-after" in headers
    assert str(tmp_path) not in str(problem)
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [2.0]}
    status, _, answer = server.post("/v2/models/negate/infer", {"inputs": [tensor]})
    assert (status, answer["outputs"][0]["data"]) == (200, [-2.0])
    status, _, readiness = server.get("/health/ready")
    assert status == 200
    assert any(said.startswith("the repository: ") for said in readiness["checks"]["degraded"])

    (tmp_path / "away").rename(models)
    end = time.monotonic() + 60
    while server.post("/v2/repository/models/later/load", {})[0] != 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert server.post("/v2/models/later/infer", {"inputs": [tensor]})[0] == 200
    while server.get("/health/ready")[2]["checks"]["degraded"] and time.monotonic() < end:
        time.sleep(0.05)
    assert server.get("/health/ready")[2]["checks"]["degraded"] == []
