"""What an author is told about an exception: text and line, no folder of the machine (X-31)."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from plumbline.engine.sessions.faults import MAX_TEXT, fault_place, fault_text, fault_traceback


def raised_by(file: Path, code: str) -> BaseException:
    file.write_text(code)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever a stranger's file raises
        runpy.run_path(str(file))
    return caught.value


def test_text_and_line_are_told_and_folders_are_not(tmp_path: Path) -> None:
    error = raised_by(tmp_path / "model.py", f"def f():\n    open('{tmp_path}/words.txt')\nf()\n")
    text = fault_text(error, (tmp_path,))
    assert text.startswith("FileNotFoundError: ")
    assert text.endswith("'.../words.txt' (model.py line 2)")
    assert str(tmp_path) not in text + fault_traceback(error, (tmp_path,))


def test_traceback_names_files_of_the_version_and_modules_of_others(tmp_path: Path) -> None:
    code = "import json\ntry:\n  json.loads('')\nexcept Exception as e:\n  raise OSError('no') from e\n"
    told = fault_traceback(raised_by(tmp_path / "model.py", code), (tmp_path,))
    first, second = told.split("which led to")
    assert "  model.py line 3, in <module>\n  json line " in first
    assert second.endswith("  model.py line 5, in <module>\nOSError: no")
    assert ".py line" not in told.replace("model.py line", "")


def test_an_error_that_was_never_in_a_versions_file_has_no_place(tmp_path: Path) -> None:
    assert fault_place(ValueError("x"), (tmp_path,)) == ""


def test_texts_and_recursions_are_bounded(tmp_path: Path) -> None:
    deep = raised_by(tmp_path / "model.py", "def f():\n    f()\nf()\n")
    assert len(fault_traceback(deep, (tmp_path,)).splitlines()) < 40
    assert len(fault_text(ValueError("y" * 100_000))) < MAX_TEXT + 20


def test_a_text_that_cannot_be_made_or_written_hides_nothing_else() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert fault_text(Odd()) == "Odd: (its text cannot be made)"
    fault_text(ValueError("\ud800")).encode()
