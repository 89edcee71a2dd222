"""Refuses committed text that only makes sense on one machine: paths of a machine, addresses of an index.

Also holds that the licence is the one the package declares and that locks carry hashes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from layers import ROOT

# The words are put together here so that this file does not match itself.
HOME_FOLDERS = "|".join(("wo" + "rk", "ro" + "ot", "fa" + "rm"))
FORBIDDEN = {
    "machine path": re.compile(rf"(?<![\w./-])/(?:{HOME_FOLDERS})/"),
    "package index address": re.compile(
        "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", "index" + "-url"))
    ),
}
MAX_SIZE_BYTES = 2_000_000


def main() -> int:
    """Print every offence with its place; returns the exit code."""
    offences = (
        [line for path in tracked_files() for line in scan(path)] + lock_offences() + licence_offences()
    )
    print("\n".join(offences), file=sys.stderr)
    return 1 if offences else 0


def tracked_files() -> list[Path]:
    """Files that git tracks or would track, present in the working tree."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    paths = (ROOT / name for name in listed.split("\0") if name)
    return [path for path in paths if path.is_file() and path.stat().st_size <= MAX_SIZE_BYTES]


def scan(path: Path) -> list[str]:
    """Offences of one file, as `place: what`; files that are not UTF-8 text have none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []
    return [
        f"{path.name if not path.is_relative_to(ROOT) else path.relative_to(ROOT)}:{number}: {kind}"
        for number, line in enumerate(lines, start=1)
        for kind, pattern in FORBIDDEN.items()
        if pattern.search(line)
    ]


def lock_offences() -> list[str]:
    """Lock lines without a hash or without an exact version."""
    offences = []
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        for requirement in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8")):
            if requirement.startswith("#") or not requirement.strip():
                continue
            if "--hash=sha256:" not in requirement or "==" not in requirement:
                offences.append(
                    f"requirements/{path.name}: not pinned by hash: {requirement.splitlines()[0]}"
                )
    return offences


def licence_offences() -> list[str]:
    """Whether LICENSE and the declared licence agree."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    declared = 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return (
        [] if declared and "Version 2.0, January 2004" in text else ["LICENSE: not the declared Apache-2.0"]
    )


if __name__ == "__main__":
    sys.exit(main())
