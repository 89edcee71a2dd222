"""A real `plumb serve` in a process of its own, with small models made here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plumbline.product.demo_models.networks import write_echo, write_random_cnn

START_S = 120.0
HANG_S = 60.0

SCALE_CLASS = '''
import numpy as np


class Scale:
    """Multiplies by a number; refuses 13."""

    inputs = {"x": ("FP32", (-1,))}
    outputs = {"y": ("FP32", (-1,))}

    def setup(self, context):
        self.factor = np.float32(3)

    def run(self, inputs, parameters):
        if 13 in inputs["x"]:
            raise ValueError("thirteen")
        return {"y": inputs["x"] * self.factor}
'''


@dataclass
class ServerProcess:
    """A running server. `get` and `post` return status, headers and the JSON document."""

    process: subprocess.Popen[bytes]
    base: str
    grpc_port: int
    log: Path
    state: Path
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        data = None if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", **self.headers, **(headers or {})}
        request = urllib.request.Request(self.base + path, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=HANG_S) as answer:
                return answer.status, _lower(answer.headers), _document(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _lower(error.headers), _document(error.read())

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], Any]:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
        return self.ask("POST", path, body, headers=headers)

    def echo(self, *numbers: float, **headers: str) -> tuple[int, dict[str, str], Any]:
        values = [list(numbers) + [0.0] * (16 - len(numbers))]
        tensor = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": values}
        return self.post("/v2/models/echo/infer", {"inputs": [tensor]}, **headers)

    def wait_ready(self, timeout_s: float = START_S) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log.read_text()}")
            if self.get("/health/ready")[0] == 200:
                return
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.get('/health/ready')} {self.log.read_text()}")

    def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/workers")[2]["workers"]
        return found

    def terminate(self, timeout_s: float = HANG_S) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three kinds of versions: model, Python class, and a second model."""
    folder = tmp_path_factory.mktemp("models")
    for name, content in (("echo", write_echo()), ("cnn", write_random_cnn())):
        place = folder / name / "1"
        place.mkdir(parents=True)
        (place / "model.onnx").write_bytes(content)
    place = folder / "scale" / "1"
    place.mkdir(parents=True)
    (place / "model.py").write_text(SCALE_CLASS)
    (place / "version.toml").write_text('entry = "model.py:Scale"\n')
    return folder


StartServer = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def running_servers() -> Iterator[list[ServerProcess]]:
    """What was started and may still run; all of them are ended after the session."""
    running: list[ServerProcess] = []
    yield running
    end_servers(running)


def end_servers(servers: list[ServerProcess]) -> None:
    """Kill those that still run."""
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(HANG_S)


@pytest.fixture(autouse=True)
def _servers_of_one_test(running_servers: list[ServerProcess]) -> Iterator[None]:
    """A server that a test started ends with it: none of them takes time from the tests that follow."""
    shared = len(running_servers)
    yield
    end_servers(running_servers[shared:])


@pytest.fixture(scope="session")
def start_server(
    repository: Path, running_servers: list[ServerProcess], tmp_path_factory: pytest.TempPathFactory
) -> StartServer:
    """Starts a server with these arguments; it ends with the test, module or session that started it."""
    running = running_servers

    def start(*arguments: str, state: Path | None = None, models: Path | None = None) -> ServerProcess:
        state = state or tmp_path_factory.mktemp("state")
        log = state / f"server-{len(running)}.log"
        command = [
            sys.executable, "-m", "plumbline.product.cli", "serve", "--models", str(models or repository),
            "--port", "0", "--grpc-port", "0", "--state", str(state), *arguments,
        ]  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=dict(os.environ))
        server = ServerProcess(process=process, base="", grpc_port=0, log=log, state=state)
        running.append(server)
        end = time.monotonic() + START_S
        while (found := re.search(r"listening on (\S+) \(gRPC \S+:(\d+)\)", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the server did not start: {log.read_text()}")
            time.sleep(0.02)
        server.base, server.grpc_port = found[1], int(found[2])
        return server

    return start


@pytest.fixture(scope="session")
def server(start_server: StartServer) -> ServerProcess:
    """One server that tests share; they leave it as they found it."""
    server = start_server()
    server.wait_ready()
    return server


@dataclass
class KeyedServer:
    """A server that asks for keys; `key` makes one in its store, once for each name."""

    server: ServerProcess
    keys: dict[tuple[str, str, str], str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return self.server.base

    def key(self, role: str, tenant: str = "acme", rate: str = "1000/second", name: str = "") -> str:
        place = (role, tenant, name)
        if place not in self.keys:
            command = ["keys", "create", "--state", str(self.server.state), "--tenant", tenant]
            words = [*command, "--role", role, "--rate", rate, "--name", name]
            made = subprocess.run(
                [sys.executable, "-m", "plumbline.product.cli", *words],
                capture_output=True, text=True, timeout=2 * HANG_S, check=True,
            )  # fmt: skip
            self.keys[place] = made.stdout.strip()
        return self.keys[place]

    def headers(self, role: str, tenant: str = "acme", **more: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key(role, tenant, **more)}"}


@pytest.fixture(scope="session")
def keyed(start_server: StartServer) -> KeyedServer:
    """One server with keys, which tests share."""
    server = start_server("--require-keys", "--load", "echo", "--allow-origin", "https://page.example")
    server.wait_ready()
    return KeyedServer(server)
