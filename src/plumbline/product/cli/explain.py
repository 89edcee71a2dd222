"""`plumb explain REQUEST`: what happened to a request, from decision logs alone, here or there (L4-17)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.decision_logs import add_policy
from plumbline.product.cli.server_command import add_server, open_client


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb explain`."""
    parser.add_argument("request", metavar="REQUEST", help="id of the request")
    parser.add_argument(
        "--log",
        metavar="LOG",
        help="a folder of decision logs, or the file of one segment; else a server is asked",
    )
    parser.add_argument("--name", metavar="NAME", help="with --log: only the log of this name")
    add_policy(parser)
    add_server(parser)
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Ask the server, or follow the request through every log that names it."""
    if arguments.log is None:
        with open_client(arguments) as client:
            document = client.explain(arguments.request)
        return Answer(document=document, text="\n".join(document.get("lines", [])))
    return _explain_logs(arguments)


def _explain_logs(arguments: Namespace) -> Answer:
    from plumbline.product.cli.decision_logs import find_logs
    from plumbline.scheduling.explanation import RequestNotLogged, explain, tell_lost_workers
    from plumbline.scheduling.explanation_text import explanation_lines
    from plumbline.scheduling.policies.registry import policy_opener

    policy = policy_opener(arguments.policy)
    found = {}
    for log in find_logs(arguments.log, arguments.name):
        try:
            found[log.name] = explain(log.bodies, arguments.request, policy=policy)
        except RequestNotLogged:
            continue
    if not found:
        raise RequestNotLogged(request_id=arguments.request[:128])
    tell_lost_workers(found)
    documents = [{"log": name, **explanation.to_dict()} for name, explanation in found.items()]
    lines = [line for name, one in found.items() for line in (f"log {name}", *explanation_lines(one))]
    return Answer(document={"schema_version": 1, "explanations": documents}, text="\n".join(lines))
