"""The ONNX backend suite through native code: nothing wrong or crashed, and no fewer passed than before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import onnx
import pytest

from plumbline.testing.onnx_suite import Outcome, SuiteReport, run_onnx_suite

FLOORS = json.loads((Path(__file__).parent / "floors.json").read_text(encoding="utf-8"))
"""Fewest passed cases of each part; raise them when more pass, never lower them."""


def verify(report: SuiteReport, part: str) -> None:
    bad = [*report.select(Outcome.WRONG), *report.select(Outcome.CRASHED)]
    assert not bad, "\n".join(f"{r.outcome} {r.name}: {r.detail}" for r in bad)
    assert all(r.code.count(".") and r.detail for r in report.select(Outcome.REFUSED))
    if onnx.__version__.startswith(FLOORS["onnx"]):
        assert len(report.results) == FLOORS[part]["total"]
        assert report.count(Outcome.PASSED) >= FLOORS[part]["passed"]


@pytest.mark.parametrize(("part", "pattern"), [("node a-l", "^test_[a-l]"), ("node m-z", "^test_[m-z]")])
def test_dense_node_cases_are_right_or_refused_by_name(part: str, pattern: str) -> None:
    """L2-02, L2-10: none wrong, none crashed; each half of the alphabet can run beside the other."""
    verify(run_onnx_suite(["node"], [pattern], jobs=min(2, os.cpu_count() or 1)), part)


@pytest.mark.parametrize("kind", ["simple", "pytorch-converted", "pytorch-operator"])
def test_small_models_of_the_suite_are_right_or_refused_by_name(kind: str) -> None:
    verify(run_onnx_suite([kind], jobs=1), kind)
