"""`plumb devices`: what can compute here, or at a server, and why the rest cannot."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.server_command import add_server, open_client
from plumbline.product.cli.server_devices import devices_table

if TYPE_CHECKING:
    from plumbline.hardware.host.facts import HostFacts


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb devices`."""
    add_server(parser, default=None)
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """List devices, of this machine or of a server."""
    if arguments.server is not None:
        with open_client(arguments) as client:
            document = client.ask("GET", "/api/v1/devices")
        return Answer(document=document, text=devices_table(document["devices"]))
    from plumbline.hardware.discovery import find_devices
    from plumbline.product.capabilities import offered_operators

    report = find_devices(offered_operators)
    rows = [
        [d.kind.value, "present" if d.present else "absent", d.reason or _cpu_facts(report.host)]
        for d in report.devices
    ]
    return Answer(document=report.to_dict(), text=table(rows, ["device", "state", "facts or reason"]))


def _cpu_facts(host: HostFacts) -> str:
    processor, memory = host.processor, host.memory
    total = "unknown memory" if memory.total_bytes is None else f"{memory.total_bytes / 2**30:.1f} GiB"
    cores = "unknown" if processor.usable_cores is None else processor.usable_cores
    isa = processor.vector_isa or "no known vector unit"
    return f"{processor.model or 'unknown processor'}, {cores} usable cores, {isa}, {total}"
