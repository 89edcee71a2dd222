"""Two `plumb serve` over one store: tasks, keys, restarts, and a gateway that is killed (L4-74)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plumbline.serving.storage.database import sqlite_url
from plumbline.testing.postgres import find_postgres, run_postgres

pytestmark = pytest.mark.slow

SLEEPER = '''
import time

import numpy as np


class Sleeper:
    """Doubles after as many seconds as it is told."""

    inputs = {"x": ("FP32", (-1,))}
    outputs = {"y": ("FP32", (-1,))}

    def setup(self, context):
        pass

    def run(self, inputs, parameters):
        time.sleep(float(parameters.get("seconds", 0)))
        return {"y": inputs["x"] * np.float32(2)}
'''
TENSOR = [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, 2.5]}]
ENDS = {"succeeded", "failed", "cancelled", "expired"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sleepers")
    place = folder / "sleeper" / "1"
    place.mkdir(parents=True)
    (place / "model.py").write_text(SLEEPER)
    (place / "version.toml").write_text('entry = "model.py:Sleeper"\n')
    return folder


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty store."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path_factory.mktemp("store") / "store.sqlite")
        return
    programs = find_postgres()
    if programs is None:
        pytest.skip("Postgres is not installed")
    with run_postgres(programs) as server:
        yield server.url


Start = Callable[..., Any]


@pytest.fixture(scope="module")
def start(start_server: Any, models: Path, database: str) -> Start:
    """Starts a gateway over the store."""

    def started(*more: str) -> Any:
        server = start_server("--database", database, "--in-process", *more, models=models)
        server.wait_ready()
        return server

    return started


@pytest.fixture(scope="module")
def pair(start: Start) -> tuple[Any, Any]:
    return start(), start()


def body(seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"model": "sleeper", "inputs": TENSOR, "parameters": {"seconds": seconds}, **more}


def wait_for(server: Any, task: str, states: set[str] = ENDS, timeout_s: float = 60.0) -> dict[str, Any]:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        status, _, document = server.get(f"/api/v1/tasks/{task}")
        assert status == 200, document
        if document["status"] in states:
            found: dict[str, Any] = document
            return found
        time.sleep(0.1)
    raise AssertionError(f"{task} is {document['status']}")


def test_a_task_given_to_one_is_readable_at_the_other(pair: tuple[Any, Any]) -> None:
    """L4-74."""
    first, second = pair
    task = first.post("/api/v1/tasks", body())[2]["id"]
    assert second.get(f"/api/v1/tasks/{task}")[0] == 200
    done = wait_for(second, task)
    assert done["status"] == "succeeded"
    assert done["result"]["outputs"][0]["data"] == [3.0, 5.0]
    assert done == first.get(f"/api/v1/tasks/{task}")[2]


def test_one_id_submitted_at_both_is_one_task(pair: tuple[Any, Any]) -> None:
    first, second = pair
    answers = [gateway.ask("PUT", "/api/v1/tasks/once", body(name="once")) for gateway in (first, second)]
    assert [status for status, _, _ in answers] == [201, 200]
    status, _, problem = second.ask("PUT", "/api/v1/tasks/once", body(name="other"))
    assert (status, problem["code"]) == (409, "policy.task_conflict")
    assert wait_for(second, "once")["claims"] == 1


def test_a_task_running_at_one_is_cancelled_at_the_other(pair: tuple[Any, Any]) -> None:
    first, second = pair
    task = first.post("/api/v1/tasks", body(2.0, cache=False))[2]["id"]
    wait_for(first, task, {"running"})
    for gateway in pair:
        assert gateway.ask("DELETE", f"/api/v1/tasks/{task}")[0] == 200
    assert wait_for(second, task)["status"] in {"cancelled", "succeeded"}


def test_every_task_of_many_is_done_once_by_one_of_them(pair: tuple[Any, Any]) -> None:
    tasks = [pair[n % 2].post("/api/v1/tasks", body(cache=False, name=f"{n}"))[2]["id"] for n in range(40)]
    done = [wait_for(pair[(n + 1) % 2], task) for n, task in enumerate(tasks)]
    assert {document["status"] for document in done} == {"succeeded"}
    assert {document["claims"] for document in done} == {1}


def test_a_result_is_there_after_both_were_started_again(start: Start) -> None:
    """L4-38: the store is the memory, not the process."""
    before = start()
    task = before.post("/api/v1/tasks", body(name="kept"))[2]["id"]
    result = wait_for(before, task)["result"]
    assert before.terminate() == 0
    after = start()
    found = after.get(f"/api/v1/tasks/{task}")[2]
    assert (found["status"], found["result"]) == ("succeeded", result)
    assert after.terminate() == 0


def test_the_task_of_a_killed_gateway_is_finished_by_another(start: Start, pair: tuple[Any, Any]) -> None:
    """L4-74: SIGKILL in the middle; the lease ends, another claims the task and writes its result."""
    victim = start()
    tasks = [victim.post("/api/v1/tasks", body(4.0, cache=False, name=f"v{n}"))[2]["id"] for n in range(6)]
    for task in tasks[:2]:
        wait_for(pair[0], task, {"running"})
    os.kill(victim.process.pid, signal.SIGKILL)
    victim.process.wait(10)
    done = [wait_for(pair[0], task, timeout_s=120) for task in tasks]
    assert {document["status"] for document in done} == {"succeeded"}
    assert {document["result"]["outputs"][0]["data"][0] for document in done} == {3.0}
    assert max(document["claims"] for document in done) == 2, "the killed gateway had a task"


def test_a_key_revoked_at_one_stops_at_the_other_within_a_second(start: Start, database: str) -> None:
    """X-60, L4-74: the bound is half a second of the store's epoch; two are given to a busy machine."""
    first, second = start("--require-keys"), start("--require-keys")
    command = [sys.executable, "-m", "plumbline.product.cli", "keys", "create", "--database", database]
    words = [*command, "--tenant", "local", "--role", "admin"]
    made = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    admin = {"authorization": f"Bearer {made.stdout.strip()}"}
    new = first.post("/api/v1/keys", {"tenant": "acme", "roles": ["client"]}, **admin)[2]
    mine = {"x-api-key": new["key"]}
    end = time.monotonic() + 10
    while second.get("/api/v1/info", **mine)[0] != 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert second.get("/api/v1/info", **mine)[0] == 200
    assert first.ask("DELETE", f"/api/v1/keys/{new['id']}", headers=admin)[0] == 200
    revoked = time.monotonic()
    assert first.get("/api/v1/info", **mine)[0] == 401
    while second.get("/api/v1/info", **mine)[0] == 200:
        assert time.monotonic() - revoked < 5.0
        time.sleep(0.02)
    assert second.get("/api/v1/info", **mine)[2]["code"] == "policy.api_key"
    for gateway in (first, second):
        assert gateway.terminate() == 0
