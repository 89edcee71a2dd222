"""Reading the hash-pinned lock files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One locked distribution: exact version, environment marker, SHA-256 of every file it may come from."""

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]


def read_lock(path: Path) -> list[Pin]:
    """The pins of a lock file, in file order."""
    pins = []
    for block in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8")):
        match = PIN.match(block)
        if match:
            marker = (match["marker"] or "").strip()
            hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
            pins.append(Pin(name=match["name"], version=match["version"], marker=marker, sha256=hashes))
    return pins
