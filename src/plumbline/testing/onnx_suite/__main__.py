"""`python -m plumbline.testing.onnx_suite`: run cases and say what is not right.

Exit status 1 if a case is wrong or crashed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TextIO

from plumbline.testing.onnx_suite.batches import run_onnx_suite
from plumbline.testing.onnx_suite.cases import KINDS
from plumbline.testing.onnx_suite.report import Outcome, SuiteReport


def main() -> int:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(prog="python -m plumbline.testing.onnx_suite", description=__doc__)
    parser.add_argument("--operator", help="only cases of this ONNX operator")
    parser.add_argument("--name", action="append", help="only cases whose name matches this expression")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this part of the suite")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.add_argument("--out", type=Path, help="write the whole report as JSON to this file")
    parser.add_argument("--quiet", action="store_true", help="do not list refused and folded cases")
    arguments = parser.parse_args()
    report = run_onnx_suite(
        arguments.kind or KINDS, arguments.name, operator=arguments.operator, jobs=arguments.jobs,
        progress=lambda done, total: _say(f"{done}/{total}", sys.stderr),
    )  # fmt: skip
    if arguments.out:
        arguments.out.write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
    if arguments.json:
        _say(json.dumps(report.to_dict(), indent=1))
    else:
        _print(report, quiet=arguments.quiet)
    return 1 if report.select(Outcome.WRONG) or report.select(Outcome.CRASHED) else 0


def _print(report: SuiteReport, *, quiet: bool) -> None:
    hidden = {Outcome.PASSED, *([Outcome.REFUSED, Outcome.FOLDED] if quiet else [])}
    for result in sorted(report.results, key=lambda r: (r.outcome, r.operator, r.name)):
        if result.outcome not in hidden:
            _say(f"{result.outcome.value:8} {result.operator:24} {result.name}: {result.detail}")
    document = report.to_dict(cases=False)
    names = (*Outcome, "total", "excluded", "passed_by_moving", "passed_by_rounding")
    _say(" ".join(f"{name}={document[name]}" for name in names))


def _say(text: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
