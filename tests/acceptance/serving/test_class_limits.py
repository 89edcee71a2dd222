"""A class that hangs, in a real server: its call is told the limit, nobody else notices (L3-15, L4-72)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from plumbline.product.demo_models.networks import write_echo

CLASS = """
import time


class Odd:
    inputs = {"x": ("FP32", (-1,))}
    outputs = {"y": ("FP32", (-1,))}

    def run(self, inputs, parameters):
        if parameters.get("do") == "spin":
            while True:
                pass
        if parameters.get("do") == "wait":
            time.sleep(2.0)
        return {"y": inputs["x"]}
"""


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    models = tmp_path_factory.mktemp("limits")
    (models / "echo" / "1").mkdir(parents=True)
    (models / "echo" / "1" / "model.onnx").write_bytes(write_echo())
    for name, limit in (("odd", "max_run_s = 2\n"), ("patient", "")):
        place = models / name / "1"
        place.mkdir(parents=True)
        (place / "model.py").write_text(CLASS)
        (place / "version.toml").write_text(f'entry = "model.py:Odd"\n{limit}')
    started = start_server(models=models)
    started.wait_ready()
    return started


def ask(server: Any, do: str = "", model: str = "odd", **headers: str) -> tuple[int, Any]:
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [4.0]}
    body = {"inputs": [tensor], "parameters": {"do": do}}
    status, _, document = server.post(f"/v2/models/{model}/infer", body, **headers)
    return status, document


def worker(server: Any, name: str) -> Any:
    return next(found for found in server.workers() if found["name"] == name)


def again_ready(server: Any, path: str) -> None:
    end = time.monotonic() + 60
    while server.get(path)[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_run_without_end_is_answered_with_its_limit_while_the_models_go_on(server: Any) -> None:
    """504 with a stable code; the worker of the models is the same process as before."""
    before = worker(server, "w0")["pid"]
    answers: list[tuple[int, Any]] = []
    hung = threading.Thread(target=lambda: answers.append(ask(server, "spin", **{"x-request-id": "hung"})))
    hung.start()
    echoes = []
    while hung.is_alive():
        echoes.append(server.echo(1.0, 2.0)[0])
    hung.join()
    ((status, problem),) = answers
    assert (status, problem["code"]) == (504, "execution.workers_run_too_long")
    assert "at most 2.0 s (max_run_s)" in problem["detail"]
    assert set(echoes) == {200}
    told = server.get("/api/v1/requests/hung/explain")[2]
    assert any("answered with 504 execution.workers_run_too_long" in line for line in told["lines"])
    assert any("its worker ended before it did" in line for line in told["lines"])
    assert worker(server, "w0")["pid"] == before
    again_ready(server, "/v2/models/odd/ready")
    assert ask(server)[0] == 200


def test_a_class_whose_worker_is_killed_is_not_ready_alone_and_its_call_says_what_it_waited_for(
    server: Any,
) -> None:
    """Readiness is the version's; `explain` names the worker that was lost and the one that answered."""
    again_ready(server, "/health/ready")
    answers: list[tuple[int, Any]] = []
    waiting = threading.Thread(
        target=lambda: answers.append(ask(server, "wait", "patient", **{"x-request-id": "waits"}))
    )
    waiting.start()
    end = time.monotonic() + 60
    while not sum(worker(server, "classes-w0")[what] for what in ("queued", "running")):
        assert time.monotonic() < end
        time.sleep(0.005)
    before = worker(server, "classes-w0")
    os.kill(before["pid"], signal.SIGKILL)
    while server.get("/v2/models/patient/ready")[0] == 200 and worker(server, "classes-w0") == before:
        assert time.monotonic() < end
    assert server.get("/v2/models/echo/ready")[0] == 200
    assert server.echo(1.0)[0] == 200
    waiting.join()
    assert answers[0][0] == 200, answers
    status, _, told = server.get("/api/v1/requests/waits/explain")
    assert status == 200, told
    routes = [route for log in told["logs"].values() for route in log["routes"]]
    reasons = [route["reason"] for route in routes]
    assert reasons == ["only_version", "worker_lost", "sent_again"]
    assert routes[1]["fields"]["because"] == "SIGKILL"
    assert routes[2]["chosen"] == "patient@1/classes-w0"
