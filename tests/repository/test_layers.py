"""The import contracts hold, and they can fail (L0-08, X-15)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import layers


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the import contracts over the package that stands in `folder`."""
    command = "import sys; from importlinter.cli import lint_imports_command as c; c()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--config", str(folder / "pyproject.toml")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def package_copy(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    shutil.copytree(
        root / "src" / "plumbline", folder / "plumbline", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(root / "pyproject.toml", folder)
    return folder


def planted(folder: Path, module: str, line: str) -> subprocess.CompletedProcess[str]:
    """The verdict with one import added to one module, which is put back afterwards."""
    path = folder / "plumbline" / module
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(f"{before}\n{line}\n", encoding="utf-8")
        return lint(folder)
    finally:
        path.write_text(before, encoding="utf-8")


def test_the_contracts_hold_for_the_package_as_it_is(package_copy: Path) -> None:
    """L0-08: dependencies point down."""
    result = lint(package_copy)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("hardware/__init__.py", "import plumbline.kernels", "Layers"),
        ("execution/__init__.py", "import plumbline.compiler", "Layers"),
        ("errors.py", "def late() -> None:\n    import plumbline.hardware", "Layers"),
        ("hardware/__init__.py", "import llvmlite", "run path"),
        ("compiler/planning/__init__.py", "import llvmlite", "LLVM only"),
        ("compiler/planning/__init__.py", "import onnx", "onnx only"),
    ],
)
def test_a_planted_import_against_the_layers_fails_the_check(
    package_copy: Path, module: str, line: str, contract: str
) -> None:
    """L0-08: the test of the layers fails when an upward import is added, lazy ones too."""
    result = planted(package_copy, module, line)
    assert result.returncode == 1
    broken = re.findall(r"^(.*) BROKEN", result.stdout, flags=re.MULTILINE)
    assert any(name.startswith(contract) or contract in name for name in broken), result.stdout


def test_a_package_without_a_layer_fails_the_check(package_copy: Path) -> None:
    """Nobody can add a package and leave its place open."""
    stray = package_copy / "plumbline" / "stray"
    stray.mkdir()
    try:
        (stray / "__init__.py").write_text('"""Nowhere."""\n', encoding="utf-8")
        assert lint(package_copy).returncode == 1
    finally:
        shutil.rmtree(stray)


def test_every_package_of_the_contract_has_a_layer_a_unit_and_an_owner() -> None:
    """X-17: the ownership file maps every package to layer, execution unit and owner."""
    named = {package for row in layers.layer_rows() for package in row}
    assert named == set(layers.owners())
    assert all(entry.layer and entry.unit and entry.owner for entry in layers.owners().values())


def test_every_package_docstring_says_what_it_is(root: Path) -> None:
    """ARCHITECTURE.md is made from these sentences, so none may be missing."""
    silent = [
        str(path.relative_to(root))
        for path in layers.SOURCE.rglob("*.py")
        if not layers.summary(path) and path.name != "__main__.py"
    ]
    assert silent == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    """style.md, Names."""
    empty_words = {"utils", "helpers", "common", "misc", "base", "core", "manager", "handlers", "types"}
    assert [path.name for path in layers.SOURCE.rglob("*") if path.stem in empty_words] == []


def test_architecture_page_is_current(root: Path) -> None:
    """The page is generated; a change of layers or docstrings changes it."""
    import generate_architecture

    assert (root / "ARCHITECTURE.md").read_text(encoding="utf-8") == generate_architecture.render()


def test_every_diagram_line_of_the_table_has_a_state() -> None:
    """X-24: the layer table never shows a planned package as if it were there."""
    import generate_architecture

    rows = [line for line in generate_architecture.render().splitlines() if line.startswith("| `")]
    states = {
        line.split("|")[1].strip(" `"): line.split("|")[5].strip() for line in rows if line.count("|") == 6
    }
    assert states
    assert {name for name, state in states.items() if state == "here"} == {
        name for name in states if layers.exists(name)
    }
