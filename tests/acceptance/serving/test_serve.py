"""`plumb serve` as its users meet it: a process, its doors, its signals (L4-01, L4-54, X-74)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

HANG_S = 60.0


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG_S
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_a_served_model_answers_and_says_afterwards_why_it_ran_when_it_did(server: Any) -> None:
    """L4-17, L4-54: one id from the answer to the launch."""
    status, headers, document = server.echo(1.0, 2.5, **{"x-request-id": "acceptance-1"})
    assert status == 200
    assert headers["x-request-id"] == "acceptance-1"
    assert document["outputs"][0]["data"][:3] == [1.0, 2.5, 0.0]
    status, _, explained = server.get("/api/v1/requests/acceptance-1/explain")
    assert status == 200
    text = "\n".join(explained["lines"])
    assert "routed to echo@1/w0" in text
    assert "chosen for launch" in text
    assert "finished: ok" in text


def test_a_class_in_the_worker_runs_and_its_own_error_is_the_requests_alone(server: Any) -> None:
    def ask(value: float) -> tuple[int, Any]:
        tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [value, 1.0]}
        status, _, document = server.post("/v2/models/scale/infer", {"inputs": [tensor]})
        return status, document

    assert ask(2.0)[1]["outputs"][0]["data"] == [6.0, 3.0]
    status, problem = ask(13.0)
    assert status == 500
    assert "ValueError" in problem["detail"]
    assert ask(4.0)[0] == 200


@pytest.mark.parametrize("model", ["scale", "echo", "cnn"])
def test_a_wrong_input_name_is_refused_by_name(server: Any, model: str) -> None:
    """X-27, X-56."""
    tensor = {"name": "nothing", "shape": [2], "datatype": "FP32", "data": [1.0, 1.0]}
    status, _, problem = server.post(f"/v2/models/{model}/infer", {"inputs": [tensor]})
    assert status == 400, problem
    assert "nothing" in problem["detail"]
    assert f"{model}@1" in problem["detail"]


def test_a_killed_worker_is_replaced_while_the_gateway_stays(start_server: Any) -> None:
    """L4-72: not ready meanwhile, every request gets an answer, the gateway keeps its process."""
    server = start_server("--load", "echo")
    server.wait_ready()
    first = server.workers()[0]
    outcomes: list[int] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            outcomes.append(server.echo(1.0)[0])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: outcomes.count(200) > 4)
    os.kill(first["pid"], signal.SIGKILL)
    wait_until(lambda: [w["generation"] for w in server.workers()] == [first["generation"] + 1])
    server.wait_ready()
    answered = outcomes.count(200)
    wait_until(lambda: outcomes.count(200) > answered + 4)
    enough.set()
    for thread in threads:
        thread.join(HANG_S)
    second = server.workers()[0]
    assert second["generation"] == first["generation"] + 1
    assert second["pid"] != first["pid"]
    assert server.process.poll() is None
    assert set(outcomes) <= {200, 503}
    assert outcomes[-1] == 200


def test_the_end_finishes_what_was_accepted(start_server: Any) -> None:
    """L4-04: SIGTERM drains; answers that were under way arrive."""
    server = start_server("--load", "cnn,echo")
    server.wait_ready()
    image = {"name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": [0.5] * 784}
    statuses: list[int] = []
    stopping = threading.Event()

    def ask() -> None:
        while not stopping.is_set():
            try:
                statuses.append(server.post("/v2/models/cnn/infer", {"inputs": [image]})[0])
            except OSError:
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: 200 in statuses)
    code = server.terminate()
    stopping.set()
    for thread in threads:
        thread.join(HANG_S)
    assert code == 0
    assert "stopped; 0 requests unfinished" in server.log.read_text()
    assert set(statuses) <= {200, 503}
    assert 200 in statuses


def test_another_address_than_loopback_asks_for_keys(start_server: Any) -> None:
    """X-55: bound to every address, nobody gets in without a key."""
    server = start_server("--host", "0.0.0.0", "--load", "echo")
    server.base = server.base.replace("0.0.0.0", "127.0.0.1")
    status, _, problem = server.echo(1.0)
    assert status == 401
    assert problem["code"].startswith("policy") or problem["class"] == "policy"
    assert server.get("/health/live")[0] == 200


def test_both_places_of_the_engine_give_the_same_answer(start_server: Any, server: Any) -> None:
    """L4-73: in the gateway's process and in a worker."""
    other = start_server("--in-process", "--load", "echo")
    other.wait_ready()
    assert other.echo(3.0, 4.0)[2]["outputs"] == server.echo(3.0, 4.0)[2]["outputs"]


def test_a_task_given_before_a_restart_is_readable_after_it(start_server: Any, tmp_path: Any) -> None:
    """L4-42, L4-47: results and ids outlive the process."""
    body = {
        "operation": "infer",
        "model": "echo",
        "inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}],
    }
    first = start_server("--load", "echo", state=tmp_path)
    first.wait_ready()
    status, _, task = first.ask("PUT", "/api/v1/tasks/before-restart", body)
    assert status in (200, 201, 202), task
    end = time.monotonic() + HANG_S
    while task["status"] != "succeeded" and time.monotonic() < end:
        time.sleep(0.05)
        task = first.get("/api/v1/tasks/before-restart")[2]
    assert task["status"] == "succeeded", task
    assert first.terminate() == 0
    second = start_server("--load", "echo", state=tmp_path)
    status, _, again = second.get("/api/v1/tasks/before-restart")
    assert status == 200
    assert again["result"] == task["result"]


def test_the_size_of_a_body_is_the_operators_choice(start_server: Any) -> None:
    """X-56."""
    server = start_server("--load", "echo", "--max-body", "2000")
    server.wait_ready()
    assert server.echo(1.0)[0] == 200
    assert server.echo(*([1.23456789] * 300))[0] == 413
