"""The layers of the repository: order from the import contracts, meaning from docs/ownership.toml."""

from __future__ import annotations

import ast
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "plumbline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who answers for a package: its layer (`L0`..`L6` or `plane`), its execution unit, its owner."""

    layer: str
    unit: str
    owner: str


def layer_rows() -> list[tuple[str, ...]]:
    """The layer contract, high to low; packages of one row may not import each other."""
    contracts = _pyproject()["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    return [tuple(name.strip(" ()") for name in row.split("|")) for row in layers]


def contract_names() -> list[str]:
    """The title of every import contract."""
    return [contract["name"] for contract in _pyproject()["tool"]["importlinter"]["contracts"]]


def owners() -> dict[str, Owner]:
    """Layer, unit and owner of every package, those to come included."""
    with (ROOT / "docs" / "ownership.toml").open("rb") as file:
        return {name: Owner(**entry) for name, entry in tomllib.load(file)["package"].items()}


def exists(package: str) -> bool:
    """Whether a package or module of that dotted name, relative to `plumbline`, is in the source tree."""
    path = SOURCE.joinpath(*package.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def docstring(path: Path) -> str:
    """The module docstring of a source file; empty where there is none."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def summary(path: Path) -> str:
    """The first paragraph of a module docstring on one line."""
    return " ".join(docstring(path).split("\n\n")[0].split())


def imports(path: Path) -> set[str]:
    """Top-level packages of `plumbline` that a source file imports, lazily or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found.update(name.split(".")[1] for name in names if name.startswith("plumbline."))
    return found


def foreign_imports(path: Path) -> set[str]:
    """Top-level packages of others that a source file imports, lazily or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"plumbline"}


def _pyproject() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)
