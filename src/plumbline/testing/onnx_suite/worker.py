"""A process that judges a list of cases: pickled cases in, one JSON line before and one after each case out.

The first line of a case is written before any code of it runs, so that a case that ends the process is known.
"""

from __future__ import annotations

import json
import pickle
import sys
import traceback
from pathlib import Path
from typing import TextIO

from plumbline.testing.onnx_suite.cases import SuiteCase
from plumbline.testing.onnx_suite.judge import judge_case
from plumbline.testing.onnx_suite.report import CaseResult, Outcome

__all__ = ["main"]


def main(cases_path: str, results_path: str) -> None:
    """Judge every case of a file that our own parent process wrote into its private folder."""
    cases: list[SuiteCase] = pickle.loads(Path(cases_path).read_bytes())
    with Path(results_path).open("a", encoding="utf-8") as results:
        for position, case in enumerate(cases):
            _write(results, {"begin": position})
            _write(results, {"result": _judge(case).to_dict()})


def _judge(case: SuiteCase) -> CaseResult:
    try:
        return judge_case(case)
    except Exception as error:  # noqa: BLE001 - an untyped error is what the suite looks for
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return CaseResult(
            name=case.name, kind=case.kind, operator=case.operator, outcome=Outcome.CRASHED,
            detail=detail[:600],
        )  # fmt: skip


def _write(results: TextIO, document: dict[str, object]) -> None:
    results.write(json.dumps(document) + "\n")
    results.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
