"""Where versions lie in a folder: `MODEL/VERSION/...`, or `MODEL/...` alone, which counts as version "1"."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from plumbline.contracts.inference import VersionRef
from plumbline.errors import PlumblineError
from plumbline.serving.repository.contents import find_choices
from plumbline.serving.repository.names import verify_ref
from plumbline.serving.repository.port import EMPTY_FOLDER

__all__ = ["FLAT_VERSION", "Placed", "find_placed", "note_of"]

FLAT_VERSION = "1"
_OTHER_SETTINGS = "config.pbtxt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A version as it lies in the folder.

    Attributes:
        ref: its names.
        inside: its folder, relative to the root.
        problem: why it cannot be used; empty when its place is in order.
    """

    ref: VersionRef
    inside: str
    problem: str = ""


def find_placed(root: Path) -> list[Placed]:
    """Every version below the root, by name; nothing that looks like one is left out.

    A folder that is named by a number and holds nothing is a version that cannot be used, so that it is seen;
    other folders without any file (a place kept) are none. Names that begin with a dot are not looked at.
    """
    found: list[Placed] = []
    for entry in _entries(root):
        if entry.is_symlink():
            found.append(_refused(entry.name, FLAT_VERSION, "its folder is a symbolic link"))
        elif entry.is_dir(follow_symlinks=False):
            found.extend(_placed_of(root, entry.name))
    return found


def note_of(root: Path, model: str) -> str:
    """What an operator should know of a model's folder: settings of another server that count nothing."""
    if not os.path.isfile(root / model / _OTHER_SETTINGS):  # also where it cannot be looked at
        return ""
    return f"{_OTHER_SETTINGS} is not read; settings are version.toml in the folder of a version"


def _placed_of(root: Path, model: str) -> list[Placed]:
    entries = _entries(root / model)
    files = [e.name for e in entries if not e.is_dir(follow_symlinks=False)]
    folders = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    if find_choices(files):
        numbered = [name for name in folders if name.isdigit()]
        problem = ""
        if numbered:
            problem = f"a model beside version folders: move its files into one ({', '.join(numbered[:8])})"
        return [_verified(Placed(ref=VersionRef(model=model, version="1"), inside=model, problem=problem))]
    links = [e.name for e in entries if e.is_symlink()]
    return [
        *(_refused(model, name, "its folder is a symbolic link") for name in links),
        *(
            _verified(Placed(ref=VersionRef(model=model, version=name), inside=f"{model}/{name}"))
            for name in folders
            if _entries(root / model / name)
        ),
        *(
            _refused(model, name, EMPTY_FOLDER)
            for name in folders
            if name.isascii() and name.isdigit() and not _entries(root / model / name)
        ),
    ]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)


def _refused(model: str, version: str, problem: str) -> Placed:
    return _verified(
        Placed(ref=VersionRef(model=model, version=version), inside=f"{model}/{version}", problem=problem)
    )


def _verified(placed: Placed) -> Placed:
    try:
        verify_ref(placed.ref)
    except PlumblineError as error:
        shown = VersionRef(model=ascii(placed.ref.model)[:130], version=ascii(placed.ref.version)[:70])
        return Placed(ref=shown, inside=placed.inside, problem=error.message)
    return placed


def stamp(facts: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file is written: size, time, and which file it is."""
    return (facts.st_size, facts.st_mtime_ns, facts.st_ino if stat.S_ISREG(facts.st_mode) else 0)
