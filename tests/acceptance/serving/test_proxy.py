"""Behind Debian's nginx, with the configuration of the guide: REST, WebSocket, gRPC (X-80)."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from plumbline.product.client import Client
from plumbline.serving.grpc import open_inference_pb2 as messages

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "behind-a-proxy.md"
NAME = "plumb.example"
PAGE = "https://page.example"

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

FRAME = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{servers}
}}
"""


class Proxy:
    """A running nginx: where it listens for HTTP and for gRPC."""

    def __init__(self, host: str, port: int, grpc_port: int, log: Path) -> None:
        self.host, self.port, self.grpc_port, self.log = host, port, grpc_port, log

    @property
    def base(self) -> str:
        return f"http://{self.host}:{self.port}"


def free_port() -> int:
    """One that the system gives to nobody who asks for any."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def configuration(folder: Path, ports: dict[str, int]) -> str:
    """The block of the guide with other ports, in a frame for an ordinary user."""
    found = re.search(r"^```nginx\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.M)
    assert found is not None
    path = re.search(r"`(location /ai/ .*?)`", GUIDE.read_text(encoding="utf-8"))
    assert path is not None
    servers = found[1].replace("    location / {", f"    {path[1]}\n\n    location / {{", 1)
    for name, port in ports.items():
        assert servers.count(f":{name}") == 1, name
        servers = servers.replace(f":{name}", f":{port}")
    return FRAME.format(folder=folder, servers=servers)


@pytest.fixture(scope="module")
def proxy(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    server = start_server("--load", "echo,cnn", "--allow-host", NAME, "--allow-origin", PAGE)
    server.wait_ready()
    folder = tmp_path_factory.mktemp("nginx")
    port, grpc_port = free_port(), free_port()
    upstream = int(server.base.rpartition(":")[2])
    ports = {"8000": upstream, "8001": server.grpc_port, "8080": port, "8081": grpc_port}
    file = folder / "nginx.conf"
    file.write_text(configuration(folder, ports))
    command = [str(NGINX), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(file)]
    if os.getuid() == 0:
        command += ["-g", "user root;"]
    process = subprocess.Popen(command)
    try:
        end = time.monotonic() + 60
        while not is_open(port):
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError((folder / "error.log").read_text())
            time.sleep(0.05)
        yield Proxy("127.0.0.1", port, grpc_port, folder / "error.log")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(proxy: Proxy, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    connection = http.client.HTTPConnection(proxy.host, proxy.port, timeout=60)
    try:
        data = None if body is None else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, {"content-type": "application/json", **sent})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    document = json.loads(content) if content.startswith((b"{", b"[")) else content
    return answer.status, {n.lower(): v for n, v in answer.getheaders()}, document


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_inference_goes_through_both_ways_on_a_connection_that_is_kept(proxy: Proxy, binary: bool) -> None:
    with Client(proxy.base) as client:
        for number in range(20):
            x = np.full((2, 16), number, np.float32)
            np.testing.assert_array_equal(client.infer("echo", {"x": x}, binary=binary).outputs["y"], x)


def test_an_id_of_the_client_is_the_id_of_the_request_behind_the_proxy(proxy: Proxy) -> None:
    with Client(proxy.base) as client:
        answer = client.infer("echo", {"x": np.ones((1, 16), np.float32)}, request_id="through-nginx")
        assert answer.request_id == "through-nginx"
        assert "finished: ok" in "\n".join(client.explain("through-nginx")["lines"])


def test_a_body_of_megabytes_goes_through_and_one_above_the_limit_is_refused(proxy: Proxy) -> None:
    rows = np.random.default_rng(3).random((8, 1, 28, 28), np.float32)
    padding = {"padding": "x" * (8 << 20)}
    with Client(proxy.base) as client:
        outputs = client.infer("cnn", {"image": rows}, parameters=padding).outputs
        alone = client.infer("cnn", {"image": rows}).outputs
        np.testing.assert_array_equal(outputs["probabilities"], alone["probabilities"])
    connection = http.client.HTTPConnection(proxy.host, proxy.port, timeout=60)
    connection.putrequest("POST", "/v2/models/echo/infer")
    connection.putheader("content-length", str(65 << 20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_the_problem_document_and_retry_hints_go_through(proxy: Proxy) -> None:
    status, headers, problem = ask(proxy, "GET", "/v2/models/nobody")
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert problem["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(("host", "status"), [(NAME, 200), ("evil.example", 403), ("localhost", 200)])
def test_only_the_names_that_the_operator_allowed_are_answered(proxy: Proxy, host: str, status: int) -> None:
    """X-56: a name on the web that resolves to the proxy gets nothing."""
    assert ask(proxy, "GET", "/v2/models/echo", Host=host)[0] == status


@pytest.mark.parametrize(
    ("origin", "status"), [(f"http://{NAME}", 200), (PAGE, 200), ("https://evil.example", 403)]
)
def test_a_foreign_page_may_not_write_through_the_proxy(proxy: Proxy, origin: str, status: int) -> None:
    answer = ask(proxy, "POST", "/v2/repository/index", {}, Host=NAME, Origin=origin)
    assert answer[0] == status
    assert answer[1].get("access-control-allow-origin") == (PAGE if origin == PAGE else None)


def test_events_arrive_through_the_proxy_in_order_and_resume(proxy: Proxy) -> None:
    """X-80, L4-26: WebSocket included."""
    with Client(proxy.base) as client:
        stream = client.events(after=0, kinds=["task"], seconds=30)
        task = client.submit("echo", inputs={"x": np.ones((1, 16), np.float32)}, cache=False)
        seen = []
        for event in stream:
            if event["subject"] == task["id"]:
                seen.append(event)
            if event["kind"] == "task.succeeded":
                break
        kinds = [event["kind"] for event in seen]
        assert kinds[0] == "task.accepted"
        assert kinds[-1] == "task.succeeded"
        cursor = seen[1]["sequence"]
        again = [event["sequence"] for event in client.events(after=cursor, kinds=["task"], seconds=0.5)]
        assert again[: len(seen) - 2] == [event["sequence"] for event in seen[2:]]


@pytest.mark.parametrize(
    ("host", "origin", "opens"),
    [(NAME, f"http://{NAME}", True), (NAME, PAGE, True), (NAME, "https://evil.example", False),
     ("evil.example", "http://evil.example", False)],
)  # fmt: skip
def test_a_socket_of_a_foreign_page_is_refused_through_the_proxy(
    proxy: Proxy, host: str, origin: str, opens: bool
) -> None:
    def opened() -> str:
        with (
            socket.create_connection((proxy.host, proxy.port), timeout=60) as raw,
            connect(f"ws://{host}/ws", sock=raw, origin=origin, open_timeout=60, proxy=None) as door,
        ):
            return str(json.loads(door.recv(timeout=60))["type"])

    if opens:
        assert opened() == "welcome"
    else:
        with pytest.raises(InvalidStatus) as caught:
            opened()
        assert caught.value.response.status_code == 403


def test_grpc_goes_through(proxy: Proxy) -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 16)
    request = messages.ModelInferRequest(
        model_name="echo",
        inputs=[messages.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 16])],
        raw_input_contents=[x.tobytes()],
    )
    with grpc.insecure_channel(f"{proxy.host}:{proxy.grpc_port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        answer = infer(request, timeout=60)
        np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], np.float32), x[0])
        with pytest.raises(grpc.RpcError) as caught:
            infer(messages.ModelInferRequest(model_name="nobody"), timeout=60)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_client_behind_a_path_of_the_proxy_names_it_in_its_address(proxy: Proxy) -> None:
    with Client(f"{proxy.base}/ai") as client:
        assert client.info()["principal"]["tenant"] == "local"
        x = np.ones((1, 16), np.float32)
        np.testing.assert_array_equal(client.infer("echo", {"x": x}).outputs["y"], x)
        assert next(client.events(after=0, seconds=60))["sequence"] > 0
