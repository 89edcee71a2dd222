"""The tutorial of the first server, as a newcomer pastes it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "tutorial" / "first-server.md"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_tutorial_do_what_it_says(start_server: Any, tmp_path: Path) -> None:
    """X-74: what is documented works."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    serving = next(place for place, block in enumerate(blocks) if block.startswith("plumb serve"))

    def paste(block: str, address: str = "") -> str:
        text = block.replace("http://127.0.0.1:8000", address)
        done = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (block, done.stderr)
        assert '"code":' not in done.stdout, (block, done.stdout)
        return done.stdout

    for block in blocks[:serving]:
        paste(block)
    server = start_server(models=tmp_path / "models")
    server.wait_ready()
    ask, why, kill, canary, promote = blocks[serving + 1 :]
    assert "[3.0,6.0,9.0]" in paste(ask, server.base)
    assert "chosen for launch" in paste(why, server.base)
    told = paste(kill, server.base)
    assert told.rindex('"ready":true') > told.index('"live":true')
    server.wait_ready()
    assert {worker["name"]: worker["generation"] for worker in server.workers()} == {"w0": 1, "classes-w0": 2}
    paste(canary, server.base)
    again = re.sub(r" -H 'x-request-id: first' \\\n", " ", ask)
    seen = {tuple(re.findall(r"\[[\d.,]+\]", paste(again, server.base))) for _ in range(40)}
    assert any("[3.0,6.0,9.0]" in one for one in seen)
    assert any("[4.0,8.0,12.0]" in one for one in seen)
    paste(promote, server.base)
    assert "[4.0,8.0,12.0]" in paste(again, server.base)
