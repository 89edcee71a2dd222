"""`plumb conformance onnx`: the ONNX backend test suite against native code."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.exit_codes import ExitCode

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
"""As `plumbline.testing.onnx_suite.KINDS`, whose import is heavy; a test compares the two."""
OUTCOMES = ("passed", "folded", "refused", "wrong", "crashed")


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb conformance`."""
    add = parser.add_argument
    add("suite", choices=["onnx"], help="which suite")
    add("--kind", type=_kinds, default=KINDS, metavar="A,B", help=f"parts of the suite: {','.join(KINDS)}")
    add("--operator", metavar="NAME", help="cases of this operator only")
    add("--case", action="append", metavar="REGEX", help="cases whose name matches")
    add("--jobs", type=int, choices=range(1, 65), default=2, metavar="N", help="child processes (default 2)")
    add("--summary", action="store_true", help="leave single cases out of the document")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Run; exit code 1 where a case was wrong or crashed, or none ran."""
    from plumbline.testing.onnx_suite import run_onnx_suite

    with _progress(quiet=arguments.json) as advance:
        report = run_onnx_suite(
            arguments.kind, arguments.case, operator=arguments.operator, jobs=arguments.jobs, progress=advance
        )
    document = {"schema_version": 1, **report.to_dict(cases=not arguments.summary)}
    failed = document["wrong"] or document["crashed"] or not document["total"]
    return Answer(
        document=document,
        text=_text(document, report.results),
        exit_code=ExitCode.CHECK_FAILED if failed else ExitCode.OK,
    )


def _text(document: dict[str, Any], results: Any) -> str:
    rows = [
        [name, *(counts.get(outcome, 0) for outcome in OUTCOMES)]
        for name, counts in document["by_operator"].items()
    ]
    lines = [table(rows, ["operator", *OUTCOMES]), ""] if rows else []
    lines += [
        f"{r.outcome.value}: {r.name}: {r.detail}" for r in results if r.outcome.value in ("wrong", "crashed")
    ]
    counted = ", ".join(f"{document[outcome]} {outcome}" for outcome in OUTCOMES)
    lines.append(f"{document['total']} cases: {counted}; {document['excluded']} not of dense numbers")
    return "\n".join(lines)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(text.split(",")))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ArgumentTypeError(f"{unknown[0]!r} is no part of the suite; parts: {', '.join(KINDS)}")
    return kinds


def _progress(*, quiet: bool) -> AbstractContextManager[Callable[[int, int], None]]:
    if quiet or not sys.stderr.isatty():
        return nullcontext(lambda done, total: None)
    from plumbline.product.cli.progress import counted_progress

    return counted_progress("cases")
