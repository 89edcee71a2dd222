"""The real command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[3] / "src"


class Plumb:
    """Runs `plumb` in `folder`."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self._environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PLUMBLINE_CACHE_DIR": str(cache)}

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command line; nothing is checked."""
        return subprocess.run(
            [sys.executable, "-m", "plumbline.product.cli", *words],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def document(self, *words: str, code: int = 0) -> dict[str, Any]:
        """The document of a command with `--json`, which must end with `code`."""
        done = self(*words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stderr == ""
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found
