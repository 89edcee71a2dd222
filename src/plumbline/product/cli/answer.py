"""What a command returns, and how it reaches the reader: text for people, one JSON document for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.errors import ResourceError
from plumbline.product.cli.exit_codes import ExitCode

__all__ = ["Answer", "OutputUnwritable", "table", "to_json", "write_answer", "write_text"]


@dataclass(eq=False, kw_only=True)
class OutputUnwritable(ResourceError):
    """A file that the command should write cannot be written."""

    code = "resource.output_file"
    owner = "product"
    template = "cannot write {file!r}: {reason}"

    file: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a command: a document of plain data, its text for people, and the exit code."""

    document: Mapping[str, Any]
    text: str
    exit_code: int = ExitCode.OK


def write_answer(answer: Answer, *, as_json: bool, file: str | None) -> None:
    """Write to standard output, and the document to `file` where one is wanted.

    Raises:
        OutputUnwritable: the file cannot be written.
    """
    document = to_json(answer.document)
    if file is not None:
        write_text(file, document + "\n")
    text = document if as_json else answer.text
    sys.stdout.write(text + "\n" if text else "")
    sys.stdout.flush()


def write_text(file: str, text: str) -> None:
    """Write a file whole.

    Raises:
        OutputUnwritable: it cannot be written.
    """
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise OutputUnwritable(file=Path(file).name, reason=reason) from error


def to_json(document: Mapping[str, Any]) -> str:
    """Strict JSON: numbers that JSON does not know become the texts `nan`, `inf` and `-inf`.

    >>> print(to_json({"a": float("inf")}))
    {
      "a": "inf"
    }
    """
    return json.dumps(_strict(document), indent=2, allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value


def table(rows: Sequence[Sequence[object]], headings: Sequence[str]) -> str:
    """Columns aligned with spaces; columns that hold only numbers are aligned right.

    >>> print(table([["a", 1], ["bc", 20]], ["name", "count"]))
    name  count
    a         1
    bc       20
    """
    cells = [list(headings), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    numeric = [all(isinstance(row[column], int | float) for row in rows) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    )
