"""`plumb --help` is fast because it imports nothing heavy (issue 2, section 5)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from plumb_process import SOURCE

from plumbline.product.cli.catalogue import COMMANDS

HEAVY = ("numpy", "llvmlite", "onnx", "rich", "cyclopts", "safetensors", "tokenizers", "ctypes", "asyncio")
PROBE = """
import json, sys
from plumbline.product.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(m for m in sys.modules if '.' not in m), len(sys.modules)]))
"""


def probe(*words: str) -> tuple[int, set[str], int, str]:
    """Exit code, imported top-level modules, number of modules and the text of a command line."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        env={"PYTHONPATH": str(SOURCE), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    text, _, last = done.stdout.rstrip("\n").rpartition("\n")
    code, modules, count = json.loads(last)
    return code, set(modules), count, text


def test_the_overview_imports_nothing_heavy_and_few_modules_at_all() -> None:
    code, modules, count, text = probe("--help")
    assert code == 0
    assert modules.isdisjoint(HEAVY)
    assert count < 120, "each module costs start-up time; a bare interpreter has about 30 to 60"
    assert all(f"  {entry.words[0]} " in text for entry in COMMANDS)


@pytest.mark.parametrize("words", [entry.words for entry in COMMANDS], ids=[e.name for e in COMMANDS])
def test_the_help_of_a_command_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    code, modules, _, text = probe(*words, "--help")
    assert code == 0
    assert modules.isdisjoint(HEAVY)
    assert text.startswith(f"usage: plumb {' '.join(words)}")
    assert "--json" in text
