"""The guides are programs: what they tell a newcomer to type works as written (X-21, style.md Habits)."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import layers

PLUMB = "import sys; sys.argv[0] = 'plumb'; from plumbline.product.cli import main; sys.exit(main())"
REFERENCE = layers.ROOT / "docs" / "reference"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in page order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run this interpreter on the sources of the checkout, in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(layers.ROOT / "src"), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def plumb(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one `plumb ...` line of a guide; a comment at its end is dropped."""
    return run(["-c", PLUMB, *shlex.split(line, comments=True)[1:]], folder)


@pytest.fixture(scope="module")
def tutorial_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model that the tutorial makes."""
    folder = tmp_path_factory.mktemp("tutorial")
    result = run(["-c", blocks(layers.ROOT / "docs" / "tutorial" / "first-model.md", "python")[0]], folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_the_operator_plugin_of_the_guide_passes_the_shipped_suite(tmp_path: Path) -> None:
    """The guide registers an operation and holds it to its contract."""
    (block,) = blocks(layers.ROOT / "docs" / "how-to" / "operator-plugin.md", "python")
    result = run(["-c", block], tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_commands_of_the_tutorial_work_as_written(tutorial_folder: Path) -> None:
    page = layers.ROOT / "docs" / "tutorial" / "first-model.md"
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("plumb ")]
    assert len(lines) >= 2
    for line in lines:
        result = plumb(line, tutorial_folder)
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"


def test_the_python_of_the_tutorial_runs_and_its_mistake_is_a_validation_error(tutorial_folder: Path) -> None:
    _, right, wrong = blocks(layers.ROOT / "docs" / "tutorial" / "first-model.md", "python")
    mistake = "\n".join(f"    {line}" for line in wrong.splitlines())
    script = (
        f"{right}\nimport plumbline.errors\ntry:\n{mistake}\n"
        "except plumbline.errors.ValidationError as error:\n    print(error)\n"
        "else:\n    raise SystemExit(3)\n"
    )
    result = run(["-c", script], tutorial_folder)
    assert result.returncode == 0, result.stderr
    assert "(1, 10)\n(8, 10)\n" in result.stdout
    assert "input" in result.stdout.splitlines()[-1]


def test_every_command_is_in_the_reference_and_every_documented_command_exists(tmp_path: Path) -> None:
    """style.md: every command documented."""
    listing = plumb("plumb --help", tmp_path)
    assert listing.returncode == 0, listing.stderr
    commands = set(re.findall(r"^[^\w-]*([a-z]+)\s{2,}\S", listing.stdout, flags=re.M))
    documented = set(re.findall(r"`plumb ([a-z]+)", (REFERENCE / "cli.md").read_text(encoding="utf-8")))
    assert commands, listing.stdout
    assert documented == commands - {"help"}


def test_every_environment_variable_is_read_in_config_and_documented() -> None:
    """design.md, section 2: no lower layer can read a setting from the air."""
    page = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    reads = re.compile(r"\b(?:os\.environ|os\.getenv|getenv)\b")
    texts = {path: path.read_text(encoding="utf-8") for path in layers.SOURCE.rglob("*.py")}
    readers = [path for path, text in texts.items() if reads.search(text)]
    assert [path for path in readers if layers.SOURCE / "config" not in path.parents] == []
    named = {
        name
        for text in texts.values()
        for name in re.findall(r"[\"']((?:PLUMB|PLUMBLINE|XDG)_[A-Z_]+)[\"']", text)
    }
    assert "PLUMBLINE_CACHE_DIR" in named
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_the_table_of_trace_events_is_what_the_code_writes() -> None:
    """X-37..X-45: every event and field is documented, and nothing else."""
    from plumbline.telemetry.points import POINT_CLASSES

    page = (layers.ROOT / "docs" / "how-to" / "trace.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", page, flags=re.M)
    documented = {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows}
    written = {
        event: {field.name for field in dataclasses.fields(kind)} - {"timestamp_ns"}
        for event, kind in POINT_CLASSES.items()
    }
    assert documented == written
