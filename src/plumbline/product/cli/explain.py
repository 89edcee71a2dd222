"""`plumb explain REQUEST --log LOG`: what happened to a request, from the log alone (L4-17)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb explain`."""
    parser.add_argument("request", metavar="REQUEST", help="id of the request")
    parser.add_argument(
        "--log", required=True, metavar="LOG", help="the folder of decision logs, or the file of one segment"
    )
    parser.add_argument("--name", metavar="NAME", help="only the log of this name")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Follow the request through every log that names it."""
    from plumbline.product.cli.decision_logs import find_logs
    from plumbline.scheduling.explanation import RequestNotLogged, explain
    from plumbline.scheduling.explanation_text import explanation_lines

    documents, lines = [], []
    for log in find_logs(arguments.log, arguments.name):
        try:
            explanation = explain(log.bodies, arguments.request)
        except RequestNotLogged:
            continue
        documents.append({"log": log.name, **explanation.to_dict()})
        lines += [f"log {log.name}", *explanation_lines(explanation)]
    if not documents:
        raise RequestNotLogged(request_id=arguments.request[:128])
    return Answer(document={"schema_version": 1, "explanations": documents}, text="\n".join(lines))
