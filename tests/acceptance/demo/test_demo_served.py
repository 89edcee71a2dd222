"""What `make run` does: models written, served, asked over both protocols, and there until told to stop."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plumbline.product.demo.model_folder import DemoModelMissing, find_demo_model

START_S = 120.0
COMMAND = [sys.executable, "-m", "plumbline.product.cli", "demo", "--passages", "60"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Cache and state of the tests of this file, empty at first."""
    try:
        find_demo_model()
    except DemoModelMissing as error:
        pytest.skip(error.message)
    folder = tmp_path_factory.mktemp("demo")
    return {
        **os.environ,
        "PLUMBLINE_CACHE_DIR": str(folder / "cache"),
        "PLUMBLINE_STATE_DIR": str(folder / "state"),
    }


@pytest.fixture(scope="module")
def report(places: dict[str, str]) -> dict[str, Any]:
    """Of a run on an empty cache that ends after the answers."""
    command = [*COMMAND, "--once", "--json", "--port", "0", "--grpc-port", "0"]
    done = subprocess.run(command, env=places, capture_output=True, timeout=START_S, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_on_an_empty_cache_every_question_is_answered_and_explained(report: dict[str, Any]) -> None:
    """Issue 3, section 5: plain text over REST and gRPC, with the explanation of each answer."""
    assert len(report["answers"]) == 4
    assert all(len(hits) == 3 for hits in report["answers"].values())
    assert len(report["explanations"]) == 4
    for lines in report["explanations"].values():
        text = "\n".join(lines)
        assert "routed to semantic-search@" in text
        assert text.count("finished: ok") == 2
    assert 0 < report["first_answer_seconds"] < START_S
    assert Path(report["plan_picture"]).read_text(encoding="utf-8").startswith("<svg")
    assert report["lower_bound_bytes"] <= report["peak_bytes"] < report["total_bytes"]


@pytest.fixture(scope="module")
def staying(
    places: dict[str, str], report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[bytes], str, int]]:
    """A demonstration that stays up, what it printed, and a port that was taken before it came."""
    log = tmp_path_factory.mktemp("out") / "demo.txt"
    with socket.socket() as taken, log.open("wb") as output:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        command = [*COMMAND, "--port", str(port), "--grpc-port", "0"]
        process = subprocess.Popen(command, env=places, stdout=output, stderr=output)
        try:
            end = time.monotonic() + START_S
            while "Ctrl-C ends it" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield process, log.read_text(), port
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)


def test_a_taken_port_is_named_and_a_free_one_is_used(staying: tuple[Any, str, int]) -> None:
    _, text, port = staying
    assert re.search(rf"port {port} is taken: listening on \d+ instead", text)
    assert f"http://127.0.0.1:{port}/" not in text


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_printed_command_works_when_pasted(staying: tuple[Any, str, int]) -> None:
    _, text, _ = staying
    commands = [line for line in text.splitlines() if line.startswith("curl ")]
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command)
        done = subprocess.run(
            [*words, "--fail", "--max-time", "20"], capture_output=True, timeout=30, check=False
        )
        assert done.returncode == 0, (command, done.stderr, done.stdout[-500:])
    asked = next(line for line in commands if "/infer" in line)
    answer = json.loads(
        subprocess.run(shlex.split(asked), capture_output=True, timeout=30, check=True).stdout
    )
    assert {output["name"] for output in answer["outputs"]} == {"names", "passages", "scores"}


def test_an_interrupt_ends_it_with_everything_drained(staying: tuple[Any, str, int]) -> None:
    """Last: it ends what the tests above use."""
    process, _, _ = staying
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
