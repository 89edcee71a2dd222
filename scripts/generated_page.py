"""Writing a generated page, or checking that the committed one is current."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path


def write_or_check(path: Path, text: str, *, check: bool) -> int:
    """Write `text` to `path`, or with `check` compare and print the difference.

    Returns:
        The exit code: 1 when the page is out of date, else 0.
    """
    if not check:
        path.write_text(text, encoding="utf-8")
        return 0
    committed = path.read_text(encoding="utf-8") if path.exists() else ""
    if committed == text:
        return 0
    lines = difflib.unified_diff(
        committed.splitlines(), text.splitlines(), "committed", "current", lineterm=""
    )
    print("\n".join(list(lines)[:60]))
    print(f"{path.name} is out of date: run `make generate` and commit the result", file=sys.stderr)
    return 1
