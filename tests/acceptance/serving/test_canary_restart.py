"""A canary that was rolled back stays so when the server starts again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

ROW = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.0] * 16}]}


@pytest.mark.slow
def test_a_rolled_back_canary_gets_nothing_after_a_restart_with_the_same_state(
    start_server: Any, repository: Path, tmp_path: Path
) -> None:
    for version in ("1", "2"):
        shutil.copytree(repository / "echo" / "1", tmp_path / "models" / "echo" / version)
    (tmp_path / "state").mkdir()
    server = start_server("--in-process", models=tmp_path / "models", state=tmp_path / "state")
    server.wait_ready()
    assert server.post("/api/v1/models/echo/load", {"version": "1"})[0] == 200
    assert server.ask("PUT", "/api/v1/models/echo/canary", {"version": "2", "share": 0.5})[0] == 200
    assert server.ask("DELETE", "/api/v1/models/echo/canary")[0] == 200
    assert server.terminate() == 0

    again = start_server("--in-process", models=tmp_path / "models", state=tmp_path / "state")
    again.wait_ready()
    assert {again.post("/v2/models/echo/infer", ROW)[2]["model_version"] for _ in range(5)} == {"1"}
    canary = again.get("/api/v1/models/echo/canary")[2]
    assert (canary["canary"], canary["state"]) == ("2", "rolled_back")
    assert again.terminate() == 0
