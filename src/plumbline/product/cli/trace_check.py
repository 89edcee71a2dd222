"""`plumb trace check FILE`: does a trace follow its schema and agree with itself (X-45)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.exit_codes import ExitCode


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb trace check`."""
    parser.add_argument("trace", metavar="FILE", help="the trace, JSON lines")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Check; exit code 1 where the trace is not valid."""
    from plumbline.product.cli.trace_file import read_points
    from plumbline.telemetry.trace import TraceInvalidError, verify_trace

    try:
        points = read_points(arguments.trace)
        verify_trace(points)
    except TraceInvalidError as error:
        document = {"schema_version": 1, "valid": False, "line": error.line, "reason": error.reason}
        return Answer(document=document, text=f"invalid: {error.message}", exit_code=ExitCode.CHECK_FAILED)
    document = {"schema_version": 1, "valid": True, "points": len(points)}
    return Answer(document=document, text=f"valid: {len(points)} points")
