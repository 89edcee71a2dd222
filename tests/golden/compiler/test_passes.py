"""Each pass by example: graph text in, graph text out (L2-04).

After a wanted change, `PYTHONPATH=src python tests/golden/compiler/test_passes.py` writes the new texts; read
the difference before committing it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.graph.text import format_graph, parse_graph
from plumbline.compiler.graph.verify import verify
from plumbline.compiler.passes.pipeline import PASSES
from plumbline.compiler.passes.report import PassReport
from plumbline.kernels.emit.target import AVX2

FOLDER = Path(__file__).parent / "passes"
NAMED = {rewrite.__name__: rewrite for rewrite in PASSES}


@dataclass(frozen=True)
class Unread:
    """A constant of which only the identity is known: no pass needs the bytes of large weights."""

    identity: str
    size_bytes: int = 0

    def read(self) -> np.ndarray:
        raise AssertionError(f"{self.identity} was read")


def read(name: str) -> ExecutionGraph:
    text = (FOLDER / name / "before.graph").read_text(encoding="utf-8")
    identities = re.findall(r'= "((?:sha256|derived):[^"]+)"', text)
    return parse_graph(text, {identity: Unread(identity) for identity in identities})


def rewritten(name: str) -> tuple[str, PassReport]:
    report = PassReport()
    graph = NAMED[name](read(name), AVX2, report)
    verify(graph)
    return format_graph(graph), report


@pytest.mark.parametrize("name", NAMED)
def test_pass_rewrites_its_example_as_recorded(name: str) -> None:
    after, _ = rewritten(name)
    assert after == (FOLDER / name / "after.graph").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMED)
def test_example_of_a_pass_is_changed_by_it_and_left_alone_the_second_time(name: str) -> None:
    """An example that a pass does not touch proves nothing; a pass that never settles is a defect."""
    before = read(name)
    once = NAMED[name](before, AVX2, PassReport())
    assert format_graph(once) != format_graph(before)
    assert format_graph(NAMED[name](once, AVX2, PassReport())) == format_graph(once)


@pytest.mark.parametrize("name", sorted(NAMED.keys() - {"assign_halos"}))
def test_pass_says_what_it_did(name: str) -> None:
    """L2-05: `--explain` lists these."""
    _, report = rewritten(name)
    assert report.rewrites
    for rewrite in report.rewrites:
        assert rewrite.pass_name == name
        assert rewrite.subject
        assert rewrite.detail


def main() -> None:
    """Write the recorded results anew."""
    for name in NAMED:
        (FOLDER / name / "after.graph").write_text(rewritten(name)[0], encoding="utf-8")


if __name__ == "__main__":
    main()
