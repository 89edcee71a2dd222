"""Starts that cannot work end with a message and a code, not with a server that waits (X-56)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def refusal(*arguments: str) -> tuple[int, str]:
    """Exit code and error output of a `plumb serve` that must end by itself."""
    command = [sys.executable, "-m", "plumbline.product.cli", "serve", "--port", "0", "--grpc-port", "-1"]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    return ended.returncode, ended.stderr


def test_a_model_of_the_start_that_is_not_in_the_repository_ends_the_server(
    repository: Path, tmp_path: Path
) -> None:
    code, said = refusal("--models", str(repository), "--state", str(tmp_path), "--load", "echo,nope")
    assert code != 0
    assert "unknown model 'nope'" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("place", "reason"), [("nothing here", "there is no such folder"), ("file", "it is not a folder")]
)
def test_models_that_are_no_folder_are_a_usage_error_in_the_words_of_the_operator(
    tmp_path: Path, place: str, reason: str
) -> None:
    (tmp_path / "file").write_text("")
    code, said = refusal("--models", str(tmp_path / place), "--state", str(tmp_path / "state"))
    assert code == 2
    assert f"argument --models: {tmp_path / place}: {reason}" in said
    assert "changes" not in said
    assert "Traceback" not in said
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("place", ["file", "system"])
def test_a_state_folder_that_cannot_be_written_is_refused_typed(
    repository: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    state = tmp_path / "file" if place == "file" else Path("/proc/plumbline")
    code, said = refusal("--models", str(repository), "--state", str(state))
    assert code != 0
    assert "resource.state_folder" in said
    assert "Traceback" not in said
