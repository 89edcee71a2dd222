"""`plumb` against a real server: every operation has a command (L4-56), keys, exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.product.cli import main
from plumbline.product.client import Client, ServerRefusal, ServerUnreachable
from plumbline.product.client.transport import Transport

ROW = json.dumps([[float(number) for number in range(16)]])

COMMANDS = {
    "GET /": "info --of gateway",
    "GET /health": "health",
    "GET /health/live": "health live",
    "GET /health/ready": "health ready",
    "GET /openapi.json": "openapi",
    "GET /docs": "openapi --page",
    "GET /metrics": "metrics",
    "GET /v2": "info --of protocol",
    "GET /v2/health/live": "health live --v2",
    "GET /v2/health/ready": "health ready --v2",
    "GET /api/v1/info": "info",
    "GET /api/v1/models": "models ls",
    "GET /api/v1/models/{model}": "models show echo",
    "GET /api/v1/models/{model}/versions": "models versions echo",
    "GET /api/v1/models/{model}/versions/{version}": "models show echo --version 2",
    "GET /api/v1/models/{model}/versions/{version}/plan": "models plan echo",
    "GET /api/v1/models/{model}/versions/{version}/plan.svg": "models plan echo --version 2 --svg /dev/null",
    "POST /api/v1/models/{model}/load": "models load echo --version 1",
    "PUT /api/v1/models/{model}/canary": "models canary echo 1 --share 0.5",
    "GET /api/v1/models/{model}/canary": "models canary echo",
    "POST /api/v1/models/{model}/canary/promote": "models promote echo",
    "PUT /api/v1/models/{model}/versions/{version}/pin": "models pin echo 1",
    "DELETE /api/v1/models/{model}/versions/{version}/pin": "models unpin echo 1",
    "POST /v2/repository/index": "repository index --ready",
    "GET /v2/models/{model}": "models metadata echo",
    "GET /v2/models/{model}/ready": "models ready echo",
    "GET /v2/models/{model}/config": "models config echo",
    "GET /v2/models/stats": "models stats",
    "GET /v2/models/{model}/stats": "models stats echo",
    "POST /v2/models/{model}/infer": "infer echo --input x=@row.json --request-id mine",
    "GET /v2/models/{model}/versions/{version}": "models metadata echo --version 1",
    "GET /v2/models/{model}/versions/{version}/ready": "models ready echo --version 1",
    "GET /v2/models/{model}/versions/{version}/config": "models config echo --version 1",
    "GET /v2/models/{model}/versions/{version}/stats": "models stats echo --version 1",
    "POST /v2/models/{model}/versions/{version}/infer": "infer echo --version 1 --binary --input x=@row.npy",
    "GET /v2/trace/setting": "trace-setting",
    "POST /v2/trace/setting": "trace-setting --set trace_rate=7",
    "GET /v2/models/{model}/trace/setting": "trace-setting echo",
    "POST /v2/models/{model}/trace/setting": "trace-setting echo --set trace_rate=default",
    "GET /api/v1/requests/{request_id}/explain": "explain mine",
    "GET /api/v1/timeline": "timeline --last 5",
    "GET /api/v1/workers": "workers",
    "GET /api/v1/workers/{name}/output": "workers output w0",
    "POST /api/v1/tasks": "tasks submit echo --input x=@row.json --no-cache",
    "PUT /api/v1/tasks/{task_id}": "tasks submit echo --input x=@row.json --id one --wait",
    "GET /api/v1/tasks": "tasks ls --limit 5",
    "GET /api/v1/tasks/{task_id}": "tasks show one",
    "DELETE /api/v1/tasks/{task_id}": "tasks cancel one",
    "GET /api/v1/devices": "devices",
    "GET /api/v1/devices/{device_id}": "devices show cpu",
    "GET /api/v1/keys": "keys ls",
    "POST /api/v1/keys": "keys create --tenant acme --role client",
    "DELETE /api/v1/keys/{key_id}": "keys revoke KEY",
    "DELETE /api/v1/models/{model}/canary": "models rollback echo",
    "POST /api/v1/models/{model}/unload": "models unload echo --version 2",
    "POST /v2/repository/models/{model}/load": "repository load echo --version 2",
    "POST /v2/repository/models/{model}/unload": "repository unload echo --version 2",
    "POST /api/v1/models/{model}/versions/{version}/retire": "models retire echo 2",
    "POST /api/v1/devices/{device_id}/drain": "devices drain cpu --wait 5",
    "POST /api/v1/devices/{device_id}/resume": "devices resume cpu",
    "POST /api/v1/devices/{device_id}/retire": "devices retire cpu",
}
"""Operation -> command, in an order in which each can do what it says."""

BEFORE = {
    "DELETE /api/v1/models/{model}/canary": "models canary echo 2",
    "POST /api/v1/devices/{device_id}/retire": "devices drain cpu --wait 5",
}
"""What another command has to prepare."""

Asked = list[tuple[str, str]]


@pytest.fixture(scope="module")
def own(start_server: Any, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with two versions of `echo` that this file may do anything to."""
    models = tmp_path_factory.mktemp("own-models")
    for version in ("1", "2"):
        shutil.copytree(repository / "echo" / "1", models / "echo" / version)
    server = start_server(models=models)
    server.wait_ready()
    return server


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Every request that a command in this process sends, and it is sent."""
    found: Asked = []
    real = Transport.exchange

    def exchange(self: Transport, method: str, path: str, **how: Any) -> Any:
        found.append((method, path))
        return real(self, method, path, **how)

    monkeypatch.setattr(Transport, "exchange", exchange)
    return found


def operations(document: dict[str, Any]) -> list[str]:
    return [f"{method.upper()} {path}" for path, by in document["paths"].items() for method in by]


def template_of(method: str, path: str, known: list[str]) -> str:
    """The operation that a request is of; the one with the fewest parameters where several fit."""
    fitting = [
        name for name in known if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", name), f"{method} {path}")
    ]
    return min(fitting, key=lambda name: name.count("{"), default=f"{method} {path}")


def test_every_operation_of_the_server_has_a_command_that_asks_for_it(
    own: Any,
    asked: Asked,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """L4-56: the table holds the OpenAPI document, and each command really sends its operation."""
    known = operations(own.get("/openapi.json")[2])
    assert sorted(COMMANDS) == sorted(known)
    monkeypatch.chdir(tmp_path)
    Path("row.json").write_text(ROW)
    np.save("row.npy", np.array(json.loads(ROW), np.float32))
    key = ""

    def run(line: str) -> Any:
        code = main([*line.replace("KEY", key).split(), "--server", own.base, "--json"])
        written = capsys.readouterr()
        assert code == 0, f"{line}: {written.out} {written.err}"
        return json.loads(written.out)

    for operation, line in COMMANDS.items():
        if operation in BEFORE:
            run(BEFORE[operation])
        asked.clear()
        document = run(line)
        sent = [template_of(method, path, known) for method, path in asked]
        assert operation in sent, f"`plumb {line}` asked {sent}"
        key = document["id"] if operation == "POST /api/v1/keys" else key


READING = [line for name, line in COMMANDS.items() if name.startswith("GET") and "explain" not in name]


@pytest.mark.parametrize("line", [line for line in READING if "tasks show" not in line])
def test_a_reading_command_prints_text_for_people(
    server: Any, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = line.replace(" --version 2", " --version 1")
    assert main([*line.split(), "--server", server.base]) == 0
    written = capsys.readouterr()
    assert written.out.strip()
    assert written.err == ""
    assert not written.out.startswith("{") or "config" in line


def plumb(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "plumbline.product.cli", *words],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["infer", "nobody", "--input", "x=1"], 3, "error[validation.model_unknown]"),
        (["infer", "echo", "--input", "x=[1, 2]"], 3, "error[validation."),
        (["infer", "echo", "--input", "x=@none.npy"], 3, "error[artifact.array_file]"),
        (["infer", "echo", "--input", "x=words"], 3, "error[validation.command_input]"),
        (["infer", "echo", "--text", "words"], 3, "error[validation.command_input]"),
        (["infer", "echo", "--priority", "12"], 2, "error[validation.command_line]"),
        (["models", "ready", "nobody"], 1, ""),
        (["models", "plan", "scale"], 3, "error[validation.version_unplanned]"),
        (["models", "plan", "echo", "--version", "77"], 3, "error[validation.native_model]"),
        (["models", "retire", "echo", "77"], 3, "error[validation."),
        (["models", "promote", "echo"], 3, "error[validation."),
        (["tasks", "show", "none"], 3, "error[validation.task_unknown]"),
        (["explain", "none"], 3, "error["),
        (["health", "--server", "http://127.0.0.1:1"], 6, "error[resource.server_unreachable]"),
        (["health", "--server", "file:///x"], 3, "error[validation.server_address]"),
        (["health", "--key-file", "none"], 3, "error[artifact.key_file]"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_a_refusal_ends_with_its_code_one_line_and_an_exit_code(
    server: Any, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """L4-56: exit codes follow the problem document."""
    where = [] if "--server" in words else ["--server", server.base]
    assert main([*words, *where]) == code
    written = capsys.readouterr()
    assert said in written.err
    assert written.err.count("\n") == (1 if said else 0)
    if said:
        assert main([*words, *where, "--json"]) == code
        document = json.loads(capsys.readouterr().out)
        assert document["error"]["code"] in written.err


def test_the_first_key_is_made_in_the_store_and_is_the_only_way_in(keyed: Any, tmp_path: Path) -> None:
    """X-60, L4-56: no key, a key from a file, from the environment; one revoked in the store stops."""
    where = ["--server", keyed.base]
    refused = plumb("models", "ls", *where, "--json")
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["error"]["code"] == "policy.api_key"
    file = tmp_path / "admin.key"
    file.write_text(keyed.key("admin") + "\n")
    assert plumb("models", "ls", *where, "--key-file", str(file)).returncode == 0
    made = plumb(
        "keys", "create", *where, "--tenant", "acme", "--role", "client", PLUMBLINE_API_KEY=keyed.key("admin")
    )
    key = made.stdout.strip()
    assert re.fullmatch(r"plk_[0-9a-f]{16}_[0-9a-f]{64}", key)
    assert plumb("models", "ls", *where, PLUMBLINE_API_KEY=key).returncode == 0
    denied = plumb("keys", "ls", *where, PLUMBLINE_API_KEY=key)
    assert denied.returncode == 3
    assert denied.stderr.startswith("error[policy.permission]")
    revoked = plumb("keys", "revoke", key.split("_")[1], "--state", str(keyed.server.state))
    assert revoked.returncode == 0, revoked.stderr
    with Client(keyed.base, key=key) as client, pytest.raises(ServerRefusal) as caught:
        ask_for(client, 60.0)
    assert caught.value.code == "policy.api_key"


def test_an_admin_of_the_local_tenant_makes_keys_for_every_tenant(keyed: Any, tmp_path: Path) -> None:
    """X-60: the way from the first key to those of the clients, as the guide has it."""
    file = tmp_path / "admin.key"
    file.write_text(keyed.key("admin", "local"))
    words = ["keys", "create", "--server", keyed.base, "--key-file", str(file)]
    made = plumb(*words, "--tenant", "initech", "--role", "client", "--rate", "100/second")
    assert made.returncode == 0, made.stderr
    with Client(keyed.base, key=made.stdout.strip()) as client:
        assert client.info()["principal"]["tenant"] == "initech"


def ask_for(client: Client, seconds: float) -> None:
    """Ask again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.models()
        time.sleep(0.05)


def test_above_its_rate_a_command_says_when_to_come_again(keyed: Any) -> None:
    """X-64, L4-56: transient has an exit code of its own."""
    key = keyed.key("client", rate="1/minute", name="slow")
    first = plumb("models", "ls", "--server", keyed.base, PLUMBLINE_API_KEY=key)
    second = plumb("models", "ls", "--server", keyed.base, PLUMBLINE_API_KEY=key)
    assert (first.returncode, second.returncode) == (0, 6)
    assert re.search(r"\(try again in [\d.]+ s\)", second.stderr)


def test_events_come_as_lines_and_resume_behind_a_cursor(server: Any) -> None:
    """L4-26, L4-56."""
    first = plumb("events", "--server", server.base, "--after", "0", "--count", "2")
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    one, two = [int(line.split()[0]) for line in lines]
    assert two == one + 1
    rest = plumb("events", "--server", server.base, "--after", str(two), "--count", "3", "--json")
    assert [event["sequence"] for event in json.loads(rest.stdout)["events"]] == [two + 1, two + 2, two + 3]
    before = plumb("events", "--server", server.base, "--after", "2", "--count", "1")
    assert before.returncode != 0
    assert "validation.event_cursor_too_old" in before.stderr, "a cursor of another run"


def test_following_events_ends_with_the_cursor_when_it_is_interrupted(server: Any) -> None:
    following = subprocess.Popen(
        [sys.executable, "-m", "plumbline.product.cli", "events", "--server", server.base, "--after", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    try:
        assert following.stdout is not None
        cursor = following.stdout.readline().split()[0]
        assert cursor.isdigit()
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=60)
    finally:
        following.kill()
        following.wait(60)
    assert re.search(r"resume with --after \d+", said)


def test_a_published_version_is_there_for_the_server(tmp_path: Path, repository: Path) -> None:
    source = repository / "echo" / "1" / "model.onnx"
    (tmp_path / "models").mkdir()
    words = ["repository", "publish", "copy", "1", str(source), "--models", str(tmp_path / "models")]
    done = plumb(*words, "--revision", "commit 1", "--pin", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "pinned"
    other = tmp_path / "other.onnx"
    other.write_bytes(source.read_bytes() + b"x")
    again = plumb(
        "repository",
        "publish",
        "copy",
        "1",
        str(other),
        "--models",
        str(tmp_path / "models"),
        "--revision",
        "2",
    )
    assert again.returncode == 3, again.stderr


@pytest.fixture
def client(server: Any) -> Iterator[Client]:
    with Client(server.base) as opened:
        yield opened


@pytest.mark.parametrize("binary", [True, False])
def test_the_client_gives_the_numbers_of_the_model_both_ways(client: Client, binary: bool) -> None:
    """X-74: a program calls `plumb serve` over loopback."""
    x = np.linspace(-3, 3, 32, dtype=np.float32).reshape(2, 16)
    answer = client.infer("echo", {"x": x}, binary=binary, priority=0, deadline_s=20.0)
    np.testing.assert_array_equal(answer.outputs["y"], x)
    assert answer.datatypes == {"y": "FP32"}
    assert f"request {answer.request_id}" in "\n".join(client.explain(answer.request_id)["lines"])


def test_not_a_number_needs_binary_data_and_comes_back_with_it(client: Client) -> None:
    x = np.full((1, 16), np.nan, np.float32)
    assert np.isnan(client.infer("echo", {"x": x}).outputs["y"]).all()
    with pytest.raises(Exception, match="binary"):
        client.infer("echo", {"x": x}, binary=False)


def test_a_deadline_that_cannot_be_met_is_the_servers_typed_error(client: Client) -> None:
    with pytest.raises(ServerRefusal) as caught:
        client.infer("echo", {"x": np.ones((1, 16), np.float32)}, deadline_s=1e-6)
    assert caught.value.error_class.value == "resource"
    assert caught.value.request_id


def test_a_task_is_waited_for_and_its_result_read(client: Client) -> None:
    task = client.submit("echo", inputs={"x": np.ones((1, 16), np.float32)}, name="mine", cache=False)
    done = client.wait(task["id"], timeout_s=60)
    assert (done["status"], done["name"]) == ("succeeded", "mine")
    assert done["result"]["outputs"][0]["data"] == [1.0] * 16
    assert client.tasks(limit=1)["tasks"][0]["id"] == task["id"]


def test_without_a_server_nothing_is_sent_and_the_error_says_try_again() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(ServerUnreachable) as caught:
        client.models()
    assert caught.value.recoverability.value == "transient"
