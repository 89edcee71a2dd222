"""What a worker prints about a class that failed: once for a line, with the number left out (X-31)."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.serving.workers.failures import PoolStopped, WorkerBroken
from plumbline.serving.workers.fault_notes import FaultNotes

REF = VersionRef(model="odd", version="1")


def failure(folder: Path) -> WorkerBroken:
    """As if a class in `folder` raised."""
    with pytest.raises(KeyError) as caught:
        exec(compile("def run():\n    raise KeyError('x')\nrun()", str(folder / "model.py"), "exec"), {})
    broken = WorkerBroken(what="run", kind="KeyError", reason="")
    broken.__cause__ = caught.value
    return broken


def spec_in(folder: Path) -> VersionSpec:
    return VersionSpec(ref=REF, kind=VersionKind.PYTHON, folder=folder, entry="model.py:Odd", digest="d")


def test_a_class_that_fails_every_call_is_told_once_in_a_while(tmp_path: Path) -> None:
    printed, times = io.StringIO(), iter([0.0, 1.0, 2.0, 9.0])
    notes = FaultNotes(printed, lambda: next(times))
    notes.know(spec_in(tmp_path))
    for _ in range(4):
        notes.call_failed(failure(tmp_path))
    assert printed.getvalue().count("model.py line 2, in run\nKeyError: 'x'") == 2
    assert printed.getvalue().endswith("(2 more like it before)\n")


def test_what_no_class_raised_is_not_told(tmp_path: Path) -> None:
    printed = io.StringIO()
    notes = FaultNotes(printed)
    notes.call_failed(PoolStopped())
    notes.load_failed(spec_in(tmp_path), PoolStopped())
    notes.call_failed(failure(tmp_path))
    assert printed.getvalue() == ""


def test_a_load_that_failed_is_told_with_its_version_and_forgotten(tmp_path: Path) -> None:
    printed = io.StringIO()
    notes = FaultNotes(printed)
    notes.know(spec_in(tmp_path))
    notes.load_failed(spec_in(tmp_path), failure(tmp_path))
    assert printed.getvalue().startswith("load of odd@1 failed:\n")
    told = len(printed.getvalue())
    notes.call_failed(failure(tmp_path))
    assert len(printed.getvalue()) == told


def test_a_closed_output_fails_nothing(tmp_path: Path) -> None:
    printed = io.StringIO()
    notes = FaultNotes(printed)
    notes.know(spec_in(tmp_path))
    printed.close()
    notes.call_failed(failure(tmp_path))
