"""The Python of the guides runs as written (X-21)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").is_file())


@pytest.mark.parametrize(
    ("guide", "printed"),
    [
        ("publish-a-model", "True"),
        ("canary", "4 errors of 60 requests, base 1 of 200, margin 0.02"),
    ],
)
def test_the_python_of_a_guide_runs_as_written(guide: str, printed: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / f"{guide}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.M)
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == printed
