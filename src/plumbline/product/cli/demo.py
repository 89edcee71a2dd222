"""`plumb demo`: the semantic search of `make run`, served."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file, parse_count


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb demo`."""
    add = parser.add_argument
    add("--once", action="store_true", help="end after the answers")
    add("--question", action="append", metavar="TEXT", help="ask this instead of the built-in questions")
    add("--passages", type=parse_count, default=2400, metavar="N", help="most docstrings (default 2400)")
    add("--port", type=int, default=8000, help="of REST; a free one where it is taken (default 8000)")
    add("--grpc-port", type=int, default=8001, help="a free one where it is taken (default 8001)")
    add("--folder", metavar="DIR", help="where the plan picture and the trace go (default: in the cache)")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Run it; with `--json` the conversation goes to standard error, and it ends after the answers."""
    from rich.console import Console

    from plumbline.config.libraries import set_library_settings

    set_library_settings()  # before gRPC loads
    from plumbline.product.demo.demonstration import QUESTIONS, DemoOptions, run_demo

    errors = Console(highlight=False, file=sys.stderr)
    report = run_demo(
        DemoOptions(
            once=arguments.once or arguments.json,
            questions=tuple(arguments.question or QUESTIONS),
            passages=arguments.passages,
            port=arguments.port,
            grpc_port=arguments.grpc_port,
            output=None if arguments.folder is None else Path(arguments.folder),
        ),
        console=errors if arguments.json else Console(highlight=False, file=sys.stdout),
        errors=errors,
    )
    return Answer(document=report.document(), text="")
