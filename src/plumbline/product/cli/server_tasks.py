"""`plumb tasks ...`: durable work at a server."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import parse_assignment, parse_count
from plumbline.product.cli.exit_codes import ExitCode
from plumbline.product.cli.given_inputs import add_inputs, read_inputs
from plumbline.product.cli.server_command import ServerCommand, short
from plumbline.product.cli.server_infer import add_priority
from plumbline.product.cli.server_models import json_or_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plumbline.product.client import Client

__all__ = ["CANCEL", "LS", "SHOW", "SUBMIT", "WAIT"]

_COLUMNS = ["id", "name", "model", "status", "priority", "submitted_at", "device", "cached", "claims"]
_STATES = ("accepted", "queued", "running", "succeeded", "failed", "cancelled", "expired")
_STEPS = {"accepted": 0, "queued": 1, "running": 2}


def _submit_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="NAME or NAME@VERSION")
    add("--version", metavar="V", help="this version")
    add_inputs(parser)
    add("--id", metavar="ID", help="your own id: the same command again gives the same task")
    add("--output", action="append", default=[], metavar="NAME", help="only this output; may be repeated")
    add_priority(parser)
    add("--task-timeout", type=float, metavar="S", help="from acceptance to the end")
    add("--device", metavar="ID", help="the device; never replaced by another")
    add("--name", metavar="TEXT", help="what you call it")
    add("--no-cache", action="store_true", help="compute even when an identical call was just answered")
    add(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", type=parse_assignment,
        help="for the version; JSON or text",
    )  # fmt: skip
    add("--wait", action="store_true", help="wait for its end, as `plumb tasks wait` does")


def _submit(client: Client, arguments: Namespace) -> Answer:
    inputs: dict[str, Any] = {}
    datatypes: dict[str, str] = {}
    if arguments.input:
        inputs, datatypes = read_inputs(client, arguments.model, arguments.version, arguments.input)
    found = client.submit(
        arguments.model,
        inputs=inputs,
        text=arguments.text or None,
        task_id=arguments.id,
        datatypes=datatypes,
        version=arguments.version,
        outputs=arguments.output or None,
        priority=arguments.priority,
        timeout_s=arguments.task_timeout,
        device=arguments.device,
        name=arguments.name,
        cache=False if arguments.no_cache else None,
        parameters={name: json_or_text(value) for name, value in arguments.parameter} or None,
    )
    if arguments.wait:
        return _ended(_watched(client.watch_task(found["id"]), quiet=arguments.json))
    return Answer(document=found, text=str(found["id"]))


def _ls_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--state", choices=_STATES, help="only tasks in this state")
    parser.add_argument("--limit", type=parse_count, default=50, metavar="N", help="of a page (default 50)")
    parser.add_argument("--cursor", metavar="CURSOR", help="the page behind this one")


def _ls(client: Client, arguments: Namespace) -> Answer:
    document = client.tasks(state=arguments.state, limit=arguments.limit, cursor=arguments.cursor)
    text = _table(document["tasks"])
    if document["next"]:
        text += f"\nmore: --cursor {document['next']}"
    return Answer(document=document, text=text)


def _one_argument(parser: ArgumentParser) -> None:
    parser.add_argument("task", metavar="ID", help="id of the task")


def _show(client: Client, arguments: Namespace) -> Answer:
    return _described(client.task(arguments.task))


def _cancel(client: Client, arguments: Namespace) -> Answer:
    return _described(client.cancel(arguments.task))


def _wait_arguments(parser: ArgumentParser) -> None:
    _one_argument(parser)
    parser.add_argument("--at-most", type=float, metavar="S", help="give up waiting after S seconds")


def _wait(client: Client, arguments: Namespace) -> Answer:
    stream = client.watch_task(arguments.task, timeout_s=arguments.at_most)
    return _ended(_watched(stream, quiet=arguments.json))


def _watched(stream: Iterator[dict[str, Any]], *, quiet: bool) -> dict[str, Any]:
    """The last document of a stream; a bar shows the states on a terminal."""
    if quiet or not sys.stderr.isatty():
        return list(stream)[-1]
    from plumbline.product.cli.progress import counted_progress

    found: dict[str, Any] = {}
    with counted_progress("task") as show:
        for found in stream:
            show(_STEPS.get(found["status"], len(_STEPS)), len(_STEPS))
    return found


def _ended(document: dict[str, Any]) -> Answer:
    exit_code = ExitCode.OK if document["status"] == "succeeded" else ExitCode.CHECK_FAILED
    described = _described(document)
    return Answer(document=document, text=described.text, exit_code=exit_code)


def _described(document: dict[str, Any]) -> Answer:
    lines = [_table([document])]
    error, result = document.get("error"), document.get("result")
    if error:
        lines.append(f"error[{error.get('code')}]: {error.get('detail') or error.get('message')}")
    for output in (result or {}).get("outputs", []):
        lines.append(
            f"{output['name']} {output['datatype']} {short(output['shape'])}: {short(output['data'])}"
        )
    return Answer(document=document, text="\n".join(lines))


def _table(tasks: list[dict[str, Any]]) -> str:
    return table([[short(task.get(name)) for name in _COLUMNS] for task in tasks], _COLUMNS)


SUBMIT = ServerCommand(run=_submit, arguments=_submit_arguments)
LS = ServerCommand(run=_ls, arguments=_ls_arguments)
SHOW = ServerCommand(run=_show, arguments=_one_argument)
CANCEL = ServerCommand(run=_cancel, arguments=_one_argument)
WAIT = ServerCommand(run=_wait, arguments=_wait_arguments)
