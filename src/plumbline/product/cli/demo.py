"""`plumb demo`: the semantic search of `make run`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file, parse_count


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb demo`."""
    add = parser.add_argument
    add("--once", action="store_true", help="answer the built-in questions and end")
    add("--question", action="append", metavar="TEXT", help="ask this instead of the built-in questions")
    add(
        "--threads",
        type=parse_count,
        metavar="N",
        help="threads of the model (default: at most 4)",
    )
    add("--passages", type=parse_count, default=2400, metavar="N", help="most docstrings (default 2400)")
    add("--folder", metavar="DIR", help="where the plan picture and the trace go (default: in the cache)")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Run it; with `--json` the conversation goes to standard error, and nothing more is asked."""
    from rich.console import Console

    from plumbline.product.demo import run_demo
    from plumbline.product.demo.demonstration import QUESTIONS

    report = run_demo(
        once=arguments.once or arguments.json,
        threads=arguments.threads,
        passages=arguments.passages,
        questions=arguments.question or QUESTIONS,
        output=None if arguments.folder is None else Path(arguments.folder),
        console=Console(highlight=False, stderr=arguments.json),
    )
    return Answer(document=report.document(), text="")
