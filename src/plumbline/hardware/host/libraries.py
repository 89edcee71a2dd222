"""Looking for driver libraries, device nodes and Python packages, without initialising any of them."""

from __future__ import annotations

import ctypes
import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What was looked for and what was found, in words and names."""

    looked_for: tuple[str, ...]
    found: tuple[str, ...]


def find_library(*names: str) -> str | None:
    """The first of these shared libraries that the dynamic loader can load."""
    for name in names:
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_LOCAL)
        except OSError:
            continue
        return name
    return None


def find_package(name: str) -> str | None:
    """The name, when the Python package is installed. It is not imported."""
    try:
        return name if importlib.util.find_spec(name) is not None else None
    except (ImportError, ValueError):
        return None


def find_nodes(pattern: str, root: Path = Path("/")) -> tuple[str, ...]:
    """Device nodes or files that match a pattern relative to the root, by their last name."""
    return tuple(sorted(path.name for path in root.glob(pattern)))


def search_for(
    *, libraries: tuple[str, ...] = (), packages: tuple[str, ...] = (), nodes: tuple[str, ...] = ()
) -> Search:
    """Look for everything that would be a sign of one kind of device."""
    found = [find_library(*libraries)] if libraries else []
    found += [find_package(package) for package in packages]
    seen = tuple(name for name in found if name is not None)
    for pattern in nodes:
        seen += find_nodes(pattern)
    return Search(looked_for=libraries + packages + nodes, found=seen)
