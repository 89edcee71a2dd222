"""What the author of a class is told about an exception of it: text, file and line, never a machine's paths.

Only frames below the folders of versions are named with their files; of all others the module is enough.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

__all__ = ["fault_place", "fault_text", "fault_traceback"]

MAX_TEXT = 300
"""Characters of an exception's own text that are repeated."""
_MAX_FRAMES = 30
_MAX_CHAIN = 4
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^/\s'\":]+/)+")


def fault_text(error: BaseException, folders: Sequence[Path] = ()) -> str:
    """One line: class, text and the line of a version's file that raised, or called what raised.

    >>> fault_text(ValueError("no file /srv/models/words.txt"))
    'ValueError: no file .../words.txt'
    """
    place = fault_place(error, folders)
    text = _own_text(error)
    return f"{type(error).__name__}{text and f': {text}'}{place and f' ({place})'}"


def fault_place(error: BaseException, folders: Sequence[Path]) -> str:
    """The innermost place in a version's file, as `model.py line 7`; empty when it never was in one."""
    places = [(name, line) for _, line, name in _frames(error, folders) if name]
    return f"{places[-1][0]} line {places[-1][1]}" if places else ""


def fault_traceback(error: BaseException, folders: Sequence[Path]) -> str:
    """The frames of an exception, outermost first, then its text; those that it followed from come before.

    At most 30 frames of each, and four exceptions.
    """
    return "\nwhich led to\n".join(_one(e, folders) for e in reversed(_chain(error)))


def _chain(error: BaseException) -> list[BaseException]:
    chain, seen = [error], {id(error)}
    while len(chain) < _MAX_CHAIN:
        last = chain[-1]
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or id(before) in seen:
            break
        seen.add(id(before))
        chain.append(before)
    return chain


def _one(error: BaseException, folders: Sequence[Path]) -> str:
    lines = [
        f"  {name or frame.f_globals.get('__name__', '?')} line {line}, in {frame.f_code.co_name}"
        for frame, line, name in _frames(error, folders)
    ]
    if len(lines) > _MAX_FRAMES:
        half = _MAX_FRAMES // 2
        lines[half:-half] = [f"  ({len(lines) - 2 * half} more)"]
    text = _own_text(error)
    return "\n".join([*lines, f"{type(error).__name__}{text and f': {text}'}"])


def _frames(error: BaseException, folders: Sequence[Path]) -> Iterator[tuple[FrameType, int, str]]:
    """Frame, line, and the file's name below a folder, or empty."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        below = [file.relative_to(folder) for folder in folders if file.is_relative_to(folder)]
        yield frame, line, str(below[0]) if below else ""


def _own_text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a stranger's `__str__`
        text = "(its text cannot be made)"
    text = " ".join(_FOLDERS.sub(".../", text[: 4 * MAX_TEXT]).split())
    return text.encode("utf-8", "replace").decode()[:MAX_TEXT]
