"""`plumb devices show`, `drain`, `resume` and `retire`: devices of a server."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.server_command import ServerCommand, short

if TYPE_CHECKING:
    from plumbline.product.client import Client

__all__ = ["DRAIN", "RESUME", "RETIRE", "SHOW", "devices_table"]


def devices_table(devices: list[dict[str, Any]]) -> str:
    """Devices of a server as people read them."""
    rows = [
        [
            device["id"], device["type"], device["status"], short(device["name"]),
            short(device["memory"]["available_bytes"]), device["allocations"], device["reason"],
        ]
        for device in devices
    ]  # fmt: skip
    return table(rows, ["device", "type", "status", "name", "free bytes", "allocations", "reason"])


def _show_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("device", metavar="ID", help="id of the device")


def _drain_arguments(parser: ArgumentParser) -> None:
    _show_arguments(parser)
    parser.add_argument("--wait", type=float, default=30.0, metavar="S", help="for its work (default 30)")


def _show(client: Client, arguments: Namespace) -> Answer:
    return _one(client.ask("GET", _path(arguments.device)))


def _drain(client: Client, arguments: Namespace) -> Answer:
    path = f"{_path(arguments.device)}/drain"
    timeout_s = arguments.wait + arguments.answer_timeout
    return _one(client.ask("POST", path, query={"wait_s": arguments.wait}, timeout_s=timeout_s))


def _resume(client: Client, arguments: Namespace) -> Answer:
    return _one(client.ask("POST", f"{_path(arguments.device)}/resume"))


def _retire(client: Client, arguments: Namespace) -> Answer:
    return _one(client.ask("POST", f"{_path(arguments.device)}/retire"))


def _path(device: str) -> str:
    from plumbline.product.client.transport import place

    return place("api", "v1", "devices", device)


def _one(document: dict[str, Any]) -> Answer:
    return Answer(document=document, text=devices_table([document]))


SHOW = ServerCommand(run=_show, arguments=_show_arguments)
DRAIN = ServerCommand(run=_drain, arguments=_drain_arguments)
RESUME = ServerCommand(run=_resume, arguments=_show_arguments)
RETIRE = ServerCommand(run=_retire, arguments=_show_arguments)
