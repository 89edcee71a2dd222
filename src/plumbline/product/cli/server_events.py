"""`plumb events`: follow what happens at a server, a line an event, with the cursor to resume behind."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import parse_count
from plumbline.product.cli.server_command import ServerCommand, short

if TYPE_CHECKING:
    from plumbline.product.client import Client

__all__ = ["EVENTS"]

_COUNT_OF_DOCUMENT = 100


def _arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--after", type=int, metavar="CURSOR", help="resume behind this event; 0 for all that are kept")
    add("--kind", action="append", default=[], metavar="KIND", help="only these, such as `task`")
    add("--subject", action="append", default=[], metavar="ID", help="only of these, such as a task")
    add("--count", type=parse_count, metavar="N", help=f"end after N (with --json: {_COUNT_OF_DOCUMENT})")
    add("--for", dest="seconds", type=float, metavar="S", help="end after S seconds")


def _events(client: Client, arguments: Namespace) -> Answer:
    """Print as they come; with `--json` collect up to a bound, and print one document."""
    count = arguments.count or (_COUNT_OF_DOCUMENT if arguments.json else None)
    stream = client.events(
        after=arguments.after, kinds=arguments.kind, subjects=arguments.subject, seconds=arguments.seconds
    )
    found: list[dict[str, Any]] = []
    cursor, number = arguments.after, 0
    try:
        for event in stream:
            number, cursor = number + 1, event["sequence"]
            if arguments.json or arguments.document_file:
                found.append(event)
            if not arguments.json:
                sys.stdout.write(_line(event) + "\n")
                sys.stdout.flush()
            if number == count:
                break
    except KeyboardInterrupt:
        sys.stderr.write(f"resume with --after {cursor}\n" if cursor is not None else "")
    return Answer(document={"cursor": cursor, "events": found}, text="")


def _line(event: dict[str, Any]) -> str:
    facts = " ".join(f"{name}={short(value)}" for name, value in event["fields"].items() if value != "")
    return f"{event['sequence']} {event['at']} {event['kind']} {event['subject']} {facts}".rstrip()


EVENTS = ServerCommand(run=_events, arguments=_arguments)
