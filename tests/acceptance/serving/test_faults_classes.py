"""Python classes that misbehave, in a real server: each fault is the request's alone (X-31, L4-72)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.serving.grpc import open_inference_pb2 as pb

CLASS = '''
import sys

import numpy as np


class Odd:
    """Declares no outputs, so any are given; `what` chooses."""

    inputs = {"what": ("INT64", ())}

    def run(self, inputs, parameters):
        what = int(inputs["what"])
        if what == 1:
            return None
        if what == 2:
            return {"y": np.zeros((1,) * 40, np.float32)}
        if what == 3:
            return {"\\ud800": np.zeros(1, np.float32)}
        if what == 4:
            return {1: np.zeros(1, np.float32)}
        if what == 5:
            return {"y": np.zeros(2, np.complex64)}
        if what == 6:
            sys.exit(3)
        if what == 7:
            return {}
        if what == 8:
            raise ValueError("eight is too many")
        return {"y": np.arange(6, dtype=np.float32).reshape(2, 3).T, "z": np.array([b"a"], object)}
'''

BROKEN = """
class Broken:
    def setup(self, context):
        self.words = open(context.folder / "words.txt").read()

    def run(self, inputs, parameters):
        return {}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(scope="module")
def odd(start_server: Callable[..., Any], models: Path) -> Any:
    place = models / "odd" / "1"
    place.mkdir(parents=True)
    (place / "model.py").write_text(CLASS)
    (place / "version.toml").write_text('entry = "model.py:Odd"\n')
    server = start_server(models=models)
    server.wait_ready()
    return server


def ask(server: Any, what: int) -> tuple[int, Any]:
    tensor = {"name": "what", "shape": [], "datatype": "INT64", "data": [what]}
    status, _, document = server.post("/v2/models/odd/infer", {"inputs": [tensor]})
    return status, document


def process_of(server: Any, worker: str) -> int:
    (pid,) = (found["pid"] for found in server.workers() if found["name"] == worker)
    return int(pid)


def test_a_class_that_declares_no_outputs_gives_any(odd: Any) -> None:
    status, document = ask(odd, 0)
    assert status == 200, document
    first, second = document["outputs"]
    assert (first["name"], first["shape"], first["data"]) == ("y", [3, 2], [0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
    assert (second["datatype"], second["data"]) == ("BYTES", ["a"])
    assert ask(odd, 7) == (200, {"model_name": "odd", "model_version": "1", "outputs": []})


@pytest.mark.parametrize("what", [1, 2, 3, 4, 5, 6])
def test_garbage_of_a_class_fails_its_request_and_keeps_its_worker(odd: Any, what: int) -> None:
    before = process_of(odd, "classes-w0")
    status, problem = ask(odd, what)
    assert status == 500
    assert problem["code"].split(".")[0] in {"decoding", "execution"}, problem
    assert ask(odd, 0)[0] == 200
    assert process_of(odd, "classes-w0") == before


@pytest.mark.parametrize("what", [1, 2, 5])
def test_garbage_of_a_class_is_the_servers_fault_over_grpc_and_in_a_task_too(odd: Any, what: int) -> None:
    """L4-39: nobody who sent good inputs is told that they were wrong."""
    with pytest.raises(grpc.RpcError) as failed:
        ask_grpc(odd, what)
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    tensor = {"name": "what", "shape": [], "datatype": "INT64", "data": [what]}
    body = {"operation": "infer", "model": "odd", "inputs": [tensor]}
    _, _, task = odd.ask("PUT", f"/api/v1/tasks/garbage-{what}", body)
    end = time.monotonic() + 60
    while task["status"] not in {"failed", "succeeded", "cancelled"} and time.monotonic() < end:
        time.sleep(0.05)
        task = odd.ask("GET", f"/api/v1/tasks/garbage-{what}")[2]
    assert (task["status"], task["error"]["class"]) == ("failed", "decoding"), task
    wrong = {"name": "what", "shape": [1], "datatype": "INT64", "data": [what]}
    status, _, problem = odd.post("/v2/models/odd/infer", {"inputs": [wrong]})
    assert (status, problem["class"]) == (400, "validation")


def ask_grpc(server: Any, what: int) -> Any:
    request = pb.ModelInferRequest(model_name="odd")
    request.inputs.add(name="what", datatype="INT64", shape=[]).contents.int64_contents.append(what)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        return infer(request, timeout=60)


def printed(server: Any, wanted: str) -> str:
    """What the worker printed, when `wanted` is there, or after a minute."""
    end = time.monotonic() + 60
    while True:
        status, _, document = server.ask("GET", "/api/v1/workers/classes-w0/output")
        assert status == 200, document
        if wanted in document["output"] or time.monotonic() > end:
            return str(document["output"])
        time.sleep(0.05)


def test_why_run_failed_is_in_the_output_of_the_worker_and_not_in_the_answer(odd: Any) -> None:
    """X-31: the author finds the line; the client does not see the text."""
    _, problem = ask(odd, 8)
    assert "eight" not in str(problem)
    told = printed(odd, "eight is too many")
    assert "  model.py line 29, in run\nValueError: eight is too many" in told


def test_why_setup_failed_is_in_the_refusal_and_in_the_output(odd: Any, models: Path) -> None:
    """L3-15: nothing of a client is in it, so whoever loads the version is told."""
    broken = models / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.py").write_text(BROKEN)
    (broken / "version.toml").write_text('entry = "model.py:Broken"\n')
    status, _, problem = odd.post("/api/v1/models/broken/load", {"version": "1"})
    assert status in range(400, 600)
    assert "setup of class 'Broken'" in problem["detail"]
    assert ".../words.txt' (model.py line 4)" in problem["detail"]
    assert "  model.py line 4, in setup\nFileNotFoundError" in printed(odd, "in setup")


def test_the_output_of_an_unknown_worker_is_refused(odd: Any) -> None:
    assert odd.ask("GET", "/api/v1/workers/w77/output")[2]["code"] == "validation.workers_unknown"
