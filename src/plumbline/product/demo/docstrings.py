"""Documentation of Python's standard library, read from source text. No module of it is imported."""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Passage", "collect_passages"]

LEFT_OUT = frozenset({
    "antigravity", "this", "test", "idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data", "distutils",
    "site-packages", "encodings", "__phello__",
})  # fmt: skip
"""Jokes, tests, tools and tables."""
BUILT_IN = ("builtins", "math", "itertools", "time")
"""Modules without source text, harmless to import and loaded in most processes anyway."""
SHORTEST, LONGEST = 24, 900
"""Characters of a docstring: shorter ones say nothing, the rest of longer ones is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A documented name and what its docstring says."""

    name: str
    text: str
    is_method: bool = False

    @property
    def embedded_text(self) -> str:
        """What is turned into a vector: the name in words, then the docstring."""
        return f"{self.name}: {self.text}"


def collect_passages(
    limit: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Passage, ...]:
    """Docstrings of public modules, classes, functions and methods, in order of their names.

    Args:
        limit: most passages; when there are more, methods are left out first, then every n-th is kept.
        progress: called with the number of files read and of all files.
    """
    files = list(_module_files())
    found: dict[str, Passage] = {}
    for done, (module, path) in enumerate(files, start=1):
        for passage in _from_source(module, path):
            found.setdefault(passage.name, passage)
        progress(done, len(files))
    for module in BUILT_IN:
        for passage in _from_built_in(module):
            found.setdefault(passage.name, passage)
    ordered = sorted(found.values(), key=lambda passage: (passage.is_method, passage.name))
    functions = sum(not passage.is_method for passage in ordered)
    kept = _spread(ordered[:functions], limit)
    kept += _spread(ordered[functions:], limit - len(kept))
    return tuple(sorted(kept, key=lambda passage: passage.name))


def _spread(passages: list[Passage], count: int) -> list[Passage]:
    """At most `count` of the passages, evenly from all of them."""
    if len(passages) <= count:
        return passages
    return [passages[position * len(passages) // count] for position in range(count)]


def _module_files() -> Iterator[tuple[str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted((*root.glob("*.py"), *root.glob("*/*.py"))):
        parts = path.relative_to(root).with_suffix("").parts
        public = all(not part.startswith("_") or part == "__init__" for part in parts)
        if public and not LEFT_OUT.intersection(parts) and parts[0] in sys.stdlib_module_names:
            yield ".".join(part for part in parts if part != "__init__"), path


def _from_source(module: str, path: Path) -> Iterator[Passage]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in strings are not our business
            tree = ast.parse(path.read_bytes(), filename=path.name)
    except (SyntaxError, ValueError, OSError):
        return  # not Python of this version, or gone: there is nothing to document
    yield from _passages(module, ast.get_docstring(tree))
    yield from _from_body(module, tree.body, in_class=False)


def _from_body(prefix: str, body: list[ast.stmt], *, in_class: bool) -> Iterator[Passage]:
    for node in body:
        if not isinstance(
            node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) or node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        yield from _passages(name, ast.get_docstring(node), is_method=in_class)
        if isinstance(node, ast.ClassDef) and not in_class:
            yield from _from_body(name, node.body, in_class=True)


def _from_built_in(module: str) -> Iterator[Passage]:
    loaded = __import__(module)
    for name, thing in sorted(vars(loaded).items()):
        exception = isinstance(thing, type) and issubclass(thing, BaseException)
        if (
            not name.startswith("_")
            and (inspect.isbuiltin(thing) or inspect.isclass(thing))
            and not exception
        ):
            yield from _passages(name if module == "builtins" else f"{module}.{name}", inspect.getdoc(thing))


def _passages(name: str, docstring: str | None, *, is_method: bool = False) -> Iterator[Passage]:
    text = " ".join((docstring or "").split())
    if len(text) >= SHORTEST:
        yield Passage(name=name, text=text[:LONGEST], is_method=is_method)
