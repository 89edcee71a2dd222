"""A worker of a running server has no room for its decision log: seen, survived, recovered (L4-17, L4-31)."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from plumbline.contracts.records import Segment
from plumbline.product.cli import main as plumb
from plumbline.scheduling.replay import replay
from plumbline.telemetry.decision_log_reader import read_log

HANG_S = 60.0

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux limits the files of another process"
)


def until(happened: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + HANG_S
    while not (found := happened()):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    return found


@pytest.mark.slow
def test_a_worker_without_room_for_its_log_answers_on_and_is_degraded_until_there_is_room(
    start_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system lets the worker write no byte into a file, and its log is removed."""
    server = start_server("--load", "echo")
    server.wait_ready()
    worker = server.workers()[0]
    assert (worker["log_trouble"], worker["missed_decisions"]) == ("", 0)
    place = next((server.state / "runs").glob("*/logs/w0-g1"))
    limits = resource.prlimit(worker["pid"], resource.RLIMIT_FSIZE)
    resource.prlimit(worker["pid"], resource.RLIMIT_FSIZE, (0, limits[1]))
    for segment in place.glob("*.records"):
        segment.unlink()

    def is_degraded() -> Any:
        assert server.echo(1.5)[0] == 200, "what cannot be recorded is answered all the same"
        return server.get("/health/ready")[2]["checks"]["degraded"]

    degraded = until(is_degraded)
    assert len(degraded) == 1
    assert degraded[0].startswith("the decision log of w0: ")
    assert str(server.state) not in degraded[0]
    assert server.get("/health/ready")[0] == 200
    assert server.workers()[0]["log_trouble"]
    assert degraded_components(server) == {"the decision log of w0"}
    assert plumb(["health", "--server", server.base]) == 0
    assert "degraded: the decision log of w0" in capsys.readouterr().out

    resource.prlimit(worker["pid"], resource.RLIMIT_FSIZE, limits)
    until(lambda: not is_degraded())
    after = server.workers()[0]
    assert (after["pid"], after["log_trouble"]) == (worker["pid"], "")
    assert after["missed_decisions"] > 0
    assert degraded_components(server) == set()
    status, headers, _ = server.echo(2.5)
    assert status == 200
    lines = server.get(f"/api/v1/requests/{headers['x-request-id']}/explain")[2]["lines"]
    assert any("finished: ok" in line for line in lines)
    assert server.terminate() == 0
    verify_log(place, after["missed_decisions"])


def degraded_components(server: Any) -> set[str]:
    families = text_string_to_metric_families(server.get("/metrics")[2].decode())
    found = [s for f in families for s in f.samples if s.name == "plumbline_component_degraded"]
    assert {s.labels["component"] for s in found} == {
        "the decision log of routes", "the decision log of w0", "the store of tasks",
        "the record of canaries", "the repository",
    }  # fmt: skip
    return {s.labels["component"] for s in found if s.value}


def verify_log(place: Path, missed: int) -> None:
    """What is there replays, and says how much is not there."""
    log = read_log(place, "engine")
    first = log.records()[0]
    assert isinstance(first, Segment)
    assert first.missed == missed
    assert replay(log.bodies, first=log.stored[0].number, previous=log.previous).digest == log.digest
